"""What a server in this process keeps: memory, and the keys of Redis that do not expire."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ingot_server.redis import Redis

_PREFIX: Final = "ingot:"
# There is one for the whole installation, or one for each host, caller and priority of a live job.
# How many bytes they have is counted.
_SHARED: Final = frozenset(
    "caller-jobs caller-queued changes expiring history index jobs journal-due journal-ended "
    "journal-partial ready running-jobs running-limits schema-version state subscriptions-restored "
    "turns".split()
)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept at one moment."""

    blocks: int
    """Pieces of memory that Python has allocated: at least one for each object."""
    resident_bytes: int
    """Memory of this process, also that of libraries in C."""
    redis_bytes: int
    """Of keys that do not expire."""


async def kept(redis: Redis) -> Kept:
    """Measure now."""
    sizes = [await redis.memory_usage(key, samples=0) or 0 for key in await _lasting(redis)]
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Kept(sys.getallocatedblocks(), pages * os.sysconf("SC_PAGE_SIZE"), sum(sizes))


async def stray_keys(redis: Redis) -> list[str]:
    """Return the keys that neither expire nor belong to a job or a group that is still there."""
    return [key for key in await _lasting(redis) if not await _is_needed(redis, key)]


async def _lasting(redis: Redis) -> list[str]:
    keys = [str(key, "utf-8") async for key in redis.scan_iter(count=1000)]
    return sorted([key for key in keys if await redis.pttl(key) == -1])


async def _is_needed(redis: Redis, key: str) -> bool:
    kind, _, name = key.removeprefix(_PREFIX).partition(":")
    if kind in _SHARED:
        return True
    if kind in {"job", "trail", "askers"}:
        return await _is_live(redis, name)
    if kind == "active":
        job_id: Any = await redis.get(key)
        return job_id is not None and await _is_live(redis, job_id.decode())
    if kind == "journal":  # as a worker would write the ends of its jobs
        members: set[Any] = await redis.smembers(key)
        return all([await redis.exists(f"{_PREFIX}job:{each.decode()}") for each in members])
    if kind == "journal-covers":  # a worker would remove both
        return await redis.zscore(f"{_PREFIX}journal-due", name) is not None
    return False


async def _is_live(redis: Redis, job_id: str) -> bool:
    return await redis.hget(f"{_PREFIX}job:{job_id}", "ended") == b"0"
