"""What `ingot top` knows of all jobs."""

from __future__ import annotations

from ingot.job import RemovedJob
from ingot.live_jobs import KEPT_ENDED, LiveJobs
from ingot.v1.job_pb2 import ChildSummary, Job, JobState, JobWaiting

RUNNING, QUEUED = JobState.JOB_STATE_RUNNING, JobState.JOB_STATE_QUEUED
SUCCEEDED = JobState.JOB_STATE_SUCCEEDED


def running(job_id: str, rate: float = 0, **fields: object) -> Job:
    job = Job(id=job_id, state=RUNNING, **fields)  # type: ignore[arg-type]
    job.progress.stage.bytes_per_second = rate
    return job


def ended(job_id: str, seconds: int) -> Job:
    job = Job(id=job_id, state=SUCCEEDED)
    job.end_time.FromSeconds(seconds)
    return job


def live(*updates: Job | RemovedJob) -> LiveJobs:
    jobs = LiveJobs()
    for update in updates:
        jobs.update(update)
    return jobs


def ids(jobs: object) -> list[str]:
    return [job.id for job in jobs]  # type: ignore[attr-defined]


def test_a_job_counts_once_in_the_state_that_it_has_now() -> None:
    jobs = live(Job(id="a", state=QUEUED), running("a"), Job(id="b", state=QUEUED))
    assert jobs.counts == {RUNNING: 1, QUEUED: 1}

    jobs.update(ended("a", 1))
    jobs.update(RemovedJob("b"))
    assert jobs.counts == {SUCCEEDED: 1}


def test_the_rate_of_children_is_not_counted_again_with_their_parent() -> None:
    parent = running("list", 300, children=ChildSummary(total=2))
    assert live(parent, running("x", 100), running("y", 200)).bytes_per_second == 300


def test_a_running_job_that_waits_is_shown_among_the_waiting() -> None:
    host = JobWaiting(cause=JobWaiting.CAUSE_HOST_LIMIT, host="example.com")
    jobs = live(running("b", waiting=host), running("c"), Job(id="a", state=QUEUED))

    assert ids(jobs.running()) == ["c"]
    assert ids(jobs.waiting()) == ["b", "a"], "a job that waits for a worker tells the least"


def test_only_the_jobs_that_ended_last_are_kept_and_all_are_counted() -> None:
    jobs = live(*(ended(f"{number:04}", number) for number in reversed(range(KEPT_ENDED + 50))))

    assert ids(jobs.ended()) == [f"{n:04}" for n in range(KEPT_ENDED + 49, 49, -1)]
    assert jobs.counts[SUCCEEDED] == KEPT_ENDED + 50
