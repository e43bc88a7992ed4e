"""What a Redis must be so that Ingot keeps its promises.

Every process looks when it starts, GetSystem when it is asked, and `ingot-server doctor` shows all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.findings import Finding, ok, problem, require, warning
from ingot_server.redis import Redis, unavailable
from ingot_server.redis_schema import check_schema, claim_schema

Info = Mapping[str, Any]

# The oldest with all commands that Ingot uses; Debian 12 has 7.0.
_OLDEST: Final = (6, 2)
_NEARLY_FULL: Final = 0.9
# ingot:probe, a string that expires at once.
_PROBE_KEY: Final = "probe"
_PROBE_MILLISECONDS: Final = 1000
_STARTING: Final = "start"


async def wait_until_usable(redis: Redis) -> None:
    """Wait until Redis responds and has loaded its data, then do as `require_usable`.

    Raises Failure CACHE_UNAVAILABLE at once if it refuses the password.
    """
    while True:
        try:
            await require_usable(redis)
            # Unlike INFO, this is refused while the data is loaded.
            await claim_schema(redis)
        except Failure as failure:
            cause = failure.__cause__
            # redis-py raises what ends the opening of a connection as the cause of another error.
            if cause is None or isinstance(cause.__cause__ or cause, AuthenticationError):
                raise
            await asyncio.sleep(redis.outage.failed(_STARTING, failure))
        else:
            redis.outage.succeeded(_STARTING)
            return


async def require_usable(redis: Redis) -> None:
    """Raise Failure CACHE_UNAVAILABLE for a Redis on which Ingot would break its promises.

    One that does not let this user ask (INFO) is taken on trust.
    """
    with unavailable():
        try:
            info = await redis.info()
        except NoPermissionError:
            info = None
    if info is not None:
        require(
            (check_kind(info), check_version(info), check_eviction(info)),
            reason_pb2.REASON_CACHE_UNAVAILABLE,
        )


async def require_writes(redis: Redis) -> None:
    """Write a key. Raises Failure CACHE_UNAVAILABLE if Redis is away or takes no writes."""
    with unavailable():
        await redis.set(redis.key(_PROBE_KEY), b"", px=_PROBE_MILLISECONDS)


async def check_redis(redis: Redis) -> list[Finding]:
    """Return everything that there is to say of a Redis that can be reached."""
    with unavailable():
        try:
            info = await redis.info()
        except NoPermissionError:
            return [
                warning(
                    "Redis",
                    "This user may not run INFO, so Redis was not checked.",
                    "Allow +info, and +config|get, in the user's ACL.",
                )
            ]
    return [
        check_version(info),
        check_kind(info),
        check_eviction(info),
        *await _check_schema(redis),
        await _check_writes(redis),
        await _check_persistence(redis, info),
    ]


def check_version(info: Info) -> Finding:
    """Return whether Redis is new enough."""
    valkey = str(info.get("valkey_version", ""))
    name = f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}"
    numbers = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if numbers >= _OLDEST:
        return ok("Redis", f"{name} responds.")
    return problem(
        "Redis",
        f"{name} is too old.",
        f"Use Valkey, or Redis {'.'.join(map(str, _OLDEST))} or newer.",
        stops_start=True,
    )


def check_kind(info: Info) -> Finding:
    """Return whether it is one server that takes writes: no cluster, no Sentinel, no replica."""
    name = "Redis mode"
    kind = (
        "Redis Cluster"
        if int(info.get("cluster_enabled", 0))
        else "Redis Sentinel"
        if info.get("redis_mode") == "sentinel"
        else ""
    )
    if kind:
        return problem(
            name,
            f"The server that INGOT_REDIS_URL names belongs to {kind}, which Ingot does not "
            "support.",
            "Name one server that is not part of it, whose address stays with the primary when it "
            "fails over.",
            stops_start=True,
        )
    if info.get("role") != "master":
        # Not for ever: a failover may be going on.
        return problem(
            name,
            "The server that INGOT_REDIS_URL names is a replica, which takes no writes.",
            "Name the primary.",
        )
    return ok(name, "It is a primary, and not part of a cluster.")


def check_eviction(info: Info) -> Finding:
    """Return whether Redis may drop keys to make room, and with them accepted jobs."""
    name = "eviction"
    policy, limit, used = info["maxmemory_policy"], int(info["maxmemory"]), int(info["used_memory"])
    if policy != "noeviction":
        remedy = "Set maxmemory-policy to noeviction: then Ingot refuses jobs when Redis is full."
        if limit:
            return problem(
                name,
                f"Redis evicts keys when it reaches maxmemory (maxmemory-policy {policy}), and "
                "with them accepted jobs and leases.",
                remedy,
                stops_start=True,
            )
        return warning(
            name,
            f"Redis would evict keys, and with them accepted jobs, as soon as it has a limit "
            f"(maxmemory-policy {policy}).",
            remedy,
        )
    if limit and used > _NEARLY_FULL * limit:
        return warning(
            name,
            f"Redis uses {used / limit:.0%} of maxmemory, and refuses jobs when it is full.",
            "Raise maxmemory.",
        )
    return ok(name, "Redis keeps all keys.")


async def _check_schema(redis: Redis) -> list[Finding]:
    try:
        return [await check_schema(redis)]
    except Failure:  # another check says what keeps Redis from answering
        return []


async def _check_writes(redis: Redis) -> Finding:
    name = "Redis writes"
    try:
        await require_writes(redis)
    except Failure as failure:
        return problem(
            name,
            f"Redis takes no writes: {failure.message.removesuffix('.')}.",
            "If it waits for replicas (NOREPLICAS), start as many as min-replicas-to-write says; "
            "if it may not write to its disk (MISCONF), free space there; if it is full (OOM), "
            "raise maxmemory.",
        )
    return ok(name, "Redis takes writes.")


async def _check_persistence(redis: Redis, info: Info) -> Finding:
    name = "persistence"
    for what, state in (
        ("The append-only file", "aof_last_write_status"),
        ("A snapshot", "rdb_last_bgsave_status"),
    ):
        if info.get(state, "ok") != "ok":
            return problem(
                name, f"{what} could not be written.", "See Redis' log; its disk may be full."
            )
    if int(info.get("aof_enabled", 0)):
        return ok(name, "Redis writes an append-only file.")
    lost = (
        "Redis saves snapshots only: if it stops, jobs that ran since the last one start again."
        if await _saves_snapshots(redis)
        else "Redis keeps nothing on a disk: if it stops, all jobs of that moment start again."
    )
    return warning(name, lost, "Set appendonly to yes.")


async def _saves_snapshots(redis: Redis) -> bool:
    with unavailable():
        try:
            return bool((await redis.config_get("save")).get("save"))
        except ResponseError:  # also that this user may not ask; then the milder warning
            return True
