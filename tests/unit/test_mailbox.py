"""The mailbox of a watcher that reads slowly."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.errors import Failure
from ingot_server.jobs.history import Change
from ingot_server.jobs.mailbox import ALL_JOBS_LIMIT, LIMIT, Mailbox, collapse


def running(revision: int, stage: int = 1, job_id: str = "a") -> Job:
    return Job(
        id=job_id,
        revision=revision,
        state=job_pb2.JOB_STATE_RUNNING,
        stage=job_pb2.JobStage.ValueType(stage),
    )


def change(job: Job, sequence: int = 0) -> Change:
    return Change(job.id, job, sequence=sequence)


def drained(mailbox: Mailbox) -> list[Job]:
    jobs = []
    while (received := mailbox.next_nowait()) is not None:
        assert received.job is not None
        jobs.append(received.job)
    return jobs


def test_a_reader_that_keeps_up_gets_everything() -> None:
    mailbox = Mailbox()
    jobs = [running(revision) for revision in range(LIMIT)]
    for job in jobs:
        mailbox.put(change(job))
    assert drained(mailbox) == jobs


def test_a_slow_reader_gets_the_last_of_every_stage() -> None:
    mailbox = Mailbox()
    for revision in range(6000):
        mailbox.put(change(running(revision, stage=revision // 1000 + 1)))
    jobs = drained(mailbox)
    assert len(jobs) <= LIMIT
    assert [job.revision for job in jobs] == sorted(job.revision for job in jobs)
    assert {999, 1999, 2999, 3999, 4999, 5999} <= {job.revision for job in jobs}


def test_the_revisions_of_each_job_are_collapsed_separately() -> None:
    jobs = [running(1), running(1, job_id="b"), running(2), running(3, 2), running(2, job_id="b")]
    changes = [change(job, number) for number, job in enumerate(jobs, start=1)]
    kept = collapse(changes, lambda job, later: job.stage == later.stage)
    assert [each.job for each in kept] == [jobs[2], jobs[4], jobs[3]]
    # A watch that stops after the first of them has not received what lies between the two.
    assert [each.sequence for each in kept] == [1, 2, 4]


def test_a_watcher_of_all_jobs_keeps_only_jobs_whose_record_may_exist() -> None:
    mailbox = Mailbox(timedelta(hours=1))
    for number in range(ALL_JOBS_LIMIT):
        old = Job(id=f"old-{number}", revision=3, state=job_pb2.JOB_STATE_FAILED)
        old.end_time.FromDatetime(datetime.now(UTC) - timedelta(hours=2))
        mailbox.put(change(old))
    for stage in range(1, 7):
        for revision in range(ALL_JOBS_LIMIT):
            mailbox.put(change(running(stage * ALL_JOBS_LIMIT + revision, stage, "new")))
            mailbox.put(change(running(stage, stage, f"other-{revision}")))
    assert len(drained(mailbox)) <= 3 * ALL_JOBS_LIMIT


async def test_the_reader_waits() -> None:
    mailbox = Mailbox()
    reader = asyncio.create_task(mailbox.next_within(None))
    await asyncio.sleep(0)
    mailbox.put(change(running(1)))
    received = await reader
    assert received is not None
    assert received.job == running(1)


async def test_a_reader_hears_again_and_again_that_nothing_happens() -> None:
    mailbox = Mailbox()
    assert await mailbox.next_within(0.01) is None
    mailbox.put(change(running(1)))
    received = await mailbox.next_within(0.01)
    assert received is not None
    assert received.job == running(1)
    assert await mailbox.next_within(0.01) is None


async def test_a_failure_ends_the_watch() -> None:
    mailbox = Mailbox()
    mailbox.put(change(running(1)))
    mailbox.fail(Failure(reason_pb2.REASON_SHUTTING_DOWN, "Watch again."))
    with pytest.raises(Failure, match=r"Watch again\."):
        await mailbox.next_within(None)
