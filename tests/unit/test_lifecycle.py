"""The transitions of a job."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.errors import Failure
from ingot_server.jobs import lifecycle

QUEUED = Job(state=job_pb2.JOB_STATE_QUEUED)
RUNNING = Job(state=job_pb2.JOB_STATE_RUNNING, stage=job_pb2.JOB_STAGE_DOWNLOADING, attempt=1)
COMMITTING = Job(state=job_pb2.JOB_STATE_RUNNING, stage=job_pb2.JOB_STAGE_COMMITTING, attempt=1)
ENDED = tuple(Job(state=state) for state in sorted(lifecycle.ENDED))

FAILURE = Failure(reason_pb2.REASON_QUEUE_UNAVAILABLE, "The broker is down.")


def lost(job: Job) -> Job | None:
    return lifecycle.lost(job, losses=1, allowed=3)


def lost_for_good(job: Job) -> Job | None:
    return lifecycle.lost(job, losses=3, allowed=3)


def unqueued(job: Job) -> Job | None:
    return lifecycle.unqueued(job, FAILURE)


@pytest.mark.parametrize(
    ("transition", "job", "state"),
    [
        (lifecycle.claimed, QUEUED, job_pb2.JOB_STATE_RUNNING),
        (lifecycle.cancelled, QUEUED, job_pb2.JOB_STATE_CANCELLED),
        (lifecycle.cancelled, RUNNING, job_pb2.JOB_STATE_CANCELLED),
        (lost, RUNNING, job_pb2.JOB_STATE_QUEUED),
        (lost, COMMITTING, job_pb2.JOB_STATE_QUEUED),
        (lost_for_good, RUNNING, job_pb2.JOB_STATE_FAILED),
        (unqueued, QUEUED, job_pb2.JOB_STATE_FAILED),
    ],
)
def test_transitions(transition: Callable[[Job], Job | None], job: Job, state: int) -> None:
    before = lifecycle.copy_of(job)
    after = transition(job)
    assert after is not None
    assert after.state == state
    assert job == before


@pytest.mark.parametrize(
    ("transition", "jobs"),
    [
        (lifecycle.claimed, (RUNNING, *ENDED)),
        (lifecycle.cancelled, (COMMITTING, *ENDED)),
        (lost, (QUEUED, *ENDED)),
        (unqueued, (RUNNING, *ENDED)),
    ],
)
def test_transitions_that_a_state_does_not_allow(
    transition: Callable[[Job], Job | None], jobs: tuple[Job, ...]
) -> None:
    assert [transition(job) for job in jobs] == [None] * len(jobs)


def test_job_ids_sort_by_age() -> None:
    job_ids = [lifecycle.new_job_id() for _ in range(1000)]
    assert job_ids == sorted(set(job_ids))
    assert {len(job_id) for job_id in job_ids} == {26}
    assert set("".join(job_ids)) <= set("0123456789abcdefghijklmnopqrstuv")


@pytest.mark.parametrize(
    ("succeeded", "failed", "cancelled", "cached", "state", "was_stored"),
    [
        (1, 1, 0, 0, job_pb2.JOB_STATE_RUNNING, False),
        (1, 1, 1, 0, job_pb2.JOB_STATE_SUCCEEDED, False),
        (3, 0, 0, 2, job_pb2.JOB_STATE_SUCCEEDED, False),
        (3, 0, 0, 3, job_pb2.JOB_STATE_SUCCEEDED, True),
        (0, 2, 1, 0, job_pb2.JOB_STATE_FAILED, False),
    ],
)
def test_a_job_with_children_ends_with_the_last_of_them(
    succeeded: int,
    failed: int,
    cancelled: int,
    cached: int,
    state: job_pb2.JobState.ValueType,
    was_stored: bool,
) -> None:
    counts = lifecycle.ChildCounts(3, succeeded, failed, cancelled, cached, 100, 10, 0.5)
    job = lifecycle.rolled_up(Job(state=job_pb2.JOB_STATE_RUNNING), counts)
    assert job is not None
    assert (job.state, job.cached) == (state, was_stored)
    assert job.children.total == 3
    assert job.progress.stage.bytes_done == 100
    assert lifecycle.rolled_up(job, counts) is None or not lifecycle.has_ended(job)


def test_an_empty_list_says_so() -> None:
    counts = lifecycle.ChildCounts(0, 0, 0, 0, 0, 0, 0, 0)
    job = lifecycle.rolled_up(Job(state=job_pb2.JOB_STATE_RUNNING), counts)
    assert job is not None
    assert job.error.message == "The list has no entries except itself."
