"""What metrics tell of jobs: their ends, and the times of their attempts."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from ingot.v1.job_pb2 import Job, JobKind, JobStage, JobState
from ingot.v1.system_service_pb2 import WorkerStatus
from ingot_server.errors import Failure, reason_name
from ingot_server.jobs.lifecycle import is_preview, is_workflow
from ingot_server.jobs.outcomes import Claim
from ingot_server.jobs.placement import work_of
from ingot_server.metrics.definitions import (
    ATTEMPTS_FAILED,
    DISPATCH_DELAY,
    EXTRACTOR,
    EXTRACTOR_RELEASE,
    FIRST_PROGRESS,
    JOBS_ENDED,
    SCRATCH_FREE,
    SCRATCH_SIZE,
    STAGE_SECONDS,
    source_label,
)
from ingot_server.tracing import scopes


def kind_label(kind: JobKind.ValueType) -> str:
    """Return the name of a kind of jobs."""
    # A newer API server may have accepted the job.
    known = kind if kind in JobKind.values() else JobKind.JOB_KIND_UNSPECIFIED
    return JobKind.Name(known).removeprefix("JOB_KIND_")


def state_label(state: JobState.ValueType) -> str:
    """Return the name of a state."""
    return JobState.Name(state).removeprefix("JOB_STATE_")


def count_end(job: Job) -> None:
    """Count a job that has ended. Those of Resolve are not counted."""
    if is_preview(job):
        return
    reason = ""
    if job.HasField("error"):
        reason = reason_name(Failure.from_status(job.error).reason)
    JOBS_ENDED.add(
        state_label(job.state),
        kind_label(job.kind),
        reason,
        source_label(job.media.source.name),
    )


def count_failed_attempt(job: Job, failure: Failure) -> None:
    """Count an attempt that has failed, also if it was the last one."""
    ATTEMPTS_FAILED.add(reason_name(failure.reason), source_label(job.media.source.name))


def measure_worker(status: WorkerStatus) -> None:
    """Set the gauges of what a worker reports of itself. One thread calls this at a time."""
    SCRATCH_FREE.set(status.scratch_free_bytes)
    SCRATCH_SIZE.set(status.scratch_total_bytes)
    if status.extractor_version:
        EXTRACTOR.tell(status.extractor_version)
        released = released_at(status.extractor_version)
        if released is not None:
            EXTRACTOR_RELEASE.set(released.timestamp())


def released_at(version: str) -> datetime | None:
    """Return the day that a version of yt-dlp is named after; None if it is named otherwise."""
    try:
        year, month, day, *_ = map(int, version.split("."))
        return datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return None


class AttemptTimes:
    """The times of one attempt: how long it took to begin it, and how long it is in each stage.

    Each stage is a span of the attempt, too. A workflow is in the stages of its parts, so its own
    do not count.
    """

    def __init__(self, claim: Claim) -> None:
        self._job = claim.job
        self._has_stages = not (is_workflow(claim.job) or is_preview(claim.job))
        self._scope = scopes.scope()
        self._enter(claim.job.stage)
        self._awaits_progress = _is_first(claim)
        if self._awaits_progress:
            DISPATCH_DELAY.observe(_age(self._job), work_of(self._job))

    def follow(self, job: Job) -> None:
        """Look at the job after a change of it."""
        if job.stage != self._stage:
            self._leave_stage()
            self._enter(job.stage)
        if self._awaits_progress:
            stage = job.progress.stage
            if stage.bytes_done or stage.fraction:
                self._awaits_progress = False
                FIRST_PROGRESS.observe(_age(self._job), work_of(self._job))

    def end(self) -> None:
        """End the stage that the attempt is in."""
        self._leave_stage()
        self._has_stages = False

    def _enter(self, stage: JobStage.ValueType) -> None:
        self._stage, self._entered = stage, time.monotonic()
        if self._has_stages and self._scope is not None:
            self._scope.enter_stage(_stage_label(stage).lower())

    def _leave_stage(self) -> None:
        if self._has_stages:
            STAGE_SECONDS.observe(time.monotonic() - self._entered, _stage_label(self._stage))
            if self._scope is not None:
                self._scope.leave_stage()


def _stage_label(stage: JobStage.ValueType) -> str:
    return JobStage.Name(stage).removeprefix("JOB_STAGE_")


def _is_first(claim: Claim) -> bool:
    """Return whether a caller has waited for this attempt since the job was made."""
    return claim.run == 1 and not claim.job.parent_job_id and not is_preview(claim.job)


def _age(job: Job) -> float:
    """Return the seconds since a job was made; 0 if the clock of this machine is behind."""
    return max(0.0, time.time() - job.create_time.ToNanoseconds() / 1e9)
