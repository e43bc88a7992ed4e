"""A worker among others: what it leaves to them, and what must not stop it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from ingot.v1 import job_pb2
from ingot_server.config import Settings
from ingot_server.jobs.placement import Work
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis
from ingot_server.worker import Worker
from tests.harness import running_harness
from tests.media import media
from tests.origin import Page, running_origin
from tests.records import claimed_job, queued_job
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores


@pytest.mark.parametrize("stopped", [False, True], ids=["stopping", "stopped"])
async def test_a_stopping_worker_claims_no_job(
    settings: Settings, records: Records, stopped: bool
) -> None:
    worker = Worker(settings)
    await worker.start()
    job = await queued_job(records)
    stopping = asyncio.create_task(worker.stop())
    await asyncio.wait([stopping], timeout=None if stopped else 0)
    await worker.run_job(job.id)
    await stopping
    assert await records.get(job.id) == job


async def test_an_unreadable_record_does_not_delay_other_jobs(
    settings: Settings, redis: Redis
) -> None:
    records = Records(redis, settings.replace(lease=timedelta(milliseconds=100)))
    for field, value in [
        ("record", b"\xff\xff"),
        *[(name, b"0") for name in ("losses", "ended", "token")],
    ]:
        await redis.hset("ingot:job:unreadable", field, value)
    await redis.zadd("ingot:deadlines", {"unreadable": 0})
    job, _ = await claimed_job(records)
    worker = Worker(settings)
    await worker.start()
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while job.state != job_pb2.JOB_STATE_QUEUED:
                await asyncio.sleep(0.05)
                [found] = await records.get_many([job.id])
                assert found is not None
                job = found
    finally:
        await worker.stop()


async def test_zero_jobs_per_host_means_no_limit(settings: Settings) -> None:
    async with (
        running_harness(settings.replace(attempts=1, jobs_per_host=0)) as harness,
        running_origin() as origin,
    ):
        url = origin.serve("/tiny.mp4", Page(media("tiny.mp4").read_bytes()))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            job = await harness.ingest(url)
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED


async def test_a_job_that_its_worker_gives_back_has_lost_no_attempt(settings: Settings) -> None:
    async with running_harness(settings.replace(attempts=1)) as harness, running_origin() as origin:
        gate = asyncio.Event()
        url = origin.serve("/tiny.mp4", Page(media("tiny.mp4").read_bytes(), gate=gate))
        job = await harness.ask(url)
        stopping = Worker(settings)
        await stopping.start()
        running = asyncio.create_task(stopping.run_dispatched(job.id))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await origin.asked_for("/tiny.mp4")
        await stopping.stop()
        await asyncio.wait([running])
        job = await harness.record(job.id)
        assert (job.state, job.attempt) == (job_pb2.JOB_STATE_QUEUED, 0)
        await harness.records.dispatch.announce("another", Work.FETCH, 1)
        assert len((await harness.records.dispatch.take(Work.FETCH)).jobs) == 1

        gate.set()
        job = await harness.end(job)
        assert (job.state, job.attempt) == (job_pb2.JOB_STATE_SUCCEEDED, 1)
        # Nothing of the first run can have the name of what the second one has stored.
        assert job.media.blob.url.endswith("-2.mp4")


async def test_a_job_whose_lease_another_worker_took_is_left_without_a_word_of_a_defect(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with (
        running_harness(settings.replace(lease=timedelta(minutes=1))) as harness,
        running_origin() as origin,
    ):
        gate = asyncio.Event()
        url = origin.serve("/tiny.mp4", Page(media("tiny.mp4").read_bytes(), gate=gate))
        job = await harness.ask(url)
        running = asyncio.create_task(harness.worker.run_job(job.id))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await origin.asked_for("/tiny.mp4")
            await harness.redis.hset(harness.redis.key(f"job:{job.id}"), "token", "another's")
            gate.set()
            await running

    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
    assert f"job {job.id} is abandoned" in caplog.text
