"""The compaction of the journal: jobs that have not ended move out of groups with jobs that have.

Otherwise one long job would keep the entries of all jobs that were accepted together with it, and
these would run again if Redis were lost, although they have ended, or were cancelled.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.jobs.journal_index import JournalIndex
from ingot_server.jobs.lifecycle import new_job_id
from ingot_server.journal.entries import entry_of, fitting
from ingot_server.library.blobs import Blobs
from ingot_server.library.journal_objects import JournalObjects
from ingot_server.outage import Outage

AGE: Final = timedelta(seconds=30)
_CHECK_SECONDS: Final = 10.0
_GROUPS: Final = 200
_COMPACTION: Final = "compaction"


async def keep_compacting(index: JournalIndex, blobs: Blobs, redis_outage: Outage) -> None:
    """Compact what has been partly ended for `AGE`, again and again; until cancelled."""
    bucket_outage = Outage("The journal in the bucket")
    while True:
        await asyncio.sleep(_CHECK_SECONDS)
        try:
            while await compact(index, blobs):
                pass
        except Failure as failure:
            is_redis = failure.reason == reason_pb2.REASON_CACHE_UNAVAILABLE
            outage = redis_outage if is_redis else bucket_outage
            await asyncio.sleep(outage.failed(_COMPACTION, failure))
        else:
            redis_outage.succeeded(_COMPACTION)
            bucket_outage.succeeded(_COMPACTION)


async def compact(index: JournalIndex, blobs: Blobs, *, age: timedelta = AGE) -> bool:
    """Move the other jobs of groups of which a job ended `age` ago; return whether there were any.

    Their groups are due for removal then.
    """
    objects = JournalObjects(blobs)
    job_ids = await index.partial(_GROUPS, age)
    found = [await index.accepted(job_id) for job_id in job_ids]
    entries = [entry_of(accepted) for accepted in found if accepted is not None]
    while entries:
        group, written = new_job_id(), fitting(entries)
        await objects.write(group, written)
        await index.move(group, [entry.job.id for entry in written])
        entries = entries[len(written) :]
    return bool(job_ids)
