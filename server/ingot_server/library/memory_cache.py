"""An LRU cache of manifests in the memory of this process, without stale reads.

`_manifests` maps a media id to a manifest and its size, the least recently used first. `_tickets`
has an id while a caller reads it from Redis: an invalidation removes the ticket, so that what was
read before it is not stored after it. Libraries of caches do not have such tickets.
"""

from __future__ import annotations

from collections import OrderedDict

from ingot_server.library.manifest_pb2 import Manifest


class LruCache:
    """At most `entries` manifests of `size_bytes` in total. It stores only while `enabled`."""

    def __init__(self, entries: int, size_bytes: int) -> None:
        self._entries = entries
        self._size_limit = size_bytes
        self._size = 0
        self._manifests: OrderedDict[str, tuple[Manifest, int]] = OrderedDict()
        self._tickets: dict[str, object] = {}
        self.enabled = False

    def get(self, media_id: str) -> Manifest | None:
        """Return the manifest, which becomes the most recently used; None if it is missing."""
        found = self._manifests.get(media_id)
        if found is None:
            return None
        self._manifests.move_to_end(media_id)
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

    def put(self, manifest: Manifest, size_bytes: int, ticket: object) -> None:
        """Store a manifest, unless it was invalidated since `begin_read` returned `ticket`."""
        media_id = manifest.media.id
        if not self.end_read(media_id, ticket) or not self.enabled:
            return
        self._remove(media_id)
        self._manifests[media_id] = manifest, size_bytes
        self._size += size_bytes
        while len(self._manifests) > self._entries or self._size > self._size_limit:
            self._remove(next(iter(self._manifests)))

    def invalidate(self, media_id: str) -> None:
        """Remove a manifest, and invalidate the reads of it."""
        self._tickets.pop(media_id, None)
        self._remove(media_id)

    def clear(self) -> None:
        """Remove everything, and invalidate all reads."""
        self._tickets.clear()
        self._manifests.clear()
        self._size = 0

    def _remove(self, media_id: str) -> None:
        found = self._manifests.pop(media_id, None)
        if found is not None:
            self._size -= found[1]
