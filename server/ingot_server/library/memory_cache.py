"""Media held in this process: a bounded LRU that never keeps what was changed meanwhile.

`_media` maps an id to a media and its size, the longest unused first. `_tickets` has an id for as
long as somebody reads it: an invalidation takes the ticket away, so that what was read before it is
not stored after it.
"""

from __future__ import annotations

from collections import OrderedDict

from ingot.v1.media_pb2 import Media


class LruCache:
    """At most `entries` media of `size_bytes` in all. Filled only while `open`."""

    def __init__(self, entries: int, size_bytes: int) -> None:
        self._entries = entries
        self._size_limit = size_bytes
        self._size = 0
        self._media: OrderedDict[str, tuple[Media, int]] = OrderedDict()
        self._tickets: dict[str, object] = {}
        self.open = False

    def get(self, media_id: str) -> Media | None:
        found = self._media.get(media_id)
        if found is None:
            return None
        self._media.move_to_end(media_id)
        return found[0]

    def ticket(self, media_id: str) -> object:
        """Taken before reading what `store` is to keep; given to `store` or `give_back`."""
        ticket = self._tickets[media_id] = object()
        return ticket

    def give_back(self, media_id: str, ticket: object) -> bool:
        """Ends a read. Whether what was read still holds."""
        if self._tickets.get(media_id) is not ticket:
            return False
        del self._tickets[media_id]
        return True

    def store(self, media: Media, size_bytes: int, ticket: object) -> None:
        if not self.give_back(media.id, ticket) or not self.open:
            return
        self._remove(media.id)
        self._media[media.id] = media, size_bytes
        self._size += size_bytes
        while len(self._media) > self._entries or self._size > self._size_limit:
            self._remove(next(iter(self._media)))

    def drop(self, media_id: str) -> None:
        """Forgets a media, and what is being read of it."""
        self._tickets.pop(media_id, None)
        self._remove(media_id)

    def clear(self) -> None:
        """Forgets everything, and what is being read."""
        self._tickets.clear()
        self._media.clear()
        self._size = 0

    def _remove(self, media_id: str) -> None:
        found = self._media.pop(media_id, None)
        if found is not None:
            self._size -= found[1]
