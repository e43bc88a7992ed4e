"""Leases on a real Redis: a holder keeps its lease, and stops at once when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import Any

import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.config import Settings
from ingot_server.jobs.changes import entered
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lease import hold
from ingot_server.jobs.outcomes import Claim, JobCancelled, LeaseLost, QueuedAgain
from ingot_server.jobs.position import Version
from ingot_server.jobs.records import Records
from ingot_server.jobs.watched_jobs import WATCHED_SECONDS
from ingot_server.redis import Redis
from tests.records import claimed_job
from tests.waiting import TIMEOUT_SECONDS

# A busy machine may delay a renewal by most of it.
LEASE = timedelta(seconds=3)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.replace(lease=LEASE)


downloading = entered(job_pb2.JOB_STAGE_DOWNLOADING)


def committing(job: Job) -> None:
    job.stage = job_pb2.JOB_STAGE_COMMITTING


def succeeded(job: Job) -> None:
    job.state = job_pb2.JOB_STATE_SUCCEEDED


def titled(job: Job) -> None:
    job.display_name = "title"


async def test_a_held_job_is_never_overdue(records: Records, feed: Feed) -> None:
    job, token = await claimed_job(records)
    async with hold(records, feed, Claim(job, token, run=1)) as lease:
        for _ in range(6):
            await asyncio.sleep(LEASE.total_seconds() / 4)
            assert not await records.dispatch.sweep(10)
        ended = await lease.update(succeeded)
    assert await records.get(job.id) == ended
    assert ended.HasField("end_time")


@pytest.mark.parametrize("seconds_a_write", [0, 0.03])
async def test_watched_progress_is_written_a_few_times_a_second(
    records: Records, feed: Feed, monkeypatch: pytest.MonkeyPatch, seconds_a_write: float
) -> None:
    job, token = await claimed_job(records)
    write = records.write

    async def slow_write(job: Job, token: str, **seen: Any) -> Job:
        await asyncio.sleep(seconds_a_write)
        return await write(job, token, **seen)

    monkeypatch.setattr(records, "write", slow_write)
    feed.watched.receive(job.id.encode())
    async with hold(records, feed, Claim(job, token, run=1)) as lease:
        entered = await lease.update(downloading)
        revision = entered.revision
        begin = time.monotonic()
        for done in range(1, 101):

            def advance(job: Job, done: int = done) -> None:
                job.progress.stage.bytes_done = done

            await lease.update(advance)
            await asyncio.sleep(0.005)
        ended = await lease.update(succeeded)
    intervals = (time.monotonic() - begin) / WATCHED_SECONDS
    assert revision + 2 <= ended.revision <= revision + 3 + intervals
    assert ended.progress.stage.bytes_done == 100
    changes = await records.history.of_job(job.id, Version(job.epoch, 1))
    assert changes is not None
    assert [change.stage for change in changes][-2:] == [job_pb2.JOB_STAGE_DOWNLOADING] * 2


async def test_a_new_stage_starts_without_measurements(records: Records, feed: Feed) -> None:
    job, token = await claimed_job(records)
    async with hold(records, feed, Claim(job, token, run=1)) as lease:
        lease.note(lambda job: setattr(job.progress.stage, "bytes_done", 7))
        assert not (await lease.update(downloading)).progress.HasField("stage")


async def test_no_stage_is_left_out(records: Records, feed: Feed) -> None:
    job, token = await claimed_job(records)
    stages = [
        job_pb2.JOB_STAGE_DOWNLOADING,
        job_pb2.JOB_STAGE_PROBING,
        job_pb2.JOB_STAGE_STORING,
        job_pb2.JOB_STAGE_COMMITTING,
    ]
    async with (
        contextlib.aclosing(feed.watch(job.id)) as changes,
        asyncio.timeout(TIMEOUT_SECONDS),
    ):
        seen = [await anext(changes)]
        async with hold(records, feed, Claim(job, token, run=1)) as lease:
            for stage in stages[:-1]:
                await lease.update(entered(stage))
            await lease.prove(entered(stages[-1]))
            # It is written: from now on the job cannot be cancelled.
            assert (await records.cancel(job.id)) == lease.job
            await lease.update(succeeded)
        seen += [change async for change in changes]
    missed = await records.history.of_job(job.id, Version(job.epoch, job.revision))
    assert missed is not None
    for jobs in (seen[1:], missed):
        distinct = [each.stage for each in jobs if each.state == job_pb2.JOB_STATE_RUNNING]
        assert list(dict.fromkeys(distinct)) == stages
        assert [each.revision for each in jobs] == sorted({each.revision for each in jobs})
        fractions = [each.progress.fraction for each in jobs]
        assert fractions == sorted(fractions)


async def test_stages_are_written_before_a_job_is_released(records: Records, feed: Feed) -> None:
    job, token = await claimed_job(records)
    async with hold(records, feed, Claim(job, token, run=1)) as lease:
        await lease.update(downloading)
        await lease.release()
    missed = await records.history.of_job(job.id, Version(job.epoch, job.revision))
    assert missed is not None
    assert [each.stage for each in missed] == [job_pb2.JOB_STAGE_DOWNLOADING, 0]


async def test_who_knows_the_record_writes_it_in_one_call(records: Records, redis: Redis) -> None:
    job, token = await claimed_job(records)

    async def calls() -> tuple[int, int]:
        stats = await redis.info("commandstats")
        # Some are within the script.
        return int(stats["cmdstat_evalsha"]["calls"]), int(stats["cmdstat_hmget"]["calls"])

    known = await records.write(job, token)
    before = await calls()
    known = await records.write(known, token, seen=known)
    one = await calls()
    await records.write(known, token)
    reading = await calls()
    assert one[0] - before[0] == 1
    assert reading[1] - one[1] == one[1] - before[1] + 1


async def test_a_stale_view_is_read_again(records: Records) -> None:
    job, token = await claimed_job(records)
    later = await records.write(job, token)
    written = await records.write(later, token, seen=job)
    assert written.revision == later.revision + 1


async def test_noted_progress_is_written_by_itself(records: Records, feed: Feed) -> None:
    job, token = await claimed_job(records)
    async with (
        hold(records, feed, Claim(job, token, run=1)) as lease,
        contextlib.aclosing(feed.watch(job.id)) as changes,
        asyncio.timeout(TIMEOUT_SECONDS),
    ):
        await anext(changes)
        lease.note(lambda job: setattr(job.progress.stage, "bytes_done", 7))
        assert (await anext(changes)).progress.stage.bytes_done == 7


async def test_writers_do_not_overtake_each_other(records: Records, feed: Feed) -> None:
    job, token = await claimed_job(records)
    async with hold(records, feed, Claim(job, token, run=1)) as lease:

        def count(job: Job) -> None:
            job.labels["count"] = str(int(job.labels["count"] or 0) + 1)

        await asyncio.gather(*(lease.update(count) for _ in range(50)))
    stored = await records.get(job.id)
    assert stored is not None
    assert stored.labels["count"] == "50"


@pytest.mark.parametrize("subscribed", [True, False])
async def test_a_cancelled_job_stops_its_body(
    redis: Redis,
    settings: Settings,
    feed: Feed,
    monkeypatch: pytest.MonkeyPatch,
    subscribed: bool,
) -> None:
    # The heartbeat notices it, too, but with a long lease not soon.
    records = Records(redis, settings.replace(lease=timedelta(minutes=5) if subscribed else LEASE))
    if not subscribed:
        monkeypatch.setattr(feed, "_deliver", lambda _: None)
    job, token = await claimed_job(records)
    entered = asyncio.Event()

    async def work() -> None:
        async with hold(records, feed, Claim(job, token, run=1)):
            entered.set()
            await asyncio.Event().wait()

    worker = asyncio.create_task(work())
    await entered.wait()
    await asyncio.sleep(0.02)
    await records.cancel(job.id)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        with pytest.raises(JobCancelled):
            await worker
    assert worker.cancelling() == 0


async def test_a_recovered_job_stops_its_old_body(
    records: Records, feed: Feed, redis: Redis
) -> None:
    job, token = await claimed_job(records)

    async def work() -> None:
        async with hold(records, feed, Claim(job, token, run=1)):
            await redis.zadd("ingot:deadlines", {job.id: 1})
            assert isinstance(await records.recover(job.id), QueuedAgain)
            await asyncio.Event().wait()

    with pytest.raises(LeaseLost) as caught:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await work()
    assert not isinstance(caught.value, JobCancelled)


async def test_a_write_without_the_lease_ends_the_body(records: Records, feed: Feed) -> None:
    job, token = await claimed_job(records)

    async def work() -> None:
        async with hold(records, feed, Claim(job, token, run=1)) as lease:
            await records.cancel(job.id)
            await lease.update(titled)

    with pytest.raises(JobCancelled):
        await work()


async def test_a_body_that_missed_its_cancellation_does_not_start_its_commit(
    records: Records, feed: Feed
) -> None:
    job, token = await claimed_job(records)

    async def work() -> None:
        async with hold(records, feed, Claim(job, token, run=1)) as lease:
            await records.cancel(job.id)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(30)
            with pytest.raises(LeaseLost):
                await lease.update(committing)

    with pytest.raises(JobCancelled):
        await work()


async def test_a_wiped_redis_ends_the_body(records: Records, feed: Feed, redis: Redis) -> None:
    job, token = await claimed_job(records)

    async def work() -> None:
        async with hold(records, feed, Claim(job, token, run=1)):
            await redis.flushall()
            await asyncio.Event().wait()

    with pytest.raises(LeaseLost):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await work()


async def test_a_lease_survives_a_short_outage(records: Records, feed: Feed, redis: Redis) -> None:
    job, token = await claimed_job(records)
    async with hold(records, feed, Claim(job, token, run=1)) as lease:
        outage = asyncio.ensure_future(
            redis.client_pause(timeout=int(LEASE.total_seconds() * 1000 * 0.4))
        )
        await lease.update(downloading)
        await outage
        await asyncio.sleep(LEASE.total_seconds())
        assert not await records.dispatch.sweep(10)
        await lease.update(succeeded)


async def test_a_long_outage_ends_the_body_in_time(
    records: Records, feed: Feed, redis: Redis
) -> None:
    job, token = await claimed_job(records)
    began, outage = time.monotonic(), 2.5 * LEASE.total_seconds()

    async def work() -> None:
        async with hold(records, feed, Claim(job, token, run=1)):
            await redis.client_pause(timeout=int(outage * 1000))
            await asyncio.Event().wait()

    with pytest.raises(LeaseLost):
        await work()
    left = began + outage - time.monotonic()
    assert left > 0
    await asyncio.sleep(left)


async def test_a_cancellation_from_outside_stays_one(records: Records, feed: Feed) -> None:
    job, token = await claimed_job(records)
    entered = asyncio.Event()

    async def work() -> None:
        async with hold(records, feed, Claim(job, token, run=1)):
            entered.set()
            await asyncio.Event().wait()

    worker = asyncio.create_task(work())
    await entered.wait()
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    released = await records.release(job.id, token)
    assert released.state == job_pb2.JOB_STATE_QUEUED


async def test_an_error_of_the_body_comes_through(records: Records, feed: Feed) -> None:
    job, token = await claimed_job(records)
    with pytest.raises(ZeroDivisionError):
        async with hold(records, feed, Claim(job, token, run=1)):
            raise ZeroDivisionError
    await records.renew(job.id, token)


async def test_releasing_a_job_is_not_a_loss(records: Records, feed: Feed) -> None:
    job, token = await claimed_job(records)
    async with hold(records, feed, Claim(job, token, run=1)) as lease:
        released = await lease.release()
        await asyncio.sleep(LEASE.total_seconds())
        assert lease.lost is None
        await lease.update(downloading)
    assert await records.get(job.id) == released
