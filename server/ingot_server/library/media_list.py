"""Lists of media items, from the index in Redis, and the building of that index from the bucket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from ingot.v1.media_pb2 import Media
from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import FOLDER, Catalog, manifest_key
from ingot_server.library.identity import is_media_id
from ingot_server.library.media_index import MediaFilter, MediaIndex
from ingot_server.redis import unavailable

logger = logging.getLogger(__name__)

_CHECK_SECONDS: Final = 1.0
_BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list of media items."""

    media: Sequence[Media]
    cursor: str
    """Where the list goes on; empty at its end."""
    is_complete: bool
    """Whether the index had all media items."""


class MediaList:
    """Lists what the catalog has. Its coroutines raise Failure STORAGE_UNAVAILABLE.

    They raise CACHE_UNAVAILABLE if Redis, which has the index, cannot be used.
    """

    def __init__(self, catalog: Catalog, blobs: Blobs, redis: Redis) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._index = MediaIndex(redis)

    async def page(self, wanted: MediaFilter, *, limit: int, cursor: str = "") -> Page:
        """Return at most `limit` media items that match, newest first.

        A page may have fewer and still not be the last. Entries of the index that the bucket does
        not have are removed.
        """
        with unavailable():
            is_built = await self._index.is_built()
            found = await self._index.find(wanted, limit=limit, cursor=cursor)
            manifests = await self._catalog.load_many(found.media_ids)
            media = [manifest.media for manifest in manifests]
            for gone in set(found.media_ids) - {each.id for each in media}:
                await self._index.remove(gone)
        return Page(media, found.cursor, is_built)

    async def keep_index_built(self) -> None:
        """Build the index whenever Redis does not have it, until cancelled."""
        while True:
            try:
                with unavailable():
                    if not await self._index.is_built():
                        await self.rebuild_index()
            except Failure as failure:
                logger.warning("the index of media items is not built yet: %s", failure.message)
            await asyncio.sleep(_CHECK_SECONDS)

    async def rebuild_index(self) -> int | None:
        """Build the index from the bucket; return how many media items it has.

        Returns None, at once, if another process builds it now.
        """
        with unavailable():
            async with self._index.building() as is_ours:
                if not is_ours:
                    return None
                indexed: set[str] = set()
                async for media in self._everything():
                    await gather_or_cancel(map(self._index.add, media))
                    indexed.update(each.id for each in media)
                await self._remove_gone(indexed)
        logger.info("the index has %d media items", len(indexed))
        return len(indexed)

    async def _everything(self) -> AsyncIterator[Sequence[Media]]:
        """Yield all media items in the bucket, many at a time."""
        after = ""
        while True:
            names = await self._blobs.list_folders(FOLDER, after=after, limit=_BATCH)
            manifests = await self._catalog.load_many(list(filter(is_media_id, names)))
            yield [manifest.media for manifest in manifests]
            if len(names) < _BATCH:
                return
            after = names[-1]

    async def _remove_gone(self, indexed: set[str]) -> None:
        """Remove the entries of media items that were neither indexed nor stored since."""
        async for media_id in self._index.listed():
            is_unknown = media_id not in indexed
            if is_unknown and await self._blobs.stat(manifest_key(media_id)) is None:
                await self._index.remove(media_id)
