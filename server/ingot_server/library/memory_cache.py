"""An LRU cache of media items in the memory of this process, without stale reads.

`_media` maps an id to a media item and its size, the least recently used first. `_tickets` has an
id while a caller reads it from Redis: an invalidation removes the ticket, so that what was read
before it is not stored after it. Libraries of caches do not have such tickets.
"""

from __future__ import annotations

from collections import OrderedDict

from ingot.v1.media_pb2 import Media


class LruCache:
    """At most `entries` media items of `size_bytes` in total. It stores only while `enabled`."""

    def __init__(self, entries: int, size_bytes: int) -> None:
        self._entries = entries
        self._size_limit = size_bytes
        self._size = 0
        self._media: OrderedDict[str, tuple[Media, int]] = OrderedDict()
        self._tickets: dict[str, object] = {}
        self.enabled = False

    def get(self, media_id: str) -> Media | None:
        """Return the media item, which becomes the most recently used; None if it is missing."""
        found = self._media.get(media_id)
        if found is None:
            return None
        self._media.move_to_end(media_id)
        return found[0]

    def begin_read(self, media_id: str) -> object:
        """Return a ticket for a read whose result `put` may store; end it with `end_read`."""
        ticket = self._tickets[media_id] = object()
        return ticket

    def end_read(self, media_id: str, ticket: object) -> bool:
        """End a read; return whether its result is still valid."""
        if self._tickets.get(media_id) is not ticket:
            return False
        del self._tickets[media_id]
        return True

    def put(self, media: Media, size_bytes: int, ticket: object) -> None:
        """Store a media item, unless it was invalidated since `begin_read` returned `ticket`."""
        if not self.end_read(media.id, ticket) or not self.enabled:
            return
        self._remove(media.id)
        self._media[media.id] = media, size_bytes
        self._size += size_bytes
        while len(self._media) > self._entries or self._size > self._size_limit:
            self._remove(next(iter(self._media)))

    def invalidate(self, media_id: str) -> None:
        """Remove a media item, and invalidate the reads of it."""
        self._tickets.pop(media_id, None)
        self._remove(media_id)

    def clear(self) -> None:
        """Remove everything, and invalidate all reads."""
        self._tickets.clear()
        self._media.clear()
        self._size = 0

    def _remove(self, media_id: str) -> None:
        found = self._media.pop(media_id, None)
        if found is not None:
            self._size -= found[1]
