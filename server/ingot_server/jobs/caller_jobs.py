"""How many jobs of a caller have not ended. `callers.lua` counts them and documents the keys."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, cast

from ingot_server.jobs.placement import caller_key
from ingot_server.redis import Redis, unavailable

_JOBS: Final = "caller-jobs"


async def count_jobs(redis: Redis, caller: str) -> int:
    """Return how many jobs count for a caller. Raises Failure CACHE_UNAVAILABLE."""
    with unavailable():
        counted = redis.hget(redis.key(_JOBS), caller_key(caller))
        return int(await cast("Awaitable[bytes | None]", counted) or 0)
