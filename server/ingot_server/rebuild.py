"""`ingot-server rebuild`: fills Redis from the bucket."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TextIO

from ingot_server.config import Settings
from ingot_server.jobs.records import Records
from ingot_server.journal.restorer import Restorer
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.media_list import MediaList
from ingot_server.progress_line import ProgressLine
from ingot_server.redis import connect
from ingot_server.redis_checks import require_usable


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild has done."""

    jobs: int
    """How many jobs of the journal were made again."""
    media_items: int | None
    """How many the index has; None if another process builds it."""


async def rebuild(settings: Settings, output: TextIO) -> Rebuilt:
    """Make lost jobs again and build the index of media items, with the progress on `output`.

    Raises Failure if Redis or S3 cannot be used.
    """
    async with contextlib.AsyncExitStack() as stack:
        redis = connect(settings)
        stack.push_async_callback(redis.aclose)
        await require_usable(redis)
        blobs = Blobs(settings)
        stack.push_async_callback(blobs.close)
        await blobs.prepare()
        restorer = Restorer(Records(redis, settings).journal, blobs)
        groups = ProgressLine(output, "groups of the journal")
        jobs = await restorer.restore(groups.show)
        groups.end()
        media_list = MediaList(Catalog(blobs, redis, settings), blobs, redis)
        items = ProgressLine(output, "media items")
        media_items = await media_list.rebuild_index(from_manifests=True, progress=items.show)
        items.end()
        return Rebuilt(jobs, media_items)
