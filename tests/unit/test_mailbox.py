"""What a watcher has still to be told, when it reads slowly."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.errors import Failure
from ingot_server.jobs.mailbox import KEPT, KEPT_OF_ALL, Mailbox, collapse


def running(revision: int, stage: int = 1, job_id: str = "a") -> Job:
    return Job(
        id=job_id,
        revision=revision,
        state=job_pb2.JOB_STATE_RUNNING,
        stage=job_pb2.JobStage.ValueType(stage),
    )


def drained(pending: Mailbox) -> list[Job]:
    jobs = []
    while (job := pending.take()) is not None:
        jobs.append(job)
    return jobs


def test_a_reader_that_keeps_up_gets_everything() -> None:
    pending = Mailbox()
    jobs = [running(revision) for revision in range(KEPT)]
    for job in jobs:
        pending.push(job)
    assert drained(pending) == jobs


def test_a_slow_reader_gets_the_last_of_every_stage() -> None:
    pending = Mailbox()
    for revision in range(6000):
        pending.push(running(revision, stage=revision // 1000 + 1))
    jobs = drained(pending)
    assert len(jobs) <= KEPT
    assert [job.revision for job in jobs] == sorted(job.revision for job in jobs)
    assert {999, 1999, 2999, 3999, 4999, 5999} <= {job.revision for job in jobs}


def test_jobs_are_collapsed_each_for_itself() -> None:
    jobs = [running(1), running(1, job_id="b"), running(2), running(3, 2), running(2, job_id="b")]
    kept = collapse(jobs, lambda job, later: job.stage == later.stage)
    assert [(job.id, job.revision) for job in kept] == [("a", 2), ("b", 2), ("a", 3)]


def test_a_watcher_of_all_jobs_keeps_only_those_whose_record_can_live() -> None:
    pending = Mailbox(timedelta(hours=1))
    for number in range(KEPT_OF_ALL):
        old = Job(id=f"old-{number}", revision=3, state=job_pb2.JOB_STATE_FAILED)
        old.end_time.FromDatetime(datetime.now(UTC) - timedelta(hours=2))
        pending.push(old)
    for stage in range(1, 7):
        for revision in range(KEPT_OF_ALL):
            pending.push(running(stage * KEPT_OF_ALL + revision, stage, "new"))
            pending.push(running(stage, stage, f"other-{revision}"))
    assert len(drained(pending)) <= 3 * KEPT_OF_ALL


async def test_the_reader_waits() -> None:
    pending = Mailbox()
    reader = asyncio.create_task(pending.next())
    await asyncio.sleep(0)
    pending.push(running(1))
    assert (await reader).revision == 1


async def test_a_failure_ends_the_watch() -> None:
    pending = Mailbox()
    pending.push(running(1))
    pending.fail(Failure(reason_pb2.REASON_SHUTTING_DOWN, "Watch again."))
    with pytest.raises(Failure, match=r"Watch again\."):
        await pending.next()
