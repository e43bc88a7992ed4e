"""Whether the blob of a media item is still in the bucket, whole.

A manifest is written after its blob, and a blob is removed after its manifest. But a bucket can
lose an object, or an operator removes one. What is about to be reused is therefore looked at, but
not at every request: a blob that was there counts as there for RECHECK_SECONDS.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from ingot.v1.media_pb2 import Media
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.library.blobs import Blobs
from ingot_server.log_events import Event

logger = EventLogger(__name__)

RECHECK_SECONDS: Final = 60.0
_ENTRIES: Final = 10_000


class BlobChecks:
    """Looks at the blobs of media items in the installation's bucket.

    Objects of other buckets, and those that were adopted, belong to other owners: their source says
    whether they are there.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        # Blob.url -> until when it counts as there; the oldest first
        self._there: OrderedDict[str, float] = OrderedDict()

    async def is_there(self, media: Media) -> bool:
        """Return whether the blob is there, with the size that the manifest has.

        Raises Failure STORAGE_UNAVAILABLE.
        """
        if not media.blob.url.startswith(self._blobs.url(f"media/{media.id}/")):
            return True
        found = await self._blobs.stat(self._blobs.key(media.blob.url))
        return found is not None and found.size_bytes == media.blob.size_bytes

    async def was_there(self, media: Media) -> bool:
        """Return whether the blob is there, or was within the last RECHECK_SECONDS.

        Without an answer from the bucket it counts as there, as everything else in the cache does.
        """
        url, now = media.blob.url, asyncio.get_running_loop().time()
        if self._there.get(url, 0.0) > now:
            return True
        try:
            if not await self.is_there(media):
                return False
        except Failure as failure:
            logger.warning(
                Event.BLOB_NOT_CHECKED,
                "the blob of %s was not looked at: %s",
                media.id,
                failure.message,
                media_id=media.id,
                reason=failure.reason,
            )
            return True
        self._there[url] = now + RECHECK_SECONDS
        self._there.move_to_end(url)
        while len(self._there) > _ENTRIES:
            self._there.popitem(last=False)
        return True
