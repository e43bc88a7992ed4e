"""Where a watch stands: versions of a job, and positions in the history of all jobs.

Redis may lose its last writes when it fails over. What comes after has a later epoch, so versions
and positions never repeat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from ingot.v1.job_pb2 import Job


class Version(NamedTuple):
    """Which state of a job this is. A later state has a greater version."""

    epoch: int
    revision: int


BEGINNING: Final = Version(0, 0)
"""Before the first version of any job."""


def version(job: Job) -> Version:
    """Return the version of a job as it was read or published."""
    return Version(job.epoch, job.revision)


@dataclass(frozen=True, slots=True)
class SnapshotCursor:
    """How far a snapshot of all jobs was sent."""

    before: str
    """Id of the last job that was sent; empty before the first."""
    left: int
    """How many jobs may still be sent."""


@dataclass(frozen=True, slots=True)
class Position:
    """A point in the history of all jobs, up to which a watch has sent everything."""

    epoch: int
    sequence: int
    """Number of the last change of any job; zero before the first."""
    snapshot: SnapshotCursor | None = None
    """None after the end of the snapshot."""
