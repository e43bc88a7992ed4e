"""The bytes of the media items that a caller owns.

The index of media items counts them (`ingot:index:owner-bytes` in library/media_index.py). Only
callers with names own media items. A job that runs when the limit is reached goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, cast

from ingot_server.errors import Failure, quota_exceeded
from ingot_server.redis import Redis, unavailable

NAME: Final = "stored_bytes"
_KEY: Final = "index:owner-bytes"


class StoredBytes:
    """The counts of all callers. Every coroutine raises Failure CACHE_UNAVAILABLE."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def used(self, owner: str) -> int:
        """Return how many bytes are stored of an owner."""
        with unavailable():
            counted = self._redis.hget(self._redis.key(_KEY), owner)
            return int(await cast("Awaitable[bytes | None]", counted) or 0)

    async def require(self, owner: str, limit: int) -> None:
        """Raise Failure QUOTA_EXCEEDED if an owner has reached its limit; 0 is none."""
        if limit and await self.used(owner) >= limit:
            raise stored_bytes_used_up(limit)


def stored_bytes_used_up(limit: int) -> Failure:
    """Return the failure of a caller that owns `limit` bytes of media."""
    return quota_exceeded(
        NAME,
        limit,
        f"Your media items have {limit} bytes or more, which is the limit. Delete some of them, or "
        "ask the operator for more. What is stored already can be used meanwhile.",
    )
