"""The signed links for parts of uploads that a caller has and that still work.

    ingot:open-links:<caller>     sorted set of <upload id>/<offset>-<size>, by expiry in ms

Each link lets its holder store up to 64 MiB that count for nothing until their upload is complete.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.redis import Redis, unavailable

_LINKS: Final = "open-links:"


class OpenLinks:
    """A bound on the open links of one caller. Every method raises Failure CACHE_UNAVAILABLE."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(
        self,
        caller: str,
        upload_id: str,
        offset: int,
        size_bytes: int,
        *,
        lifetime: timedelta,
        most: int,
    ) -> None:
        """Count a link, once for a part; 0 for `most` means no limit.

        Raises Failure TOO_MANY_UPLOAD_LINKS if the caller has as many open links as that.
        """
        key, link = self._redis.key(_LINKS + caller), f"{upload_id}/{offset}-{size_bytes}"
        now = time.time_ns() // 1_000_000
        expiry = now + round(lifetime.total_seconds() * 1000)
        with unavailable():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.zremrangebyscore(key, "-inf", now)
                pipeline.zadd(key, {link: expiry}, gt=True)
                pipeline.zcard(key)
                pipeline.pexpireat(key, expiry, nx=True)
                pipeline.pexpireat(key, expiry, gt=True)
                _, added, count, *_ = await pipeline.execute()
            if not added or not most or count <= most:
                return
            await self._redis.zrem(key, link)
            earliest = cast(
                "list[tuple[bytes, float]]", await self._redis.zrange(key, 0, 0, withscores=True)
            )
        wait = timedelta(milliseconds=earliest[0][1] - now) if earliest else lifetime
        raise Failure(
            reason_pb2.REASON_TOO_MANY_UPLOAD_LINKS,
            f"This caller has {most} open upload links, as many as "
            "INGOT_UPLOAD_LINKS_PER_CALLER or the quota of its token allows. Complete uploads, "
            "which closes their links, or ask for links with a shorter lifetime.",
            retry_after=wait,
        )

    async def open(self, caller: str) -> tuple[int, datetime | None]:
        """Return how many links of a caller are open, and when the first expires, if there are."""
        key, now = self._redis.key(_LINKS + caller), time.time_ns() // 1_000_000
        with unavailable():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.zcount(key, f"({now}", "+inf")
                pipeline.zrangebyscore(key, f"({now}", "+inf", start=0, num=1, withscores=True)
                count, first = await pipeline.execute()
        return count, datetime.fromtimestamp(first[0][1] / 1000, UTC) if first else None

    async def close(self, caller: str, upload_id: str) -> None:
        """Count the links of an upload no more: it is complete."""
        key, prefix = self._redis.key(_LINKS + caller), f"{upload_id}/".encode()
        with unavailable():
            links = cast("list[bytes]", await self._redis.zrange(key, 0, -1))
            if closed := [link for link in links if link.startswith(prefix)]:
                await self._redis.zrem(key, *closed)
