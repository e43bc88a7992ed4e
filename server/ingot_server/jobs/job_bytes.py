"""The bytes that the caller of a running job may still receive and store.

The limits are in the job's record, and those of a list count for its entries (`callers.lua`).
"""

from __future__ import annotations

from ingot_server.jobs.daily_bytes import daily_bytes_used_up, next_day
from ingot_server.jobs.stored_bytes import NAME as STORED_BYTES
from ingot_server.jobs.stored_bytes import stored_bytes_used_up
from ingot_server.redis import Redis


class JobBytes:
    """What a worker asks and counts. Every coroutine raises Failure CACHE_UNAVAILABLE."""

    def __init__(self, redis: Redis) -> None:
        self._script = redis.load_script(
            __package__, "arguments.lua", "callers.lua", "job_bytes.lua"
        )

    async def require(self, job_id: str, *, receives: bool) -> None:
        """Raise Failure QUOTA_EXCEEDED if the caller of a job has reached a limit.

        The metadata `quota` says which: `stored_bytes` or, if the job `receives` something from a
        source, `daily_bytes`. The failure of `stored_bytes` is final: it is not known when there
        will be room again.
        """
        reached: list[bytes] = await self._script.call(
            "used_up", job_id, **({"receives": 1} if receives else {})
        )
        if reached:
            name, limit = reached[0].decode(), int(reached[1])
            if name == STORED_BYTES:
                raise stored_bytes_used_up(limit).as_final()
            raise daily_bytes_used_up(limit)

    async def count(self, job_id: str, size_bytes: int) -> None:
        """Count bytes that a job has received, if its caller has a limit for a day."""
        expires_at = int(next_day().timestamp())
        await self._script.call("count", job_id, bytes=size_bytes, expires_at=expires_at)
