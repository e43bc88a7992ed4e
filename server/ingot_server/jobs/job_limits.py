"""The limits of the caller that asks for a job: as the script gets them, and as refusals."""

from __future__ import annotations

from typing import Final

from ingot_server.caller_limits import CallerLimits
from ingot_server.errors import Failure, quota_exceeded
from ingot_server.jobs.daily_bytes import NAME as DAILY_BYTES
from ingot_server.jobs.daily_bytes import daily_bytes_used_up
from ingot_server.jobs.stored_bytes import NAME as STORED_BYTES
from ingot_server.jobs.stored_bytes import stored_bytes_used_up

_RUNNING_JOBS: Final = "running_jobs"
_REFUSED_JOBS: Final = {
    "jobs": "You have {} jobs that have not ended, which is the limit. Wait until one of them has "
    "ended, or cancel one.",
    "queued_jobs": "You have {} jobs that no worker has begun, which is the limit. Wait until one "
    "of them runs, or cancel one.",
}


def limit_arguments(limits: CallerLimits) -> dict[str, int]:
    """Return the arguments of `create` in transition.lua for the limits that there are."""
    names = (*_REFUSED_JOBS, _RUNNING_JOBS, DAILY_BYTES, STORED_BYTES)
    found = {name: getattr(limits, name) for name in names}
    return {name: limit for name, limit in found.items() if limit}


def limit_reached(name: str, limits: CallerLimits) -> Failure:
    """Return the failure of a caller that has reached its limit of that name."""
    if name == DAILY_BYTES:
        return daily_bytes_used_up(limits.daily_bytes)
    if name == STORED_BYTES:
        return stored_bytes_used_up(limits.stored_bytes)
    limit = getattr(limits, name)
    return quota_exceeded(name, limit, _REFUSED_JOBS[name].format(limit))
