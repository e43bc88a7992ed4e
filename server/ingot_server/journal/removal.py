"""The removal of groups of the journal whose jobs have all ended, in the workers."""

from __future__ import annotations

import asyncio
from typing import Final

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.jobs.journal_index import JournalIndex
from ingot_server.library.blobs import Blobs
from ingot_server.library.journal_objects import JournalObjects
from ingot_server.outage import Outage

# S3 removes so many objects in one request.
_BATCH: Final = 1000
REMOVAL_SECONDS: Final = 1.0
_REMOVAL: Final = "removal"


async def keep_removing(index: JournalIndex, blobs: Blobs, redis_outage: Outage) -> None:
    """Remove what no job needs, in one worker at a time, every two seconds; until cancelled.

    Groups that could not be removed are due again after a while.
    """
    objects = JournalObjects(blobs)
    bucket_outage = Outage("The journal in the bucket")
    while True:
        await asyncio.sleep(REMOVAL_SECONDS)
        try:
            groups = await index.due(_BATCH)
            while groups:
                await objects.remove(groups)
                await index.removed(groups)
                is_full = len(groups) == _BATCH
                groups = await index.due(_BATCH, again=True) if is_full else []
        except Failure as failure:
            is_redis = failure.reason == reason_pb2.REASON_CACHE_UNAVAILABLE
            outage = redis_outage if is_redis else bucket_outage
            await asyncio.sleep(outage.failed(_REMOVAL, failure))
        else:
            redis_outage.succeeded(_REMOVAL)
            bucket_outage.succeeded(_REMOVAL)
