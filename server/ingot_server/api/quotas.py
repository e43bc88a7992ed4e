"""The limits of a caller, and how much of each it uses."""

from __future__ import annotations

from datetime import datetime

from ingot.v1.system_service_pb2 import QuotaStatus
from ingot_server.api.caller import Caller
from ingot_server.api.open_watches import OpenWatches
from ingot_server.caller_limits import LIMITS
from ingot_server.jobs.caller_jobs import count_jobs
from ingot_server.jobs.daily_bytes import next_day
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis


class Quotas:
    """Reads what callers use, and changes nothing."""

    def __init__(self, redis: Redis, records: Records, watches: OpenWatches) -> None:
        self._redis = redis
        self._records = records
        self._watches = watches

    async def of(self, caller: Caller) -> list[QuotaStatus]:
        """Return every limit with what is used of it. Raises Failure CACHE_UNAVAILABLE."""
        key, limits = caller.key, caller.limits
        links, first_expiry = await self._records.open_links.open(key)
        used = {
            **await count_jobs(self._redis, key),
            "watches": self._watches.of(caller),
            "upload_links": links,
        }
        if caller.name:
            used["stored_bytes"] = await self._records.stored_bytes.used(caller.name)
        resets = {"upload_links": first_expiry}
        if limits.daily_bytes:
            # Nothing is counted for a caller without this limit.
            used["daily_bytes"] = await self._records.daily_bytes.used(key)
            resets["daily_bytes"] = next_day() if used["daily_bytes"] else None
        return [
            _status(name, getattr(limits, name), used.get(name), resets.get(name))
            for name in LIMITS
        ]


def _status(name: str, limit: int, used: int | None, reset: datetime | None) -> QuotaStatus:
    status = QuotaStatus(name=name, limit=limit, used=used)
    if reset is not None:
        status.reset_time.FromDatetime(reset)
    return status
