"""The deletion of media items: a tombstone in place of the manifest, and then no files."""

from __future__ import annotations

import contextlib
from typing import Final

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.library.blobs import Blobs
from ingot_server.library.cache import Cache
from ingot_server.library.identity import is_media_id
from ingot_server.library.manifest import files_of
from ingot_server.library.manifest_objects import FOLDER, ManifestObjects
from ingot_server.library.media_index import MediaIndex
from ingot_server.log_events import Event
from ingot_server.redis import unavailable

logger = EventLogger(__name__)

_ATTEMPTS: Final = 5


class Deletions:
    """Deletes media items. The coroutines raise Failure STORAGE_UNAVAILABLE, CACHE_UNAVAILABLE."""

    def __init__(
        self, blobs: Blobs, objects: ManifestObjects, cache: Cache, index: MediaIndex
    ) -> None:
        self._blobs = blobs
        self._objects = objects
        self._cache = cache
        self._index = index

    async def delete(self, media_id: str, *, etag: str = "") -> bool:
        """Delete a media item with the files that its manifest names; False if there is none.

        Files of an attempt that is still running stay, because it may commit. Raises Failure
        ETAG_MISMATCH if the version is not `etag`.
        """
        if not is_media_id(media_id):
            return False
        for _ in range(_ATTEMPTS):
            version = await self._objects.read(media_id)
            if version.manifest is None:
                return False
            if etag and etag != version.etag:
                raise Failure(
                    reason_pb2.REASON_ETAG_MISMATCH,
                    f"The media item has the etag {version.etag!r}, not {etag!r}. Get it again.",
                )
            await self._cache.mark(media_id)
            buried = await self._objects.bury(media_id, version.etag)
            await self._cache.mark(media_id)
            if buried:
                break
            # It was replaced just then.
        else:
            raise Failure(
                reason_pb2.REASON_STORAGE_UNAVAILABLE,
                f"The media item {media_id} is replaced again and again. Delete it later.",
            )
        with contextlib.suppress(Failure), unavailable():
            await self._index.remove(media_id)  # A list would drop it, too.
        await self._remove_files(version.manifest.media)
        return True

    async def delete_version(self, media_id: str, etag: str) -> bool:
        """Delete one version of a media item; False if it is not stored any more."""
        try:
            return await self.delete(media_id, etag=etag)
        except Failure as failure:
            if failure.reason != reason_pb2.REASON_ETAG_MISMATCH:
                raise
            return False

    async def _remove_files(self, media: Media) -> None:
        """Remove the files of a deleted media item, but not those that belong to other owners."""
        folder = self._blobs.url(f"{FOLDER}{media.id}/")
        try:
            for name in files_of(media):
                if name.startswith(folder):
                    await self._blobs.remove(self._blobs.key(name))
        except Failure as failure:
            logger.warning(
                Event.OBJECTS_LEFT,
                "files of the deleted media item %s were left: %s",
                media.id,
                failure,
                media_id=media.id,
            )
