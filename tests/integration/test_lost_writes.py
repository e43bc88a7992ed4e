"""Watches over a Redis that lost its last writes, as one does that fails over."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import SnapshotEnd
from ingot_server.errors import Failure
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lifecycle import copy_of, same_result
from ingot_server.jobs.position import version
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis
from tests.lost_writes import dumped, restored
from tests.records import claimed_job, queued_job
from tests.waiting import TIMEOUT_SECONDS


async def progressed(records: Records, job: Job, token: str, count: int) -> Job:
    for done in range(count):
        job = copy_of(job)
        job.progress.stage.bytes_done = done + 1
        job = await records.write(job, token)
    return job


async def finished(records: Records, job: Job, token: str) -> Job:
    job = copy_of(job)
    job.state = job_pb2.JOB_STATE_SUCCEEDED
    return await records.write(job, token)


@pytest.mark.parametrize("writes", [0, 1, 10])
async def test_a_watch_continues_with_the_record_as_it_is_now(
    feed: Feed, records: Records, redis: Redis, writes: int
) -> None:
    job, token = await claimed_job(records)
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        contextlib.aclosing(feed.watch(job.id)) as changes,
    ):
        assert await anext(changes) == job
        dump = await dumped(redis)
        lost = await progressed(records, job, token, 5)
        while (await anext(changes)) != lost:
            pass
        await restored(redis, dump)
        # It may grow past what was lost before anyone notices the loss.
        job = await progressed(records, await _current(records, job.id), token, writes)
        feed._recheck_now.set()
        if not writes:
            again = await anext(changes)
            assert version(again) > version(lost)
            assert again.progress.stage.bytes_done == 0
        ended = await finished(records, await _current(records, job.id), token)
        seen = [change async for change in changes]
    assert same_result(seen[-1], ended)
    versions = [version(change) for change in seen]
    assert versions == sorted(set(versions))


async def test_a_job_that_ended_meanwhile_ends_its_watch(
    feed: Feed, records: Records, redis: Redis
) -> None:
    job, token = await claimed_job(records)
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        contextlib.aclosing(feed.watch(job.id)) as changes,
    ):
        dump = await dumped(redis)
        lost = await progressed(records, job, token, 5)
        while (await anext(changes)) != lost:
            pass
        await restored(redis, dump)
        await finished(records, await _current(records, job.id), token)
        feed._recheck_now.set()
        *_, last = [change async for change in changes]
    assert last.state == job_pb2.JOB_STATE_SUCCEEDED


async def test_a_resumed_watch_continues_with_the_record_as_it_is_now(
    feed: Feed, records: Records, redis: Redis
) -> None:
    job, token = await claimed_job(records)
    dump = await dumped(redis)
    lost = await progressed(records, job, token, 5)
    await restored(redis, dump)
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        contextlib.aclosing(feed.watch(job.id, after=version(lost))) as changes,
    ):
        again = await anext(changes)
        assert version(again) > version(lost)
        ended = await finished(records, again, token)
        assert await anext(changes) == ended


async def test_a_watch_of_all_jobs_starts_over(feed: Feed, records: Records, redis: Redis) -> None:
    job, token = await claimed_job(records)
    quiet = await queued_job(records, "quiet")
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        contextlib.aclosing(feed.watch_all(lambda _: True, 10)) as updates,
    ):
        while (await anext(updates)).event != SnapshotEnd():
            pass
        dump = await dumped(redis)
        lost = await progressed(records, job, token, 5)
        gone = await queued_job(records, "gone")
        while (update := await anext(updates)).event != gone:
            pass
        await restored(redis, dump)
        feed._recheck_now.set()
        received = []
        while (again := await anext(updates)).event != SnapshotEnd():
            received.append(again.event)
    jobs = {each.id: each for each in received if isinstance(each, Job)}
    assert gone.id in received
    assert jobs[quiet.id] == quiet
    assert version(jobs[job.id]) > version(lost)
    with pytest.raises(Failure) as caught:
        async with contextlib.aclosing(
            feed.watch_all(lambda _: True, 10, resume=update.position)
        ) as updates:
            await anext(updates)
    assert caught.value.reason == reason_pb2.REASON_RESUME_TOKEN_EXPIRED


async def test_another_redis_begins_another_epoch(
    feed: Feed, records: Records, redis: Redis
) -> None:
    job = await queued_job(records)
    position = (await records.history.since(None)).position
    await redis.hset("ingot:history", "run_id", "another")
    assert (await records.history.since(position)).changes is None
    cancelled = await records.cancel(job.id)
    assert cancelled is not None
    assert cancelled.epoch > job.epoch


async def _current(records: Records, job_id: str) -> Job:
    job = await records.get(job_id)
    assert job is not None
    return job
