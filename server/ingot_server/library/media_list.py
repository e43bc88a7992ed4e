"""Lists of media items, from the index in Redis, and the building of that index from the bucket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ingot.v1.media_pb2 import Media
from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.identity import FIRST_CHARACTERS, is_media_id
from ingot_server.library.index_parts import read_part, write_part
from ingot_server.library.manifest_objects import FOLDER, manifest_key
from ingot_server.library.manifest_pb2 import IndexEntry
from ingot_server.library.media_index import MediaFilter, MediaIndex, entry_of
from ingot_server.log_events import Event
from ingot_server.outage import Outage
from ingot_server.redis import Redis, unavailable

logger = EventLogger(__name__)

_BUILDING: Final = "building"
_CHECK_SECONDS: Final = 5.0
_CHECK_INTERVAL: Final = timedelta(hours=1)
_BATCH: Final = 1000

Progress = Callable[[int, int], None]
"""Hears how many media items are indexed, and how many there are."""


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
        self._losses = redis.losses
        self._index = MediaIndex(redis)

    async def page(self, wanted: MediaFilter, *, limit: int, cursor: str = "") -> Page:
        """Return at most `limit` media items that match, newest first.

        A page may have fewer and still not be the last. Entries of the index that the bucket does
        not have are removed.
        """
        with unavailable():
            is_built = await self._index.is_built()
            found = await self._index.find(wanted, limit=limit, cursor=cursor)
            manifests = await self._catalog.load_many(found.media_ids, cache=True)
            media = [manifest.media for manifest in manifests]
            for gone in set(found.media_ids) - {each.id for each in media}:
                await self._index.remove(gone)
        return Page(media, found.cursor, is_built)

    async def keep_index_built(self) -> None:
        """Build the index whenever Redis does not have it, and check it each hour; until cancelled.

        A check lists what missed the index, and renews the copy in the bucket.
        """
        outage, wakeup = Outage("The index of media items"), self._losses.wakeup()
        while True:
            try:
                with unavailable():
                    is_lost = not await self._index.is_built()
                    if is_lost or await self._index.begin_check(_CHECK_INTERVAL):
                        await self.rebuild_index()
            except Failure as failure:
                await asyncio.sleep(outage.failed(_BUILDING, failure))
            else:
                outage.succeeded(_BUILDING)
                await wakeup.wait(_CHECK_SECONDS)

    async def rebuild_index(
        self, *, from_manifests: bool = False, progress: Progress | None = None
    ) -> int | None:
        """Build the index from the bucket; return how many media items it has.

        Reads only those manifests of which the bucket has no current entry (index_parts.py);
        `from_manifests` reads all. Returns None, at once, if another process builds it now. To tell
        `progress` how many there are, the bucket is listed once more.
        """
        with unavailable():
            async with self._index.building() as is_ours:
                if not is_ours:
                    return None
                indexed: set[str] = set()
                total = await self._count() if progress is not None else 0
                for part in FIRST_CHARACTERS:
                    copied = {} if from_manifests else await read_part(self._blobs, part)
                    indexed.update(await self._rebuild_part(part, copied))
                    if progress is not None:
                        progress(min(len(indexed), total), total)
                await self._remove_gone(indexed)
        logger.info(Event.INDEX_COMPLETE, "the index has %d media items", len(indexed))
        return len(indexed)

    async def _rebuild_part(self, part: str, copied: Mapping[str, IndexEntry]) -> Collection[str]:
        """List the media items whose ids begin with `part`; return their ids."""
        stored = await self._etags(part)
        current = {
            media_id: entry
            for media_id, entry in copied.items()
            if entry.etag == stored.get(media_id)
        }
        await self._index.add_missing(list(current.values()))
        others = [media_id for media_id in stored if media_id not in current]
        for begin in range(0, len(others), _BATCH):
            manifests = await self._catalog.load_many(others[begin : begin + _BATCH])
            await gather_or_cancel(self._index.add(manifest.media) for manifest in manifests)
            current.update({each.media.id: entry_of(each.media) for each in manifests})
        if current != copied:
            await write_part(self._blobs, part, current.values())
        return current.keys()

    async def _count(self) -> int:
        return sum([len(await self._etags(part)) for part in FIRST_CHARACTERS])

    async def _etags(self, part: str) -> Mapping[str, str]:
        """Return the ETags of the manifests of media items whose ids begin with `part`."""
        keys = {each.key: each.etag for each in await self._blobs.list_objects(FOLDER + part)}
        ids = {key.removeprefix(FOLDER).partition("/")[0] for key in keys}
        return {
            media_id: keys[manifest_key(media_id)]
            for media_id in sorted(filter(is_media_id, ids))
            if manifest_key(media_id) in keys
        }

    async def _remove_gone(self, indexed: Collection[str]) -> None:
        """Remove the entries of media items that were neither indexed nor stored since."""
        async for media_id in self._index.listed():
            if media_id not in indexed and not await self._catalog.load_many([media_id]):
                await self._index.remove(media_id)
