"""How far the whole of several steps is: one share from 0 to 1 that never goes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ingot.v1.job_pb2 import Job, JobStage, JobState

# What the job is of the whole, when what it makes is then brought here.
_JOB_SHARE: Final = 0.9

# Of a conversion by itself, whose progress is that of its stage.
_STAGES: Final[Mapping[JobStage.ValueType, tuple[float, float]]] = {
    JobStage.JOB_STAGE_CONVERTING: (0.0, 0.96),
    JobStage.JOB_STAGE_STORING: (0.96, 0.98),
    JobStage.JOB_STAGE_COMMITTING: (0.98, 1.0),
}


def converts(job: Job) -> bool:
    """Whether a job is shown as one thing, with what it is made of: not a list of such jobs."""
    return bool(job.recipes) and not job.options.playlist


class OverallProgress:
    """A job that makes something of a media, and with `fetched` the download of that.

    The download takes what the job has left of the whole: all of it where nothing had to be made.
    """

    def __init__(self, *, fetched: bool) -> None:
        self._share = _JOB_SHARE if fetched else 1.0
        self._worked = False
        self._begin: float | None = None
        self.fraction = 0.0

    def job(self, job: Job) -> float:
        """The fraction with the job as it stands."""
        self._worked = self._worked or job.state == JobState.JOB_STATE_RUNNING
        if job.state == JobState.JOB_STATE_SUCCEEDED and (self._worked or self._share == 1.0):
            return self._reach(self._share)
        return self._reach(self._share * _done(job))

    def download(self, done: int, total: int) -> float:
        """The fraction with so many bytes of the result here."""
        if self._begin is None:
            self._begin = self.fraction
        share = done / total if total else 1.0
        return self._reach(self._begin + (1 - self._begin) * share)

    def _reach(self, fraction: float) -> float:
        self.fraction = max(self.fraction, min(1.0, fraction))
        return self.fraction


def _done(job: Job) -> float:
    """How much of a job that has not ended is done."""
    if job.state != JobState.JOB_STATE_RUNNING:
        return 0.0
    if not job.media.derived_from:
        return job.progress.fraction
    begin, end = _STAGES.get(job.stage, (0.0, 0.0))
    return begin + (end - begin) * job.progress.fraction
