"""The form of what is in Redis: a number, so that no process works on data that it misreads.

    ingot:form    string  the number of the form; without it, there is nothing, or what a build of
                          Ingot 0.1.0 has left

Each process runs its own Lua scripts, on data that all share. So releases whose scripts would harm
each other's data have different forms (docs/upgrading.md says which changes need one). A process
looks when it starts, API servers look every second, and the scripts do so whenever a job is made or
a worker announces itself.
"""

from __future__ import annotations

from typing import Final, cast

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.findings import Finding, ok, problem, require
from ingot_server.redis import Redis, unavailable

FORM: Final = 2
"""The form that this version reads and writes."""
FORM_KEY: Final = "form"
# Builds before the first one that counted changes of jobs (history.lua) have jobs of this form.
_EARLY: Final = 1


async def check_form(redis: Redis) -> Finding:
    """Return whether this version can work on what is in Redis."""
    return _finding(redis, await _stored_form(redis))


async def require_form(redis: Redis) -> None:
    """Raise Failure CACHE_UNAVAILABLE for a form that this version cannot work on."""
    require((await check_form(redis),), reason_pb2.REASON_CACHE_UNAVAILABLE)


async def claim_form(redis: Redis) -> None:
    """Give what is in Redis the form of this version, or do as `require_form`."""
    await require_form(redis)
    with unavailable():
        await redis.set(redis.key(FORM_KEY), FORM, nx=True)
    # Another process may have been faster.
    await require_form(redis)


def other_form(redis: Redis, form: int) -> Failure:
    """Return the failure of a script that has found another form."""
    found = _finding(redis, form)
    return Failure(reason_pb2.REASON_CACHE_UNAVAILABLE, f"{found.message} {found.remedy}")


async def _stored_form(redis: Redis) -> int:
    with unavailable():
        stored = cast("bytes | None", await redis.get(redis.key(FORM_KEY)))
        if stored is not None:
            return int(stored)
        has_jobs = await redis.exists(redis.key("jobs"))
        is_early = has_jobs and not await redis.exists(redis.key("history"))
    return _EARLY if is_early else FORM


def _finding(redis: Redis, form: int) -> Finding:
    name = "form of Redis"
    removal = (
        f"stop all processes and remove the keys that begin with {redis.key('')} from Redis: "
        "accepted jobs are made again from the bucket"
    )
    if form > FORM:
        return problem(
            name,
            f"A newer version of Ingot works on this Redis, in form {form}; this process has form "
            f"{FORM}.",
            f"Upgrade this process. To go back instead, {removal} (docs/upgrading.md).",
            stops_start=True,
        )
    if form < FORM:
        return problem(
            name,
            f"Redis has jobs of an older version of Ingot, in form {form}, which this process, of "
            f"form {FORM}, cannot read.",
            f"Let its jobs end, then {removal} (docs/upgrading.md).",
            stops_start=True,
        )
    return ok(name, f"Redis has form {FORM}, which this version reads.")
