"""The bytes of uploads, counted for the caller whose call runs."""

from __future__ import annotations

from ingot_server.api.caller import CALLER
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.jobs.daily_bytes import DailyBytes
from ingot_server.jobs.stored_bytes import StoredBytes
from ingot_server.log_events import Event

logger = EventLogger(__name__)


async def require_bytes(daily_bytes: DailyBytes, stored_bytes: StoredBytes) -> None:
    """Raise Failure QUOTA_EXCEEDED if the caller has received or stored as much as it may."""
    caller = CALLER.get()
    await daily_bytes.require(caller.key, caller.limits.daily_bytes)
    if caller.name:
        await stored_bytes.require(caller.name, caller.limits.stored_bytes)


async def count_daily_bytes(daily_bytes: DailyBytes, size_bytes: int) -> None:
    """Count bytes that have arrived. If Redis cannot be used, they do not count."""
    caller = CALLER.get()
    if not (caller.limits.daily_bytes and size_bytes):
        return
    try:
        await daily_bytes.count(caller.key, size_bytes)
    except Failure as failure:
        logger.warning(
            Event.UPLOAD_NOT_COUNTED,
            "bytes of an upload are not counted: %s",
            failure.message,
            reason=failure.reason,
        )
