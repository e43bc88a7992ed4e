"""`ingot-server rebuild`: builds what Redis keeps of the bucket again."""

from __future__ import annotations

import contextlib

from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.media_list import MediaList
from ingot_server.redis import connect


async def rebuild(settings: Settings) -> int | None:
    """Build the index of media items; return their number, None if another process builds it.

    Raises Failure if Redis or S3 cannot be used.
    """
    async with contextlib.AsyncExitStack() as stack:
        redis = connect(settings)
        stack.push_async_callback(redis.aclose)
        blobs = Blobs(settings)
        stack.push_async_callback(blobs.close)
        await blobs.prepare()
        media_list = MediaList(Catalog(blobs, redis, settings), blobs, redis)
        return await media_list.rebuild_index(from_manifests=True)
