"""What may wait until the next write of a job, and what is written then."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.jobs.changes import entered
from ingot_server.jobs.lifecycle import copy_of
from ingot_server.jobs.pending_changes import PendingChanges

DOWNLOADING, PROBING, STORING, COMMITTING = (
    job_pb2.JOB_STAGE_DOWNLOADING,
    job_pb2.JOB_STAGE_PROBING,
    job_pb2.JOB_STAGE_STORING,
    job_pb2.JOB_STAGE_COMMITTING,
)


def measured(done: int) -> Callable[[Job], None]:
    def change(job: Job) -> None:
        job.progress.stage.bytes_done = done

    return change


def resolving() -> PendingChanges:
    return PendingChanges(
        Job(id="j", state=job_pb2.JOB_STATE_RUNNING, stage=job_pb2.JOB_STAGE_RESOLVING, revision=2)
    )


def ended(job: Job) -> None:
    job.state = job_pb2.JOB_STATE_SUCCEEDED


@pytest.mark.parametrize(
    ("changes", "can_wait", "passed"),
    [
        ([], True, []),
        ([measured(1)], True, []),
        ([entered(DOWNLOADING)], True, []),
        ([entered(DOWNLOADING), measured(1), entered(PROBING)], True, [DOWNLOADING]),
        ([entered(DOWNLOADING), entered(PROBING), entered(STORING)], True, [DOWNLOADING, PROBING]),
        ([entered(STORING), entered(COMMITTING)], False, [STORING]),
        ([entered(DOWNLOADING), ended], False, [DOWNLOADING]),
        ([lambda job: setattr(job, "cached", True)], False, []),
    ],
)
def test_only_stages_and_progress_wait(
    changes: list[Callable[[Job], None]], can_wait: bool, passed: list[job_pb2.JobStage.ValueType]
) -> None:
    pending = resolving()
    for change in changes:
        pending.apply(change)
    assert bool(pending) is bool(changes)
    assert pending.can_wait() is can_wait
    assert [job.stage for job in pending.passed] == passed


def test_a_stage_that_was_left_keeps_what_was_measured_in_it() -> None:
    pending = resolving()
    for change in (entered(DOWNLOADING), measured(7), entered(PROBING)):
        pending.apply(change)
    assert [job.progress.stage.bytes_done for job in pending.passed] == [7]


def test_what_changes_during_a_write_waits_for_the_next() -> None:
    pending = resolving()
    pending.apply(entered(DOWNLOADING))
    pending.apply(entered(PROBING))
    writing, passed = copy_of(pending.job), list(pending.passed)
    pending.apply(entered(STORING))
    writing.revision = 4
    pending.take_over(writing, passed)
    assert pending
    assert pending.have_stages()
    assert pending.job.revision == 4
    assert [job.stage for job in pending.passed] == [PROBING]
