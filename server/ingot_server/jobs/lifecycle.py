"""The states of a job, and every transition between them as a pure function.

    QUEUED --claim--> RUNNING --write--> SUCCEEDED | FAILED
       ^                 |
       +-release, lost---+        cancel: QUEUED | RUNNING --> CANCELLED

A job with children is RUNNING until the last of them has ended, most of that time without a worker
(`rolled_up`).

Each transition returns a new Job and does not change its argument. It returns None if the job is
in a state that does not allow it. The code that writes the Job sets its revision, its end time and
its fraction (`with_fraction`).
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.rpc.status_pb2 import Status

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job, JobWaiting
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure
from ingot_server.jobs.fraction import (
    CONVERSION,
    EXTRACTION,
    FILE,
    Stages,
    list_fraction,
    workflow_fraction,
)

ENDED: Final = frozenset(
    {job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED}
)
PREVIEW: Final = job_pb2.JobKind.ValueType(1000)
"""The kind of a job that finds out what is behind a URL and stores nothing.

It is not part of the contract: no caller gets such a job (`Records.create`).
"""
LISTING: Final = job_pb2.JobKind.ValueType(1001)
"""The kind of a preview that returns `options.max_entries` of a list, for a subscription."""
# What the attempts of a job have written into its record.
_OF_ATTEMPTS: Final = (
    "state",
    "stage",
    "progress",
    "waiting",
    "error",
    "last_attempt_error",
    "attempt",
    "revision",
    "epoch",
    "start_time",
    "end_time",
    "children",
    "child_job_ids",
    "conversions",
    "cached",
    "extraction",
)
_FOR_WORKER: Final = JobWaiting(cause=JobWaiting.CAUSE_WORKER)


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """The numbers of a job's children by outcome, and their progress."""

    total: int
    succeeded: int
    failed: int
    cancelled: int
    cached: int
    bytes_done: int
    bytes_per_second: float
    fractions: float
    """The sum of `progress.fraction` over the running children."""

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed + self.cancelled

    def fraction(self, *, workflow: bool) -> float:
        """Return how much of the parent is done.

        If a `workflow` has more children than its ingest, the ingest has ended.
        """
        if not workflow:
            return list_fraction(self.ended, self.fractions, self.total)
        if self.total == 1:
            return workflow_fraction(self.ended + self.fractions, 0.0, count=1)
        conversions = max(0, self.ended - 1) + self.fractions
        return workflow_fraction(1.0, conversions, count=self.total - 1)


def new_job_id() -> str:
    """Return 26 characters of lower-case base32hex (RFC 4648, section 7) that sort by time.

    They encode 7 bytes of microseconds since 1970 and 9 random bytes.
    """
    content = (time.time_ns() // 1000).to_bytes(7, "big") + secrets.token_bytes(9)
    return base64.b32hexencode(content).decode().rstrip("=").lower()


def has_ended(job: Job) -> bool:
    """Tell whether the job has reached a state that it never leaves."""
    return job.state in ENDED


def is_conversion(job: Job) -> bool:
    """Tell whether the job converts a stored media item with ffmpeg."""
    return job.kind == job_pb2.JOB_KIND_CONVERT


def is_preview(job: Job) -> bool:
    """Tell whether the job only finds out what is behind a URL: for Resolve or a subscription."""
    return job.kind in (PREVIEW, LISTING)


def is_listing(job: Job) -> bool:
    """Tell whether the job only finds out what a list has, for a subscription."""
    return job.kind == LISTING


def is_workflow(job: Job) -> bool:
    """Tell whether the job is the parent of an ingest and of the conversions that follow it.

    The job of a list is not: each of its entries has such a parent.
    """
    return job.kind == job_pb2.JOB_KIND_INGEST_AND_CONVERT


def ingest_kind(recipes: Sequence[Recipe]) -> job_pb2.JobKind.ValueType:
    """Return the kind of a job that stores one media item and applies `recipes` to it."""
    return job_pb2.JOB_KIND_INGEST_AND_CONVERT if recipes else job_pb2.JOB_KIND_INGEST


def milestone(job: Job) -> tuple[int, int, int]:
    """Return the state, stage and attempt; every watcher sees each change of these."""
    return job.state, job.stage, job.attempt


def created(job: Job) -> Job:
    """Return the first revision of a job, with an id, a create_time and a state."""
    job = copy_of(job)
    job.id = job.id or new_job_id()
    job.state = job.state or job_pb2.JOB_STATE_QUEUED
    job.priority = job.priority or job_pb2.JOB_PRIORITY_NORMAL
    if job.state == job_pb2.JOB_STATE_QUEUED and not job.HasField("waiting"):
        job.waiting.CopyFrom(_FOR_WORKER)
    job.revision = 1
    if not job.HasField("create_time"):
        job.create_time.GetCurrentTime()
    return job


def recreated(job: Job) -> Job:
    """Return the job as its caller requested it: the first revision of one that Redis has lost."""
    job = copy_of(job)
    for name in _OF_ATTEMPTS:
        job.ClearField(name)
    return created(job)


def claimed(job: Job) -> Job | None:
    """Return the job as a worker claims it: RUNNING in its first stage, with one more attempt."""
    if job.state != job_pb2.JOB_STATE_QUEUED:
        return None
    job = copy_of(job)
    job.state = job_pb2.JOB_STATE_RUNNING
    converts = is_conversion(job)
    job.stage = job_pb2.JOB_STAGE_CONVERTING if converts else job_pb2.JOB_STAGE_RESOLVING
    job.attempt += 1
    if not job.HasField("start_time"):
        job.start_time.GetCurrentTime()
    job.ClearField("waiting")
    return job


def released(
    job: Job,
    *,
    waiting: JobWaiting | None = None,
    error: Status | None = None,
    deferred: bool = False,
) -> Job:
    """Return the job as its worker releases it: QUEUED again, and `waiting` for a worker if unset.

    `error` says why the attempt failed; without it the last one stays. With `deferred`, nothing
    has failed, so the attempt does not count.
    """
    job = copy_of(job)
    if deferred:
        job.attempt -= 1
    job.state = job_pb2.JOB_STATE_QUEUED
    job.ClearField("stage")
    job.progress.ClearField("stage")
    if not _is_parent(job):
        job.ClearField("progress")
    job.waiting.CopyFrom(waiting or _FOR_WORKER)
    if error is not None:
        job.last_attempt_error.CopyFrom(error)
    return job


def explained(job: Job, waiting: JobWaiting) -> Job | None:
    """Return a QUEUED job with what it waits for; None if it does not wait any more."""
    if job.state != job_pb2.JOB_STATE_QUEUED:
        return None
    job = copy_of(job)
    job.waiting.CopyFrom(waiting)
    return job


def lost(job: Job, *, losses: int, allowed: int) -> Job | None:
    """Return the job after it lost a worker: QUEUED, or FAILED with WORKER_LOST.

    `losses` is how many workers it has lost now, `allowed` the number at which it fails.
    """
    if job.state != job_pb2.JOB_STATE_RUNNING:
        return None
    failure = Failure(
        reason_pb2.REASON_WORKER_LOST,
        f"The worker that ran the job was lost. This is loss {losses} of at most {allowed}.",
        metadata={"losses": str(losses)},
    )
    if losses >= allowed:
        return _ended(job, job_pb2.JOB_STATE_FAILED, failure)
    return released(job, error=failure.status())


def unqueued(job: Job, failure: Failure) -> Job | None:
    """Return the job as FAILED because its first message could not be sent."""
    if job.state != job_pb2.JOB_STATE_QUEUED:
        return None
    return _ended(job, job_pb2.JOB_STATE_FAILED, failure)


def cancelled(job: Job) -> Job | None:
    """Return the job as a caller cancels it; None during the commit, which cannot be undone."""
    committing = (job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STAGE_COMMITTING)
    if has_ended(job) or (job.state, job.stage) == committing:
        return None
    failure = Failure(reason_pb2.REASON_CANCELLED, "The job was cancelled.")
    return _ended(job, job_pb2.JOB_STATE_CANCELLED, failure)


def awaiting(job: Job, child_ids: Sequence[str]) -> Job:
    """Return the job as its worker leaves it to its children.

    A workflow whose only child is its ingest goes on when that has ended (`rolled_up`).
    """
    job = copy_of(job)
    if not is_workflow(job) or len(child_ids) > 1:
        conversions = is_workflow(job)
        job.stage = job_pb2.JOB_STAGE_CONVERTING if conversions else job_pb2.JOB_STAGE_DOWNLOADING
        job.ClearField("waiting")
    job.progress.ClearField("stage")
    del job.child_job_ids[:]
    job.child_job_ids.extend(child_ids)
    job.children.total = len(child_ids)
    return job


def rolled_up(job: Job, counts: ChildCounts, parts: Sequence[Job] = ()) -> Job | None:
    """Return the job with its children's counts and progress; it ends when the last child ends.

    A list succeeds if one child did, a workflow if all did. `parts` are the children of a workflow
    that have all ended, the ingest first. A workflow without conversions yet is QUEUED again.
    """
    if job.state != job_pb2.JOB_STATE_RUNNING:
        return None
    job = copy_of(job)
    for name in ("total", "succeeded", "failed", "cancelled", "cached"):
        setattr(job.children, name, getattr(counts, name))
    job.progress.stage.bytes_done = counts.bytes_done
    job.progress.stage.bytes_per_second = counts.bytes_per_second
    job.progress.fraction = counts.fraction(workflow=is_workflow(job))
    if counts.ended < counts.total:
        if counts.bytes_per_second:
            job.ClearField("waiting")
        return job
    if is_workflow(job):
        if len(job.child_job_ids) == 1:
            return released(job, deferred=True)
        return _concluded(job, parts)
    if counts.succeeded:
        job.state = job_pb2.JOB_STATE_SUCCEEDED
        job.cached = counts.cached == counts.total
        return job
    failure = Failure(
        reason_pb2.REASON_ENTRIES_FAILED,
        f"None of the {counts.total} entries could be ingested; each child job says why."
        if counts.total
        else "The list has no entries except itself.",
        metadata={"failed": str(counts.failed), "cancelled": str(counts.cancelled)},
    )
    return _ended(job, job_pb2.JOB_STATE_FAILED, failure)


def _concluded(job: Job, parts: Sequence[Job]) -> Job:
    """End a workflow like the first part that failed, or with the results of all parts."""
    for part in parts:
        if part.state != job_pb2.JOB_STATE_SUCCEEDED:
            job.state = job_pb2.JOB_STATE_FAILED
            job.error.CopyFrom(part.error)
            return job
    ingest, *conversions = parts
    job.state = job_pb2.JOB_STATE_SUCCEEDED
    job.cached = all(part.cached for part in parts)
    if job.media.derived_from_media_id:
        job.media.CopyFrom(conversions[0].media)
    else:
        job.media.CopyFrom(ingest.media)
        job.conversions.extend(part.media for part in conversions)
    return job


def ended_as(job: Job, end: Job) -> Job | None:
    """Return the job as it had ended before Redis lost that; None if it has ended."""
    return None if has_ended(job) else copy_of(end)


def ended_unknown(job: Job) -> Job | None:
    """Return the job as FAILED because Redis and the journal have both lost how it ended."""
    if has_ended(job):
        return None
    failure = Failure(
        reason_pb2.REASON_CACHE_UNAVAILABLE,
        "The job had ended, but Redis has lost how, with all of its last minutes. Call again: what "
        "is stored is returned at once.",
    )
    return _ended(job, job_pb2.JOB_STATE_FAILED, failure)


def with_fraction(job: Job, before: Job) -> Job:
    """Return the job with the fraction of the whole that is done; `before` is its last revision.

    The fraction of a parent is what its writer has set. It is 1 if and only if the job has
    SUCCEEDED, and it never decreases while the job has progress: `released` clears that, so that
    a new attempt begins at 0.
    """
    job = copy_of(job)
    if job.state == job_pb2.JOB_STATE_SUCCEEDED:
        job.progress.fraction = 1.0
    elif job.state == job_pb2.JOB_STATE_RUNNING:
        done = job.progress.fraction
        if not _is_parent(job):
            done = _stages(job).fraction(job.stage, job.progress.stage)
        job.progress.fraction = max(before.progress.fraction, done)
    elif before.HasField("progress") and has_ended(job):
        job.progress.fraction = before.progress.fraction
    return job


def same_result(job: Job, other: Job) -> bool:
    """Tell whether two jobs are equal, apart from what a write fills in and callers change."""
    job, other = copy_of(job), copy_of(other)
    for each in job, other:
        each.ClearField("epoch")
        each.ClearField("revision")
        each.ClearField("end_time")
        each.ClearField("waiting")
        each.ClearField("progress")
        each.ClearField("priority")
        each.ClearField("labels_of_others")
    return job == other


def copy_of(job: Job) -> Job:
    """Return a copy that can be changed."""
    copy = Job()
    copy.CopyFrom(job)
    return copy


def _is_parent(job: Job) -> bool:
    return is_workflow(job) or job.HasField("children")


def _stages(job: Job) -> Stages:
    if is_conversion(job):
        return CONVERSION
    return EXTRACTION if job.HasField("extraction") else FILE


def _ended(job: Job, state: job_pb2.JobState.ValueType, failure: Failure) -> Job:
    job = copy_of(job)
    job.state = state
    job.error.CopyFrom(failure.status())
    return job
