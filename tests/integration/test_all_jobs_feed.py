"""Watches of all jobs on a real Redis: the snapshot, changes, removals, and resuming."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import timedelta

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import SnapshotEnd
from ingot.v1.media_pb2 import Media
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs import feed as feed_module
from ingot_server.jobs.all_jobs_feed import Update
from ingot_server.jobs.changes import entered, succeeded
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lifecycle import copy_of
from ingot_server.jobs.position import Position
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis
from tests.records import queued_job
from tests.waiting import TIMEOUT_SECONDS

END = SnapshotEnd()


def every(_: Job) -> bool:
    return True


@contextlib.asynccontextmanager
async def watching(
    feed: Feed,
    accepts: Callable[[Job], bool] = every,
    snapshot_size: int = 10,
    resume: Position | None = None,
) -> AsyncIterator[AsyncGenerator[Update, None]]:
    updates = feed.watch_all(accepts, snapshot_size, resume=resume)
    async with asyncio.timeout(TIMEOUT_SECONDS), contextlib.aclosing(updates):
        yield updates


async def events(updates: AsyncGenerator[Update, None], count: int) -> list[object]:
    return [(await anext(updates)).event for _ in range(count)]


async def until(updates: AsyncGenerator[Update, None], event: object) -> list[Update]:
    """Return the updates up to an event."""
    received = []
    async for update in updates:
        received.append(update)
        if update.event == event:
            break
    return received


async def ended(records: Records, job: Job) -> list[Job]:
    """Run a job to its end, and return the last revision of each state and stage."""
    claim = await records.claim(job.id)
    assert claim is not None
    revisions = [claim.job]

    async def write(change: Callable[[Job], None]) -> None:
        job = copy_of(revisions[-1])
        change(job)
        revisions.append(await records.write(job, claim.token))

    await write(entered(job_pb2.JOB_STAGE_DOWNLOADING))
    await write(entered(job_pb2.JOB_STAGE_PROBING))
    await write(succeeded(Media(id="stored"), cached=False))
    return revisions


async def test_a_snapshot_of_what_matches_comes_before_changes(
    feed: Feed, records: Records
) -> None:
    old = await queued_job(records, "old", team="news")
    queued = await queued_job(records, "new", team="news")
    await queued_job(records, "other", team="sport")
    async with watching(feed, lambda job: job.labels["team"] == "news") as updates:
        assert await events(updates, 3) == [queued, old, END]
        await queued_job(records, "another", team="sport")
        later = await queued_job(records, "later", team="news")
        assert await events(updates, 1) == [later]


async def test_a_snapshot_has_the_newest_jobs(feed: Feed, records: Records) -> None:
    jobs = [await queued_job(records, name) for name in "abcde"]
    async with watching(feed, snapshot_size=3) as updates:
        assert await events(updates, 4) == [jobs[4], jobs[3], jobs[2], END]
        cancelled = await records.cancel(jobs[0].id)
        assert await events(updates, 1) == [cancelled]


async def test_a_job_that_no_longer_matches_is_sent_once_more(feed: Feed, records: Records) -> None:
    first, second = await queued_job(records, "one"), await queued_job(records, "two")
    async with watching(feed, lambda job: job.state == job_pb2.JOB_STATE_QUEUED) as updates:
        assert await events(updates, 3) == [second, first, END]
        running, *_ = await ended(records, first)
        cancelled = await records.cancel(second.id)
        assert await events(updates, 2) == [running, cancelled]


async def test_an_idle_watch_sends_heartbeats(
    feed: Feed, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "HEARTBEAT_SECONDS", 0.05)
    job = await queued_job(records)
    async with watching(feed, lambda each: each.id == job.id) as updates:
        assert await events(updates, 4) == [job, END, None, None]
        before = await anext(updates)
        await queued_job(records, "other")
        await asyncio.sleep(0.1)
        heartbeat = await anext(updates)
    # A heartbeat says that nothing was missed up to now, also of jobs that do not match.
    assert heartbeat.event is None
    assert heartbeat.position.sequence == before.position.sequence + 1


async def test_a_resumed_watch_receives_every_stage_that_it_missed(
    feed: Feed, records: Records
) -> None:
    job = await queued_job(records, "one")
    async with watching(feed) as updates:
        [*_, last] = await until(updates, END)
    revisions = await ended(records, job)
    new = await queued_job(records, "two")
    async with watching(feed, resume=last.position) as updates:
        received = await until(updates, new)
    assert [update.event for update in received] == [*revisions, new]
    for number, update in enumerate(received):
        async with watching(feed, resume=update.position) as updates:
            rest = [*revisions, new][number + 1 :]
            assert await events(updates, len(rest)) == rest


async def test_a_snapshot_that_was_interrupted_continues(feed: Feed, records: Records) -> None:
    jobs = [await queued_job(records, f"media-{number}") for number in range(5)]
    position: Position | None = None
    received: set[str] = set()
    while len(received) < 5:
        async with watching(feed, resume=position) as updates:
            update = await anext(updates)
            position = update.position
            assert isinstance(update.event, Job)
            received.add(update.event.id)
            rest = await until(updates, END)
            received |= {each.event.id for each in rest if isinstance(each.event, Job)}
            position = rest[-1].position
    assert received == {job.id for job in jobs}
    cancelled = await records.cancel(jobs[0].id)
    async with watching(feed, resume=position) as updates:
        assert await events(updates, 1) == [cancelled]


async def test_an_expired_record_is_reported(
    redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "RECHECK_SECONDS", 0.1)
    records = Records(redis, settings.replace(job_ttl=timedelta(seconds=2)))
    feed = Feed(redis, records, settings)
    await feed.start()
    job = await queued_job(records)
    async with watching(feed) as updates:
        [*_, last] = await until(updates, END)
        cancelled = await records.cancel(job.id)
        assert await events(updates, 2) == [cancelled, job.id]
    async with watching(feed, resume=last.position) as updates:
        assert await events(updates, 1) == [job.id]
    async with watching(feed) as updates:
        assert await events(updates, 1) == [END]
    await feed.close()


async def test_a_position_that_is_too_old_is_refused(
    feed: Feed, records: Records, redis: Redis
) -> None:
    await queued_job(records)
    async with watching(feed) as updates:
        [*_, last] = await until(updates, END)
    await redis.hset("ingot:history", "forgotten", last.position.sequence + 1)
    with pytest.raises(Failure) as caught:
        async with watching(feed, resume=last.position) as updates:
            await anext(updates)
    assert caught.value.reason == reason_pb2.REASON_RESUME_TOKEN_EXPIRED


async def test_a_lost_message_is_noticed(
    feed: Feed, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await queued_job(records)
    async with watching(feed) as updates:
        await until(updates, END)
        with monkeypatch.context() as patched:
            patched.setattr(feed, "_deliver", lambda _: None)
            revisions = await ended(records, job)
            feed._recheck_now.set()
            assert await events(updates, len(revisions)) == revisions
        new = await queued_job(records, "new")
        assert await events(updates, 1) == [new]
