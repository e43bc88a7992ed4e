"""What one caller may use: the settings, and what the entry of a token says instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from ingot_server.config import Settings
from ingot_server.setting_values import ByteSize, SettingError, parse_value


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """The limits of one caller. Zero means that there is no such limit."""

    calls: int = 0
    """Calls in a second, over all API servers."""
    jobs: int = 0
    """Jobs that have not ended, each list as one."""
    queued_jobs: int = 0
    """Those of them that are QUEUED."""
    running_jobs: int = 0
    """Jobs that hold slots of workers, also the entries of lists. More wait."""
    daily_bytes: int = 0
    """Bytes that jobs and uploads receive in one day of UTC."""
    stored_bytes: int = 0
    """Bytes of the media items that the caller owns."""
    watches: int = 0
    """Open watches at one API server."""
    upload_links: int = 0
    """Upload links that have not expired."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits of callers whose tokens say nothing else."""
        return cls(
            calls=settings.calls_per_caller,
            jobs=settings.jobs_per_caller,
            queued_jobs=settings.queued_jobs_per_caller,
            running_jobs=settings.running_jobs_per_caller,
            daily_bytes=settings.daily_bytes_per_caller,
            stored_bytes=settings.stored_bytes_per_caller,
            watches=settings.watches_per_caller,
            upload_links=settings.upload_links_per_caller,
        )

    def on_this_machine(self) -> Self:
        """Return the limits of a caller without a name on this machine: those of what is open."""
        return dataclasses.replace(
            self,
            calls=0,
            jobs=0,
            queued_jobs=0,
            running_jobs=0,
            daily_bytes=0,
            stored_bytes=0,
        )

    def with_quota(self, quota: object, where: str) -> Self:
        """Return the limits of a token whose entry has the table `quota`.

        `where` names it in messages. Raises SettingError if it cannot be used.
        """
        if not isinstance(quota, dict) or quota.keys() - LIMITS.keys():
            raise SettingError(f"{where} quota: write a table with some of {', '.join(LIMITS)}.")
        changes: dict[str, Any] = {
            name: parse_value(f"{where} quota.{name}", str(value), LIMITS[name])
            for name, value in quota.items()
        }
        return dataclasses.replace(self, **changes)


NO_LIMITS: Final = CallerLimits()

LIMITS: Final[Mapping[str, type[int]]] = {
    field.name: ByteSize if field.name.endswith("_bytes") else int
    for field in dataclasses.fields(CallerLimits)
}
"""The limits by their names, and how each is written."""
