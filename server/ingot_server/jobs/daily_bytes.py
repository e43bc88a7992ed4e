"""The bytes that the jobs and uploads of a caller receive in one day of UTC.

A job is counted when a connection to its source has ended, an upload when a call has; so what runs
when the limit is reached goes on. `callers.lua` documents the keys.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from ingot_server.errors import Failure, quota_exceeded
from ingot_server.jobs.placement import caller_key
from ingot_server.redis import Redis, unavailable

NAME: Final = "daily_bytes"
_KEY: Final = "daily-bytes:"


class DailyBytes:
    """The counts of all callers. Every coroutine raises Failure CACHE_UNAVAILABLE."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def used(self, caller: str) -> int:
        """Return how many bytes count for a caller today."""
        with unavailable():
            used = await cast("Awaitable[bytes | None]", self._redis.get(self._key(caller)))
        return int(used or 0)

    async def require(self, caller: str, limit: int) -> None:
        """Raise Failure QUOTA_EXCEEDED if a caller has reached its limit; 0 is none."""
        if limit and await self.used(caller) >= limit:
            raise daily_bytes_used_up(limit)

    async def count(self, caller: str, size_bytes: int) -> None:
        """Count bytes that a caller has sent."""
        key = self._key(caller)
        with unavailable():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.incrby(key, size_bytes)
                pipeline.expireat(key, next_day())
                await pipeline.execute()

    def _key(self, caller: str) -> str:
        return self._redis.key(_KEY + caller_key(caller))


def next_day() -> datetime:
    """Return when today ends: the next midnight of UTC."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def daily_bytes_used_up(limit: int) -> Failure:
    """Return the failure of a caller that has received `limit` bytes today."""
    end = next_day()
    return quota_exceeded(
        NAME,
        limit,
        f"Your jobs and uploads have received {limit} bytes today, which is the limit. Go on after "
        f"{end:%Y-%m-%d %H:%M} UTC. What is stored already can be used meanwhile.",
        retry_after=end - datetime.now(UTC),
    )
