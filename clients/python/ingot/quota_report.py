"""The limits of a caller as text, for `ingot quota`."""

from __future__ import annotations

from ingot.render import local_time, printable, size, table
from ingot.v1.system_service_pb2 import GetQuotaResponse, QuotaStatus

_COLUMNS = ("quota", "used", "limit", "free again")


def quota_report(quota: GetQuotaResponse) -> str:
    """Return a table of all limits, under the name of the caller if it has one."""
    report = table([_COLUMNS, *map(_row, quota.quotas)])
    return f"Caller {printable(quota.caller)}\n\n{report}" if quota.caller else report


def _row(quota: QuotaStatus) -> tuple[str, ...]:
    return (
        quota.name.replace("_", " "),
        _amount(quota, quota.used) if quota.HasField("used") else "",
        _amount(quota, quota.limit) if quota.limit else "none",
        local_time(quota.reset_time),
    )


def _amount(quota: QuotaStatus, amount: int) -> str:
    return size(amount) if quota.name.endswith("_bytes") else str(amount)
