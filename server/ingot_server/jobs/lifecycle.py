"""What may become of a job: its states, and every step between them as a pure function.

    QUEUED --claim--> RUNNING --write--> SUCCEEDED | FAILED
       ^                 |
       +-release, lost---+        cancel: QUEUED | RUNNING --> CANCELLED

A job with children is RUNNING until the last of them has ended, most of that time without a worker
(`rolled_up`).

Each step answers with a new Job and leaves the one it is given alone; None says that the step is
not open to that job. Revisions and times of end are set where the step is written.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from google.rpc.status_pb2 import Status

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.errors import Failure

ENDED: Final = frozenset(
    {job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED}
)


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """How the children of a job stand."""

    total: int
    succeeded: int
    failed: int
    cancelled: int
    cached: int
    bytes_done: int
    bytes_per_second: float
    fractions: float
    """The sum of the fractions of those that run."""

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed + self.cancelled


def new_job_id() -> str:
    """26 characters of lower-case base32hex (RFC 4648, section 7); later ids sort after earlier.

    Microseconds since 1970 in 7 bytes, then 9 random ones.
    """
    content = (time.time_ns() // 1000).to_bytes(7, "big") + secrets.token_bytes(9)
    return base64.b32hexencode(content).decode().rstrip("=").lower()


def has_ended(job: Job) -> bool:
    """Whether nothing about the job will ever change again."""
    return job.state in ENDED


def is_conversion(job: Job) -> bool:
    """Whether the job makes a media from a stored one, by ffmpeg."""
    return job.kind == job_pb2.JOB_KIND_CONVERT and bool(job.media.derived_from)


def is_workflow(job: Job) -> bool:
    """Whether the job is the parent of an ingest and of the conversions that follow it.

    Not what is asked for as a list: there each entry has such a job.
    """
    return bool(job.recipes) and not is_conversion(job) and not job.options.playlist


def standing(job: Job) -> tuple[int, int, int]:
    """What a watcher never misses a change of: state, stage and attempt."""
    return job.state, job.stage, job.attempt


def created(job: Job) -> Job:
    """The first revision of `job`; id, create_time and the state QUEUED where it has none."""
    job = copy_of(job)
    job.id = job.id or new_job_id()
    job.state = job.state or job_pb2.JOB_STATE_QUEUED
    job.revision = 1
    if not job.HasField("create_time"):
        job.create_time.GetCurrentTime()
    return job


def claimed(job: Job) -> Job | None:
    """A worker takes it."""
    if job.state != job_pb2.JOB_STATE_QUEUED:
        return None
    job = copy_of(job)
    job.state = job_pb2.JOB_STATE_RUNNING
    job.attempt += 1
    if not job.HasField("start_time"):
        job.start_time.GetCurrentTime()
    job.ClearField("retry_time")
    return job


def released(
    job: Job, *, retry_time: datetime | None, error: Status | None, deferred: bool = False
) -> Job:
    """Its worker gives it back; without an `error` the last one stands.

    A `deferred` one had not begun: that was no attempt.
    """
    job = copy_of(job)
    if deferred:
        job.attempt -= 1
    job.state = job_pb2.JOB_STATE_QUEUED
    job.ClearField("stage")
    if not is_workflow(job):
        job.ClearField("progress")
    if retry_time is not None:
        job.retry_time.FromDatetime(retry_time)
    if error is not None:
        job.error.CopyFrom(error)
    return job


def lost(job: Job, *, losses: int, allowed: int) -> Job | None:
    """Its worker is gone, the `losses`th one: it waits for another, or fails with WORKER_LOST."""
    if job.state != job_pb2.JOB_STATE_RUNNING:
        return None
    failure = Failure(
        reason_pb2.REASON_WORKER_LOST,
        f"The worker that ran the job was lost ({losses} of {allowed} times allowed).",
        metadata={"losses": str(losses)},
    )
    if losses >= allowed:
        return _ended(job, job_pb2.JOB_STATE_FAILED, failure)
    return released(job, retry_time=None, error=failure.status())


def unqueued(job: Job, failure: Failure) -> Job | None:
    """Its first message could not be sent."""
    if job.state != job_pb2.JOB_STATE_QUEUED:
        return None
    return _ended(job, job_pb2.JOB_STATE_FAILED, failure)


def cancelled(job: Job) -> Job | None:
    """A caller stops it. Not while it writes its manifest: that can't be taken back."""
    committing = (job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STAGE_COMMITTING)
    if has_ended(job) or (job.state, job.stage) == committing:
        return None
    failure = Failure(reason_pb2.REASON_CANCELLED, "The job was cancelled.")
    return _ended(job, job_pb2.JOB_STATE_CANCELLED, failure)


def awaiting(job: Job, child_ids: Sequence[str]) -> Job:
    """Its worker has made its children, and leaves it to them."""
    job = copy_of(job)
    conversions = is_workflow(job)
    job.stage = job_pb2.JOB_STAGE_CONVERTING if conversions else job_pb2.JOB_STAGE_DOWNLOADING
    job.ClearField("error")
    del job.child_job_ids[:]
    job.child_job_ids.extend(child_ids)
    job.children.total = len(child_ids)
    return job


def rolled_up(job: Job, counts: ChildCounts, parts: Sequence[Job] = ()) -> Job | None:
    """It says how its children stand; with the last of them it ends.

    Of a list one that succeeded is enough to succeed, of a workflow all have to: its children, the
    ingest first, are its `parts` then.
    """
    if job.state != job_pb2.JOB_STATE_RUNNING:
        return None
    job = copy_of(job)
    for name in ("total", "succeeded", "failed", "cancelled", "cached"):
        setattr(job.children, name, getattr(counts, name))
    job.progress.bytes_done = counts.bytes_done
    job.progress.bytes_per_second = counts.bytes_per_second
    fraction = min(1.0, (counts.ended + counts.fractions) / max(1, counts.total))
    job.progress.fraction = max(job.progress.fraction, fraction)
    if counts.ended < counts.total:
        return job
    if is_workflow(job):
        return _concluded(job, parts)
    if counts.succeeded:
        job.state = job_pb2.JOB_STATE_SUCCEEDED
        job.cached = counts.cached == counts.total
        return job
    failure = Failure(
        reason_pb2.REASON_ENTRIES_FAILED,
        f"None of the {counts.total} entries could be ingested; the child jobs say why."
        if counts.total
        else "The list has no entries but itself.",
        metadata={"failed": str(counts.failed), "cancelled": str(counts.cancelled)},
    )
    return _ended(job, job_pb2.JOB_STATE_FAILED, failure)


def _concluded(job: Job, parts: Sequence[Job]) -> Job:
    """A workflow ends as the first of its parts that failed, or with what they made."""
    for part in parts:
        if part.state != job_pb2.JOB_STATE_SUCCEEDED:
            job.state = job_pb2.JOB_STATE_FAILED
            job.error.CopyFrom(part.error)
            return job
    ingest, *conversions = parts
    job.state = job_pb2.JOB_STATE_SUCCEEDED
    job.cached = all(part.cached for part in parts)
    if job.kind == job_pb2.JOB_KIND_CONVERT:
        job.media.CopyFrom(conversions[0].media)
    else:
        job.media.CopyFrom(ingest.media)
        job.conversions.extend(part.media for part in conversions)
    return job


def same_result(job: Job, other: Job) -> bool:
    """Whether two jobs are equal but for what a write fills in."""
    job, other = copy_of(job), copy_of(other)
    for each in job, other:
        each.ClearField("revision")
        each.ClearField("end_time")
        each.ClearField("retry_time")
    return job == other


def copy_of(job: Job) -> Job:
    """A Job of its own, free to be changed."""
    copy = Job()
    copy.CopyFrom(job)
    return copy


def _ended(job: Job, state: job_pb2.JobState.ValueType, failure: Failure) -> Job:
    job = copy_of(job)
    job.state = state
    job.error.CopyFrom(failure.status())
    return job
