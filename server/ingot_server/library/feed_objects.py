"""Podcast feeds in the bucket, which is their only truth.

    feeds/<id>    a StoredFeed (manifest.proto)

The id is a hash of the token in the feed's address. So the address finds the object, and nothing in
the bucket tells the address. An object is written once and never changed.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.library.blobs import Blobs
from ingot_server.library.manifest_pb2 import StoredFeed
from ingot_server.library.stored_messages import CONTENT_TYPE, StoredMessages
from ingot_server.log_events import Event

FOLDER: Final = "feeds/"
_SCHEMA_VERSION: Final = 1
_TOKEN_BYTES: Final = 32
_ID_DIGITS: Final = 32
_AT_ONCE: Final = 16


def new_token() -> str:
    """Return the token of a new feed: 256 random bits, in characters that a URL may have."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def feed_id(token: str) -> str:
    """Return the id of the feed with this token. The hash needs no salt: a token is random."""
    return hashlib.sha256(token.encode()).hexdigest()[:_ID_DIGITS]


class FeedObjects:
    """The objects. Every coroutine raises Failure STORAGE_UNAVAILABLE."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._messages = StoredMessages(
            StoredFeed, _SCHEMA_VERSION, Event.FEED_UNREADABLE, "it is not served"
        )

    async def write(self, stored: StoredFeed) -> None:
        """Write a new feed. After a Failure it may be written all the same."""
        stored.schema_version = _SCHEMA_VERSION
        await self._blobs.put(
            FOLDER + stored.feed.id,
            stored.SerializeToString(),
            content_type=CONTENT_TYPE,
            if_none_match=True,
        )

    async def read(self, feed_id: str) -> StoredFeed | None:
        """Return a feed; None if there is none, or its object cannot be read.

        Raises Failure WRITTEN_BY_NEWER_VERSION.
        """
        found = await self._blobs.get(FOLDER + feed_id)
        return self._messages.parse(FOLDER + feed_id, found[0]) if found is not None else None

    async def read_all(self) -> Sequence[StoredFeed]:
        """Return all feeds, the latest first."""
        listed = await self._blobs.list_objects(FOLDER)
        ids = [each.key.removeprefix(FOLDER) for each in listed]
        found: list[StoredFeed] = []
        for begin in range(0, len(ids), _AT_ONCE):
            chunk = await gather_or_cancel(
                self.read(each) for each in ids[begin : begin + _AT_ONCE]
            )
            found += filter(None, chunk)
        return sorted(
            found,
            key=lambda each: (each.feed.create_time.ToNanoseconds(), each.feed.id),
            reverse=True,
        )

    async def remove(self, feed_id: str) -> None:
        """Remove a feed, if it exists."""
        await self._blobs.remove(FOLDER + feed_id)
