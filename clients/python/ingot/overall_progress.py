"""The progress of a job and of the download after it, as one fraction that never decreases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ingot.v1.job_pb2 import Job, JobStage, JobState

# The job's part of the overall progress if its result is downloaded afterwards.
_JOB_SHARE: Final = 0.9

# The part of each stage in a conversion job. Such a job reports the progress of its stage only.
_STAGE_RANGES: Final[Mapping[JobStage.ValueType, tuple[float, float]]] = {
    JobStage.JOB_STAGE_CONVERTING: (0.0, 0.96),
    JobStage.JOB_STAGE_STORING: (0.96, 0.98),
    JobStage.JOB_STAGE_COMMITTING: (0.98, 1.0),
}


def converts_one_item(job: Job) -> bool:
    """Return whether a job converts one media item, so that one bar shows all of it.

    A playlist with recipes is not such a job: each of its entries is.
    """
    return bool(job.recipes) and not job.options.playlist


class OverallProgress:
    """The progress of a conversion and, with `with_download`, of the download of its result.

    The download gets what the job leaves of the bar: all of it if the result was stored already.
    """

    def __init__(self, *, with_download: bool) -> None:
        self._job_share = _JOB_SHARE if with_download else 1.0
        self._has_run = False
        self._download_start: float | None = None
        self.fraction = 0.0

    def update_job(self, job: Job) -> float:
        """Take over the state of the job, and return the overall fraction, from 0 to 1."""
        self._has_run = self._has_run or job.state == JobState.JOB_STATE_RUNNING
        if job.state == JobState.JOB_STATE_SUCCEEDED and (self._has_run or self._job_share == 1.0):
            return self._advance_to(self._job_share)
        return self._advance_to(self._job_share * _job_fraction(job))

    def update_download(self, bytes_done: int, bytes_total: int) -> float:
        """Take over the progress of the download, and return the overall fraction."""
        if self._download_start is None:
            self._download_start = self.fraction
        share = bytes_done / bytes_total if bytes_total else 1.0
        return self._advance_to(self._download_start + (1 - self._download_start) * share)

    def _advance_to(self, fraction: float) -> float:
        self.fraction = max(self.fraction, min(1.0, fraction))
        return self.fraction


def _job_fraction(job: Job) -> float:
    """Return how much of a job is done; 0 if it is not running."""
    if job.state != JobState.JOB_STATE_RUNNING:
        return 0.0
    if not job.media.derived_from_media_id:
        return job.progress.fraction
    start, end = _STAGE_RANGES.get(job.stage, (0.0, 0.0))
    return start + (end - start) * job.progress.fraction
