"""The limits of the caller that asks for a job: as the script gets them, and as refusals."""

from __future__ import annotations

from typing import Final

from ingot_server.caller_limits import CallerLimits
from ingot_server.errors import Failure, quota_exceeded
from ingot_server.jobs.daily_bytes import NAME as DAILY_BYTES
from ingot_server.jobs.daily_bytes import daily_bytes_used_up
from ingot_server.jobs.stored_bytes import NAME as STORED_BYTES
from ingot_server.jobs.stored_bytes import stored_bytes_used_up

_JOBS: Final = "jobs"


def limit_arguments(limits: CallerLimits) -> dict[str, int]:
    """Return the arguments of `create` in transition.lua for the limits that there are."""
    found = {name: getattr(limits, name) for name in (_JOBS, DAILY_BYTES, STORED_BYTES)}
    return {name: limit for name, limit in found.items() if limit}


def limit_reached(name: str, limits: CallerLimits) -> Failure:
    """Return the failure of a caller that has reached its limit of that name."""
    if name == DAILY_BYTES:
        return daily_bytes_used_up(limits.daily_bytes)
    if name == STORED_BYTES:
        return stored_bytes_used_up(limits.stored_bytes)
    return quota_exceeded(
        name,
        limits.jobs,
        f"You have {limits.jobs} jobs that have not ended, which is the limit. Wait until one of "
        "them has ended, or cancel one.",
    )
