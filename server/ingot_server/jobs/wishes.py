"""What the callers of one job want of it: the highest of their priorities, and labels of their own.

Redis keeps the priorities (askers.lua). The labels are in the record, apart from those of the
request that created the job, so that lists and watches find a job by those of any caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job, JobPriority
from ingot_server.jobs.lifecycle import copy_of, has_ended

MOST_CALLERS: Final = 16
"""Whose labels a job keeps, apart from those of its first caller: they stand in each revision."""


def joined(job: Job, request: Job) -> Job | None:
    """Return the job after the caller of `request` has joined it; None if nothing changes."""
    if has_ended(job):
        return None
    changed = copy_of(job)
    changed.priority = max(job.priority, request.priority or job_pb2.JOB_PRIORITY_NORMAL)
    if _brings_labels(request, job):
        changed.labels_of_others.add(caller=request.requested_by, labels=request.labels)
    return changed if changed != job else None


def with_priority(job: Job, priority: JobPriority.ValueType) -> Job | None:
    """Return the job with a priority; None if nothing changes."""
    if has_ended(job) or job.priority == priority:
        return None
    changed = copy_of(job)
    changed.priority = priority
    return changed


def replaced(stored: Job, by: Job) -> Job:
    """Return a copy of `by`, which its worker writes, in place of the stored job."""
    job = copy_of(by)
    carry_over(stored, job)
    return job


def carry_over(stored: Job, job: Job) -> None:
    """Set in `job`, which its worker has, what callers have changed in its record meanwhile."""
    job.priority = stored.priority
    del job.labels_of_others[:]
    job.labels_of_others.extend(stored.labels_of_others)


def own_labels(job: Job, caller: str) -> Mapping[str, str]:
    """Return the labels that the caller of that name has given to a job."""
    if job.requested_by == caller:
        return job.labels
    return next((each.labels for each in job.labels_of_others if each.caller == caller), {})


def _brings_labels(request: Job, job: Job) -> bool:
    """Tell whether a caller has labels to keep. The first ones that it gave to the job count."""
    return (
        bool(request.labels)
        and request.requested_by not in {"", job.requested_by}
        and len(job.labels_of_others) < MOST_CALLERS
        and all(each.caller != request.requested_by for each in job.labels_of_others)
    )
