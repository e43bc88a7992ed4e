"""The feed on a real Redis: order, slow readers, broken subscriptions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs import feed as feed_module
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.history import TRAIL_LENGTH
from ingot_server.jobs.lifecycle import milestone
from ingot_server.jobs.position import BEGINNING, Version, version
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis
from tests.records import claimed_job, queued_job
from tests.waiting import TIMEOUT_SECONDS

STAGES = (
    job_pb2.JOB_STAGE_RESOLVING,
    job_pb2.JOB_STAGE_DOWNLOADING,
    job_pb2.JOB_STAGE_PROBING,
    job_pb2.JOB_STAGE_STORING,
    job_pb2.JOB_STAGE_COMMITTING,
)


async def run(records: Records, job: Job, writes_a_stage: int = 40) -> Job:
    """Take a job through all its stages as fast as Redis allows."""
    claim = await records.claim(job.id)
    assert claim is not None
    job, token = claim.job, claim.token
    for stage in STAGES:
        job.stage = stage
        for done in range(writes_a_stage):
            job.progress.stage.bytes_done = done
            job = await records.write(job, token)
    job.state = job_pb2.JOB_STATE_SUCCEEDED
    return await records.write(job, token)


async def all_of(feed: Feed, job_id: str, after: Version = BEGINNING) -> list[Job]:
    async with contextlib.aclosing(feed.watch(job_id, after=after)) as changes:
        return [job async for job in changes]


async def started(*watches: AsyncGenerator[Job, None]) -> list[asyncio.Task[list[Job]]]:
    """Read watches of jobs that have not ended, after each has received the current revision."""
    reading = [asyncio.create_task(_first(watch)) for watch in watches]
    first = await asyncio.gather(*reading)
    return [
        asyncio.create_task(_rest(watch, job)) for watch, job in zip(watches, first, strict=True)
    ]


async def _first(watch: AsyncGenerator[Job, None]) -> Job:
    return await anext(watch)


async def _rest(watch: AsyncGenerator[Job, None], first: Job) -> list[Job]:
    async with contextlib.aclosing(watch):
        return [first, *[job async for job in watch]]


async def until_ended(feed: Feed, job_id: str) -> AsyncGenerator[Job, None]:
    """Yield what a watch of all jobs yields for one of them."""
    async with contextlib.aclosing(feed.watch_all(lambda job: job.id == job_id, 10)) as changes:
        async for update in changes:
            if isinstance(update.event, Job):
                yield update.event
                if update.event.HasField("end_time"):
                    return


def check(seen: list[Job], stages: bool = True) -> None:
    revisions = [job.revision for job in seen]
    assert revisions == sorted(set(revisions))
    assert seen[-1].state == job_pb2.JOB_STATE_SUCCEEDED
    if stages:
        milestones = list(dict.fromkeys(milestone(job) for job in seen))
        running, done = job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_SUCCEEDED
        assert milestones == [
            (job_pb2.JOB_STATE_QUEUED, 0, 0),
            *((running, stage, 1) for stage in STAGES),
            (done, STAGES[-1], 1),
        ]


async def test_every_revision_arrives_in_order(feed: Feed, records: Records) -> None:
    job = await queued_job(records)
    [watcher] = await started(feed.watch(job.id))
    ended = await run(records, job)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        seen = await watcher
    check(seen)
    assert [each.revision for each in seen] == list(range(1, ended.revision + 1))


async def test_a_slow_reader_misses_no_stage(feed: Feed, records: Records) -> None:
    job = await queued_job(records)
    seen = []
    async with contextlib.aclosing(feed.watch(job.id)) as changes:
        seen.append(await anext(changes))
        ended = await run(records, job)
        await asyncio.sleep(0.05)
        seen += [change async for change in changes]
    check(seen)
    assert seen[-1] == ended
    assert len(seen) < 60


async def test_a_thousand_watchers_of_one_job(feed: Feed, records: Records) -> None:
    job = await queued_job(records)
    watchers = await started(*(feed.watch(job.id) for _ in range(1000)))
    ended = await run(records, job, writes_a_stage=1)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        seen = await asyncio.gather(*watchers)
    assert all(each[-1] == ended for each in seen)
    check(seen[0])
    check(seen[-1])


async def test_an_ended_job(feed: Feed, records: Records) -> None:
    ended = await run(records, await queued_job(records), writes_a_stage=1)
    assert await all_of(feed, ended.id) == [ended]
    assert await all_of(feed, ended.id, version(ended)) == []


async def test_a_resumed_watch_receives_what_it_missed(feed: Feed, records: Records) -> None:
    job = await queued_job(records)
    await run(records, job, writes_a_stage=3)
    seen = [job, *await all_of(feed, job.id, version(job))]
    check(seen)


async def test_an_unknown_job(feed: Feed) -> None:
    for after in (BEGINNING, Version(1, 3)):
        with pytest.raises(Failure) as caught:
            await all_of(feed, "no-such-job", after)
        assert caught.value.reason == reason_pb2.REASON_JOB_NOT_FOUND


async def test_a_broken_subscription_loses_nothing(
    feed: Feed, records: Records, redis: Redis
) -> None:
    job = await queued_job(records)
    *watchers, all_jobs = await started(
        *(feed.watch(job.id) for _ in range(3)), until_ended(feed, job.id)
    )

    async def break_again_and_again() -> None:
        while True:
            await redis.client_kill_filter(_type="pubsub")
            await asyncio.sleep(0.03)

    breaker = asyncio.create_task(break_again_and_again())
    await run(records, job, writes_a_stage=60)
    breaker.cancel()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        for seen in await asyncio.gather(*watchers):
            check(seen)
        check(await all_jobs, stages=False)


async def test_a_lost_message_is_noticed(
    feed: Feed, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_deliver", lambda _: None)
    monkeypatch.setattr(feed_module, "RECHECK_SECONDS", 0.1)
    job = await queued_job(records)
    watcher, all_jobs = await started(feed.watch(job.id), until_ended(feed, job.id))
    feed._recheck_now.set()
    await run(records, job, writes_a_stage=2)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        check(await watcher)
        check(await all_jobs, stages=False)


async def test_a_wiped_redis_ends_the_watch(feed: Feed, records: Records, redis: Redis) -> None:
    job = await queued_job(records)
    [watcher] = await started(feed.watch(job.id))
    await redis.flushall()
    feed._recheck_now.set()
    with pytest.raises(Failure) as caught:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await watcher
    assert caught.value.reason == reason_pb2.REASON_JOB_NOT_FOUND


async def test_closing_ends_every_watch(redis: Redis, records: Records, settings: Settings) -> None:
    feed = Feed(redis, records, settings)
    await feed.start()
    job = await queued_job(records)
    watchers = await started(feed.watch(job.id), until_ended(feed, job.id))
    await feed.close()
    for watcher in (*watchers, all_of(feed, job.id)):
        with pytest.raises(Failure) as caught:
            await watcher
        assert caught.value.reason == reason_pb2.REASON_SHUTTING_DOWN


async def test_an_idle_watch_sends_heartbeats(
    feed: Feed, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "HEARTBEAT_SECONDS", 0.05)
    job = await queued_job(records)
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        contextlib.aclosing(feed.watch_with_heartbeats(job.id)) as changes,
    ):
        assert [await anext(changes) for _ in range(3)] == [job, None, None]
        assert await records.cancel(job.id) == await anext(changes)


async def test_a_watch_is_not_resumed_if_a_stage_may_be_missing(
    feed: Feed, records: Records
) -> None:
    job, token = await claimed_job(records)
    for number in range(TRAIL_LENGTH + 3):
        job.stage = STAGES[number % 2]
        job = await records.write(job, token)
    with pytest.raises(Failure) as caught:
        await all_of(feed, job.id, Version(job.epoch, 2))
    assert caught.value.reason == reason_pb2.REASON_RESUME_TOKEN_EXPIRED


async def test_nothing_is_kept_of_a_watch_that_ended(feed: Feed, records: Records) -> None:
    job = await queued_job(records)
    async with contextlib.aclosing(feed.watch(job.id)) as changes:
        assert await anext(changes) == job
    async with contextlib.aclosing(feed.watch_all(lambda _: True, 10)) as changes:
        assert (await anext(changes)).event == job
    assert not feed._job_watches
    assert not feed._all_jobs.watches
