"""The schema version of what is in Redis, so that no process works on data that it misreads.

    ingot:schema-version    string  a number; without it, there is nothing, or what a build of Ingot
                                    0.1.0 has left

Each process runs its own Lua scripts, on data that all share. So releases whose scripts would harm
each other's data have different versions (docs/upgrading.md says which changes need one). A
process looks when it starts, API servers look every second, and the scripts do so whenever a job is
made or a worker announces itself.
"""

from __future__ import annotations

from typing import Final, cast

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.findings import Finding, ok, problem, require
from ingot_server.redis import Redis, unavailable

SCHEMA_VERSION: Final = 2
"""The one that this process reads and writes."""
SCHEMA_VERSION_KEY: Final = "schema-version"
# Builds before the first one that counted changes of jobs (history.lua) have jobs of this version.
_EARLY: Final = 1


async def check_schema(redis: Redis) -> Finding:
    """Return whether this process can work on what is in Redis."""
    return _finding(redis, await _stored_version(redis))


async def require_schema(redis: Redis) -> None:
    """Raise Failure CACHE_UNAVAILABLE for a schema version that this process cannot work on."""
    require((await check_schema(redis),), reason_pb2.REASON_CACHE_UNAVAILABLE)


async def claim_schema(redis: Redis) -> None:
    """Give Redis the schema version of this process, or do as `require_schema`."""
    await require_schema(redis)
    with unavailable():
        await redis.set(redis.key(SCHEMA_VERSION_KEY), SCHEMA_VERSION, nx=True)
    # Another process may have been faster.
    await require_schema(redis)


def other_schema(redis: Redis, version: int) -> Failure:
    """Return the failure of a script that has found another schema version."""
    found = _finding(redis, version)
    return Failure(reason_pb2.REASON_CACHE_UNAVAILABLE, f"{found.message} {found.remedy}")


async def _stored_version(redis: Redis) -> int:
    with unavailable():
        stored = cast("bytes | None", await redis.get(redis.key(SCHEMA_VERSION_KEY)))
        if stored is not None:
            return int(stored)
        has_jobs = await redis.exists(redis.key("jobs"))
        is_early = has_jobs and not await redis.exists(redis.key("history"))
    return _EARLY if is_early else SCHEMA_VERSION


def _finding(redis: Redis, version: int) -> Finding:
    name = "schema version of Redis"
    removal = (
        f"stop all processes and remove the keys that begin with {redis.key('')} from Redis: "
        "accepted jobs are made again from the bucket"
    )
    if version > SCHEMA_VERSION:
        return problem(
            name,
            f"A newer version of Ingot works on this Redis, with schema version {version}; this "
            f"process has {SCHEMA_VERSION}.",
            f"Upgrade this process. To go back instead, {removal} (docs/upgrading.md).",
            stops_start=True,
        )
    if version < SCHEMA_VERSION:
        return problem(
            name,
            f"Redis has jobs of an older version of Ingot, with schema version {version}; this "
            f"process has {SCHEMA_VERSION}, and cannot read them.",
            f"Let its jobs end, then {removal} (docs/upgrading.md).",
            stops_start=True,
        )
    return ok(name, f"Redis has schema version {SCHEMA_VERSION}, which this process reads.")
