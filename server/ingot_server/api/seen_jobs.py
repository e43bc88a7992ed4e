"""What a caller sees of a job that others have asked for, too: its own labels, and not theirs."""

from __future__ import annotations

from collections.abc import Mapping

from ingot.v1.job_pb2 import Job
from ingot_server.api.caller import Caller
from ingot_server.jobs.lifecycle import copy_of
from ingot_server.jobs.wishes import own_labels


def seen_labels(job: Job, caller: Caller) -> Mapping[str, str]:
    """Return the labels of a job that the caller sees, and finds it by."""
    own = own_labels(job, caller.name)
    return own or job.labels if caller.is_admin else own


def seen_by(caller: Caller, job: Job) -> Job:
    """Return a job as the caller sees it: the same object if it sees all of it."""
    if not (job.labels or job.labels_of_others):
        return job
    labels = seen_labels(job, caller)
    hides_others = bool(job.labels_of_others) and not caller.is_admin
    if labels == job.labels and not hides_others:
        return job
    seen = copy_of(job)
    seen.labels.clear()
    seen.labels.update(labels)
    if hides_others:
        seen.ClearField("labels_of_others")
    return seen
