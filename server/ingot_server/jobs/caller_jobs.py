"""How many jobs a caller has. `callers.lua` and `running_jobs.lua` count them, with their keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ingot_server.jobs.placement import caller_key
from ingot_server.redis import Redis, unavailable

_KEYS: Final = {
    "jobs": "caller-jobs",
    "queued_jobs": "caller-queued",
    "running_jobs": "running-jobs",
}


async def count_jobs(redis: Redis, caller: str) -> Mapping[str, int]:
    """Return how many jobs count for a caller, by the names of its limits of jobs.

    Raises Failure CACHE_UNAVAILABLE.
    """
    with unavailable():
        async with redis.pipeline(transaction=False) as pipeline:
            for key in _KEYS.values():
                pipeline.hget(redis.key(key), caller_key(caller))
            counts = await pipeline.execute()
    return {name: int(count or 0) for name, count in zip(_KEYS, counts, strict=True)}
