"""Progress is written as often as someone watches it, in another process than the worker's."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from ingot.v1.job_pb2 import Job
from ingot_server.config import Settings
from ingot_server.jobs import watched_jobs
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lease import Lease, hold
from ingot_server.jobs.outcomes import Claim
from ingot_server.jobs.records import Records
from ingot_server.jobs.watched_jobs import (
    ANY_JOB,
    LISTED_SECONDS,
    UNWATCHED_SECONDS,
    WATCHED_SECONDS,
)
from ingot_server.redis import Redis, connect
from tests.records import claimed_job
from tests.waiting import TIMEOUT_SECONDS, until


@pytest.fixture
async def far_feed(settings: Settings) -> AsyncIterator[Feed]:
    """The feed of another process, which serves watchers."""
    redis = connect(settings)
    opened = Feed(redis, Records(redis, settings), settings)
    await opened.start()
    yield opened
    await opened.close()
    await redis.aclose()


async def rate(feed: Feed, job: Job, seconds: float) -> None:
    """Wait until the progress of a job is written so often."""
    await until(lambda: feed.watched.progress_seconds(job) == seconds)


async def test_a_worker_hears_who_watches(feed: Feed, far_feed: Feed) -> None:
    job = Job(id="job")
    part = Job(id="part", parent_job_id="job")
    other = Job(id="other")
    assert feed.watched.progress_seconds(job) == UNWATCHED_SECONDS
    assert feed.watched.progress_seconds(part) == LISTED_SECONDS
    with far_feed.watched.watching("job"):
        await rate(feed, job, WATCHED_SECONDS)
        assert feed.watched.progress_seconds(part) == WATCHED_SECONDS
        assert feed.watched.progress_seconds(other) == UNWATCHED_SECONDS
        with far_feed.watched.watching(ANY_JOB):
            await rate(feed, other, LISTED_SECONDS)


async def test_who_polls_a_job_is_a_watcher_of_it(feed: Feed, far_feed: Feed) -> None:
    far_feed.watched.look_at("job")
    await rate(feed, Job(id="job"), WATCHED_SECONDS)


async def test_a_long_watch_is_repeated_and_then_forgotten(
    feed: Feed, far_feed: Feed, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_jobs, "_MESSAGE_SECONDS", 0.05)
    monkeypatch.setattr(watched_jobs, "_RECEIVED_SECONDS", 0.01)
    job = Job(id="job")
    async with redis.pubsub() as pubsub, asyncio.timeout(TIMEOUT_SECONDS):
        await pubsub.subscribe(feed.watched.channel)
        with far_feed.watched.watching("job"):
            messages = 0
            while messages < 3:
                message = await pubsub.get_message(timeout=TIMEOUT_SECONDS)
                messages += message is not None and message["data"] == b"job"
        await rate(feed, job, UNWATCHED_SECONDS)


async def test_a_lost_message_delays_the_next_one_only(
    feed: Feed, far_feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_jobs, "_MESSAGE_SECONDS", 0.05)
    lost = asyncio.Event()

    def lose(_message: bytes) -> None:
        lost.set()

    with monkeypatch.context() as patch, far_feed.watched.watching("job"):
        patch.setattr(feed.watched, "receive", lose)
        await lost.wait()
        patch.undo()
        await rate(feed, Job(id="job"), WATCHED_SECONDS)


async def test_progress_is_written_for_those_who_watch(
    records: Records, feed: Feed, far_feed: Feed
) -> None:
    job, token = await claimed_job(records)
    async with hold(records, feed, Claim(job, token, run=1)) as lease:
        begin = time.monotonic()
        await advance(lease, times=50)
        unwatched = await records.get(job.id)
        assert unwatched is not None
        writes = unwatched.revision - job.revision
        assert writes <= (time.monotonic() - begin) / UNWATCHED_SECONDS

        with far_feed.watched.watching(job.id):
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                contextlib.aclosing(far_feed.watch(job.id)) as changes,
            ):
                await rate(feed, job, WATCHED_SECONDS)
                async for seen in changes:
                    # Nothing has changed since: what waited is written because someone watches.
                    if seen.progress.stage.bytes_done == 50:
                        break


async def advance(lease: Lease, *, times: int) -> None:
    for done in range(1, times + 1):

        def change(job: Job, done: int = done) -> None:
            job.progress.stage.bytes_done = done

        await lease.update(change)
        await asyncio.sleep(0.01)
