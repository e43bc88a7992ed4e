"""A Redis that refuses for now, that stops responding, or whose responses are lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio.client import PubSub

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs import feed as feed_module
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lease import hold
from ingot_server.jobs.outcomes import Claim
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis, connect
from ingot_server.worker import Worker
from tests.records import claimed_job, new_job, queued_job
from tests.relay import Relay, relaying
from tests.waiting import TIMEOUT_SECONDS, until


@asynccontextmanager
async def refusing_writes(redis: Redis) -> AsyncIterator[None]:
    """Make Redis refuse writes like a primary that has lost its replicas, as in a failover."""
    await redis.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        await redis.config_set("min-replicas-to-write", 0)


@pytest.fixture
async def relay(settings: Settings, tmp_path: Path) -> AsyncIterator[Relay]:
    server = settings.redis_url.removeprefix("unix://")
    async with relaying(server, tmp_path / "relay") as running:
        yield running


@pytest.fixture
async def relayed(relay: Relay, settings: Settings, tmp_path: Path) -> AsyncIterator[Redis]:
    """A connection through the relay."""
    async with connect(settings.replace(redis_url=f"unix://{tmp_path}/relay")) as connection:
        yield connection


async def becomes(records: Records, job: Job, state: job_pb2.JobState.ValueType) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (found := await records.get(job.id)) is None or found.state != state:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.05)


async def test_a_redis_that_refuses_for_now_is_unavailable(records: Records, redis: Redis) -> None:
    async with refusing_writes(redis):
        with pytest.raises(Failure) as caught:
            await records.create(new_job())
    assert caught.value.reason == reason_pb2.REASON_CACHE_UNAVAILABLE
    assert (await records.create(new_job())).is_new


async def test_lost_jobs_are_recovered_when_redis_accepts_writes_again(
    settings: Settings, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    records = Records(redis, settings.replace(lease=timedelta(milliseconds=100)))
    worker = Worker(settings)
    await worker.start()
    try:
        job, _ = await claimed_job(records)
        async with refusing_writes(redis):
            await until(lambda: "Redis cannot be used" in caplog.text)
        await becomes(records, job, job_pb2.JOB_STATE_QUEUED)
    finally:
        await worker.stop()


async def test_a_job_is_released_when_redis_accepts_writes_again(
    records: Records, feed: Feed, redis: Redis
) -> None:
    job, token = await claimed_job(records)
    async with hold(records, feed, Claim(job, token, run=1)) as lease:
        async with refusing_writes(redis):
            releasing = asyncio.create_task(lease.release())
            await asyncio.sleep(0.3)
            assert not releasing.done()
        released = await releasing
    assert released.state == job_pb2.JOB_STATE_QUEUED
    assert await records.get(job.id) == released


async def test_children_are_added_when_redis_accepts_writes_again(
    records: Records, feed: Feed, redis: Redis
) -> None:
    job, token = await claimed_job(records)
    async with hold(records, feed, Claim(job, token, run=1)) as lease:
        async with refusing_writes(redis):
            adding = asyncio.create_task(lease.add_child(new_job("entry"), entry="entry", order=0))
            await asyncio.sleep(0.3)
            assert not adding.done()
        child = await adding
    assert await records.get(child.id) == child


async def test_a_claim_whose_response_is_lost_to_a_cancel_is_released(
    records: Records, relay: Relay, relayed: Redis, settings: Settings
) -> None:
    ours = Records(relayed, settings)
    job = await queued_job(ours)  # after this it knows the epoch, and claims with one call
    relay.silence_after(b"next_token")
    claiming = asyncio.create_task(ours.claim(job.id))
    await relay.lost.wait()
    assert (await _read(records, job)).state == job_pb2.JOB_STATE_RUNNING
    relay.silence_after(b"")
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    assert (await _read(records, job)).state == job_pb2.JOB_STATE_QUEUED


async def test_a_dead_subscription_is_replaced(
    redis: Redis,
    relay: Relay,
    relayed: Redis,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_module, "IDLE_SECONDS", 0.3)
    feed = Feed(relayed, Records(relayed, settings), settings)
    await feed.start()
    [before] = await _subscribers(redis)
    relay.silence()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while await _subscribers(redis) - {before} == set():  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.05)
    await feed.close()


async def test_an_idle_subscription_is_kept(
    redis: Redis, records: Records, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinged = asyncio.Semaphore(0)
    ping = PubSub.ping

    async def counted(pubsub: PubSub) -> None:
        await ping(pubsub)
        pinged.release()

    monkeypatch.setattr(feed_module, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(PubSub, "ping", counted)
    feed = Feed(redis, records, settings)
    await feed.start()
    [before] = await _subscribers(redis)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        for _ in range(3):
            await pinged.acquire()
    assert await _subscribers(redis) == {before}
    await feed.close()


async def _read(records: Records, job: Job) -> Job:
    found = await records.get(job.id)
    assert found is not None
    return found


async def _subscribers(redis: Redis) -> set[str]:
    return {client["id"] for client in await redis.client_list(_type="pubsub")}
