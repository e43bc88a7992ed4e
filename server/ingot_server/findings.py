"""What the checks of an installation find. `doctor` shows it all; a start heeds what stops it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from ingot.v1.reason_pb2 import Reason
from ingot_server.errors import Failure


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """Ingot works, but less well or less safely than it could."""
    PROBLEM = "problem"
    """Something does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: whole sentences, without passwords and keys."""

    check: str
    """What was checked, in one or two words."""
    level: Level
    message: str
    remedy: str = ""
    """What to do about it; empty if it is ok."""
    stops_start: bool = False
    """Whether Ingot could break its promises, so that no process must start."""


def ok(check: str, message: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, Level.OK, message)


def warning(check: str, message: str, remedy: str) -> Finding:
    """Return a finding of something that should be better."""
    return Finding(check, Level.WARNING, message, remedy)


def problem(check: str, message: str, remedy: str, *, stops_start: bool = False) -> Finding:
    """Return a finding of something that does not work."""
    return Finding(check, Level.PROBLEM, message, remedy, stops_start)


def require(findings: Iterable[Finding], reason: Reason.ValueType) -> None:
    """Raise Failure with `reason` for the first finding that stops the start, if there is one."""
    for finding in findings:
        if finding.stops_start:
            raise Failure(reason, f"{finding.message} {finding.remedy}")
