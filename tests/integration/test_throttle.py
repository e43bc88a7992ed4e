"""The throttle on a real Redis: rate limit, concurrency limit, breaker, and what is an attempt."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job, JobWaiting
from ingot.v1.media_pb2 import Media
from ingot.v1.reason_pb2 import Reason
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs import throttle as throttle_module
from ingot_server.jobs.outcomes import Deferred
from ingot_server.jobs.placement import Work
from ingot_server.jobs.records import Records
from ingot_server.jobs.throttle import SourceThrottle
from ingot_server.redis import Redis
from ingot_server.source_settings import SourceSettings
from ingot_server.worker import Worker
from tests.waiting import TIMEOUT_SECONDS

BOT_CHECK = reason_pb2.REASON_BOT_CHECK
RATE_LIMITED = reason_pb2.REASON_RATE_LIMITED
# Longer than a test lasts: `end_the_block` ends it.
BLOCK = timedelta(minutes=1)
BREAKING = SourceSettings(block=BLOCK, longest_block=4 * BLOCK)


@pytest.fixture(autouse=True)
def short_acquire_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle_module, "ACQUIRE_TIMEOUT", timedelta(milliseconds=50))


def throttling(redis: Redis, settings: Settings, source: SourceSettings) -> SourceThrottle:
    return SourceThrottle(redis, {"youtube": source}, settings)


async def use(
    throttle: SourceThrottle, job_id: str, reason: Reason.ValueType | None = None
) -> Failure | None:
    """Use the source once, with a failure if there is a `reason`; return the Failure raised.

    Raises Deferred if the job has to wait.
    """
    try:
        async with throttle.permit("youtube", job_id):
            if reason is not None:
                raise Failure(reason, "The source said so.")
    except Failure as failure:
        return failure
    return None


async def deferred(throttle: SourceThrottle, job_id: str) -> JobWaiting:
    """Return what a job waits for that cannot use the source now."""
    with pytest.raises(Deferred) as caught:
        await use(throttle, job_id)
    assert caught.value.waiting.source == "youtube"
    return caught.value.waiting


def left(waiting: JobWaiting) -> timedelta:
    """Return how long a job waits."""
    return waiting.end_time.ToDatetime(UTC) - datetime.now(UTC)


async def end_the_block(redis: Redis) -> None:
    """Make the time come at which the source may be tried again."""
    assert not await redis.hset("ingot:source:youtube", "retry_at", "0")


async def end_the_wait(redis: Redis, job_id: str, longest: timedelta) -> None:
    """Make the time come at which a job has waited for the breaker for as long as it may."""
    milliseconds = longest // timedelta(milliseconds=1)
    await redis.zincrby("ingot:source-blocked:youtube", -milliseconds, job_id)
    assert not await redis.hset(f"ingot:job:{job_id}", "not_before", "0")


async def bring_forward(redis: Redis, by: timedelta) -> None:
    """Make the rate limit and its waiting queue as they are when so much time has passed."""
    milliseconds = by // timedelta(milliseconds=1)
    await redis.hincrby("ingot:source:youtube", "next_time", -milliseconds)
    async for job_id, _ in redis.zscan_iter("ingot:source-waiting:youtube"):
        await redis.zincrby("ingot:source-waiting:youtube", -milliseconds, job_id)


async def test_a_burst_starts_at_once_and_the_rest_wait_in_order(
    redis: Redis, settings: Settings
) -> None:
    minute = timedelta(minutes=1)
    source = SourceSettings(rate=1, rate_period=minute, burst=3)
    throttle, elsewhere = (throttling(redis, settings, source) for _ in range(2))
    assert [await use(throttle, f"a{number}") for number in range(3)] == [None] * 3
    waits = [await deferred(elsewhere, f"b{number}") for number in range(3)]
    assert {waiting.cause for waiting in waits} == {JobWaiting.CAUSE_SOURCE_RATE_LIMIT}
    assert [waiting.jobs_ahead for waiting in waits] == [0, 1, 2]
    minutes = [left(waiting) / minute for waiting in waits]
    # Each has its own place in the waiting queue, one interval after the one before.
    assert minutes[0] <= 1 < minutes[1] <= 2 < minutes[2] <= 3
    await bring_forward(redis, minute)
    # First come, first served, even if another job tries meanwhile.
    assert await use(throttle, "b0") is None
    last = await deferred(throttle, "c0")
    assert last.jobs_ahead == 2
    assert left(last) > left(waits[2]) - minute


async def test_a_short_wait_happens_in_the_worker(
    redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle_module, "ACQUIRE_TIMEOUT", timedelta(seconds=2))
    source = SourceSettings(rate=10, rate_period=timedelta(seconds=1))
    throttle = throttling(redis, settings, source)
    assert [await use(throttle, f"a{number}") for number in range(4)] == [None] * 4


async def test_the_concurrency_limit_applies(redis: Redis, settings: Settings) -> None:
    throttle = throttling(redis, settings, SourceSettings(concurrency=2))
    async with throttle.permit("youtube", "a"), throttle.permit("youtube", "b"):
        cause = (await deferred(throttle, "c")).cause
        assert cause == JobWaiting.CAUSE_SOURCE_CONCURRENCY_LIMIT
    assert await use(throttle, "c") is None


async def test_a_permit_is_renewed_while_held_and_expires_when_its_worker_dies(
    redis: Redis, settings: Settings
) -> None:
    short_lease = settings.replace(lease=timedelta(seconds=4))
    throttle = throttling(redis, short_lease, SourceSettings(concurrency=1))
    permits = "ingot:source-permits:youtube"
    async with asyncio.timeout(TIMEOUT_SECONDS), throttle.permit("youtube", "a"):
        expires_at = await redis.zscore(permits, "a")
        while await redis.zscore(permits, "a") == expires_at:  # noqa: ASYNC110 - only Redis says
            await asyncio.sleep(0.05)
        await deferred(throttle, "b")
    # A worker that was killed: it acquired a permit and never renews it.
    await throttle._acquire("youtube", "job of a dead worker")
    await deferred(throttle, "b")
    await redis.zincrby(permits, -4000, "job of a dead worker")
    assert await use(throttle, "b") is None


async def test_a_cancelled_job_releases_its_permit(redis: Redis, settings: Settings) -> None:
    throttle = throttling(redis, settings, SourceSettings(concurrency=1))
    began = asyncio.Event()

    async def run() -> None:
        async with throttle.permit("youtube", "a"):
            began.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await began.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert await use(throttle, "b") is None


async def test_a_bot_check_opens_the_breaker_for_longer_each_time_until_a_trial_succeeds(
    redis: Redis, settings: Settings
) -> None:
    throttle = throttling(redis, settings, BREAKING)
    lengths = []
    for number in range(4):
        assert (await use(throttle, f"try{number}", BOT_CHECK)) is not None
        waiting = await deferred(throttle, "other")
        assert waiting.cause == JobWaiting.CAUSE_SOURCE_BLOCKED
        assert waiting.reason == BOT_CHECK
        breaker = (await throttle.open_breakers(["youtube"]))["youtube"]
        assert breaker.reason == BOT_CHECK
        lengths.append(round(breaker.retry_after / BLOCK))
        await end_the_block(redis)
    assert lengths == [1, 2, 4, 4]
    async with throttle.permit("youtube", "trial"):
        await deferred(throttle, "other")
        assert "youtube" in await throttle.open_breakers(["youtube"])
    assert await throttle.open_breakers(["youtube"]) == {}
    assert await use(throttle, "other") is None
    # A closed breaker forgets: the next block is as short as the first.
    await use(throttle, "last", BOT_CHECK)
    assert (await throttle.open_breakers(["youtube"]))["youtube"].retry_after <= BLOCK


async def test_only_the_trial_closes_the_breaker(redis: Redis, settings: Settings) -> None:
    throttle = throttling(redis, settings, BREAKING)
    async with throttle.permit("youtube", "started before"):
        await use(throttle, "a", BOT_CHECK)
    await throttle.record_outcome("youtube", None)
    assert "youtube" in await throttle.open_breakers(["youtube"])
    await end_the_block(redis)
    # A trial that failed for a reason of our own changes nothing, and another job may try.
    await use(throttle, "b", reason_pb2.REASON_STORAGE_UNAVAILABLE)
    assert "youtube" in await throttle.open_breakers(["youtube"])
    # The source serves requests again, if only to say that there is no such video.
    await use(throttle, "c", reason_pb2.REASON_MEDIA_DOES_NOT_EXIST)
    assert await throttle.open_breakers(["youtube"]) == {}


async def test_rate_limits_in_a_row_open_the_breaker_and_single_ones_do_not(
    redis: Redis, settings: Settings
) -> None:
    throttle = throttling(redis, settings, BREAKING)
    for reason in (RATE_LIMITED, RATE_LIMITED, None, RATE_LIMITED, RATE_LIMITED):
        await use(throttle, "a", reason)
    assert await throttle.open_breakers(["youtube"]) == {}
    await use(throttle, "a", RATE_LIMITED)
    assert (await throttle.open_breakers(["youtube"]))["youtube"].reason == RATE_LIMITED


async def test_a_job_waits_only_so_long_for_the_breaker(redis: Redis, settings: Settings) -> None:
    short_timeout = settings.replace(source_wait_timeout=timedelta(milliseconds=100))
    throttle = throttling(redis, short_timeout, SourceSettings(block=timedelta(minutes=1)))
    await use(throttle, "a", BOT_CHECK)
    assert left(await deferred(throttle, "b")) <= short_timeout.source_wait_timeout
    await asyncio.sleep(0.12)
    failure = await use(throttle, "b")
    assert failure is not None
    assert (failure.reason, failure.final) == (BOT_CHECK, True)
    # Another job has its own time to wait.
    await deferred(throttle, "c")


async def test_waiting_for_a_permit_is_not_an_attempt(redis: Redis, settings: Settings) -> None:
    records = Records(redis, settings)
    new = Job(kind=job_pb2.JOB_KIND_INGEST, media=Media(id="media"))
    job = (await records.create(new)).job
    for _ in range(5):
        claim = await records.claim(job.id)
        assert claim is not None
        assert claim.job.attempt == 1
        job = await records.release(job.id, claim.token, deferred=True)
        assert (job.state, job.attempt) == (job_pb2.JOB_STATE_QUEUED, 0)


async def test_a_worker_defers_a_blocked_job_and_fails_it_after_the_wait_timeout(
    redis: Redis, settings: Settings
) -> None:
    throttle = throttling(redis, settings, SourceSettings())
    await throttle.record_outcome("youtube", Failure(BOT_CHECK, "The source said so."))
    records = Records(redis, settings)
    url = "https://www.youtube.com/watch?v=dQw4w9WgXcQ"
    new = Job(kind=job_pb2.JOB_KIND_INGEST, url=url, media=Media(id="a" * 52))
    worker = Worker(settings)
    await worker.start()
    try:
        job = (await records.create(new)).job
        await worker.run_job(job.id)
        waiting = await records.get(job.id)
        assert waiting is not None
        assert (waiting.state, waiting.attempt) == (job_pb2.JOB_STATE_QUEUED, 0)
        assert waiting.waiting.cause == JobWaiting.CAUSE_SOURCE_BLOCKED
        assert waiting.waiting.HasField("end_time")
        assert not waiting.HasField("error")
        assert not waiting.HasField("last_attempt_error")
        await end_the_wait(redis, job.id, settings.source_wait_timeout)
        await worker.run_job(job.id)
        ended = await records.get(job.id)
        assert ended is not None
        assert (ended.state, ended.attempt) == (job_pb2.JOB_STATE_FAILED, 1)
        assert Failure.from_status(ended.error).reason == BOT_CHECK
    finally:
        await worker.stop()


async def test_cookies_and_proxy_are_those_of_the_source(redis: Redis, settings: Settings) -> None:
    throttle = throttling(redis, settings, SourceSettings(proxy="http://proxy.example:3128"))
    assert throttle.proxy_for("youtube") == "http://proxy.example:3128"
    assert throttle.proxy_for("http") == ""


URL = "https://www.youtube.com/watch?v=dQw4w9WgXcQ"


async def youtube_jobs(records: Records, count: int, **fields: Any) -> list[str]:
    """Create jobs that need a permit; return their ids in their order."""
    ids = []
    for number in range(count):
        job = Job(kind=job_pb2.JOB_KIND_INGEST, url=URL, media=Media(id=f"m{number}"), **fields)
        job.media.source.name = "youtube"
        ids.append((await records.create(job)).job.id)
    return ids


async def dispatched(records: Records) -> list[str]:
    return [each.job_id for each in (await records.dispatch.take(Work.FETCH)).jobs]


@pytest.fixture
async def slots(records: Records) -> None:
    await records.dispatch.announce("worker", Work.FETCH, 200)
    await records.dispatch.announce("another", Work.FETCH, 200)


@pytest.mark.usefixtures("slots")
async def test_a_job_is_dispatched_with_its_permit_or_not_at_all(
    redis: Redis, settings: Settings, records: Records
) -> None:
    throttle = throttling(redis, settings, SourceSettings(concurrency=2))
    await throttle.announce_limits(["youtube"])
    ids = await youtube_jobs(records, 5)
    assert await dispatched(records) == ids[:2]
    assert await dispatched(records) == []
    async with throttle.permit("youtube", ids[0]):
        await deferred(throttle, "another")
        assert await dispatched(records) == []
    assert await dispatched(records) == [ids[2]]


@pytest.mark.usefixtures("slots")
async def test_a_cancelled_job_gives_its_permit_and_its_token_back(
    redis: Redis, settings: Settings, records: Records
) -> None:
    source = SourceSettings(rate=1, rate_period=timedelta(hours=1), burst=2, concurrency=2)
    throttle = throttling(redis, settings, source)
    await throttle.announce_limits(["youtube"])
    for _ in range(5):
        ids = await youtube_jobs(records, 4)
        assert await dispatched(records) == ids[:2]
        taken = await records.dispatch.take(Work.FETCH)
        assert not taken.jobs
        assert taken.next_permit is not None
        assert timedelta(minutes=50) < taken.next_permit <= timedelta(hours=1)
        for job_id in ids:
            await records.cancel(job_id)
    # A token that was used is not given back.
    [first, *_] = await youtube_jobs(records, 3)
    assert len(await dispatched(records)) == 2
    assert await records.claim(first, worker_id="worker") is not None
    assert await use(throttle, first) is None
    await records.cancel(first)
    assert await dispatched(records) == []


@pytest.mark.usefixtures("slots")
async def test_while_the_breaker_is_open_one_job_is_dispatched_when_its_time_has_come(
    redis: Redis, settings: Settings, records: Records
) -> None:
    throttle = throttling(redis, settings, BREAKING)
    await throttle.announce_limits(["youtube"])
    await use(throttle, "a", BOT_CHECK)
    ids = await youtube_jobs(records, 3)
    assert await dispatched(records) == []
    await end_the_block(redis)
    assert await dispatched(records) == ids[:1]
    assert await use(throttle, ids[0]) is None
    assert await dispatched(records) == ids[1:]


@pytest.mark.usefixtures("slots")
async def test_jobs_that_have_waited_too_long_for_the_breaker_are_dispatched_to_fail(
    redis: Redis, settings: Settings, records: Records
) -> None:
    throttle = throttling(redis, settings, BREAKING)
    await throttle.announce_limits(["youtube"])
    await use(throttle, "a", BOT_CHECK)
    ids = await youtube_jobs(records, 3)
    assert await dispatched(records) == []
    # They have waited for more than the next limit.
    await asyncio.sleep(0.01)
    short_timeout = settings.replace(source_wait_timeout=timedelta(milliseconds=1))
    throttle = throttling(redis, short_timeout, BREAKING)
    await throttle.announce_limits(["youtube"])
    assert await dispatched(records) == ids
    failures = [await use(throttle, job_id) for job_id in ids]
    assert [failure is not None and failure.final for failure in failures] == [True] * 3


@pytest.mark.usefixtures("slots")
async def test_a_child_takes_over_the_permit_of_the_worker_that_runs_it(
    redis: Redis, settings: Settings, records: Records
) -> None:
    throttle = throttling(redis, settings, SourceSettings(concurrency=1))
    await throttle.announce_limits(["youtube"])
    [parent] = await youtube_jobs(records, 1)
    assert await dispatched(records) == [parent]
    async with throttle.permit("youtube", "child", parent_id=parent):
        await deferred(throttle, parent)
    assert await use(throttle, parent) is None


@pytest.mark.usefixtures("slots")
async def test_a_job_says_what_its_source_lets_it_wait_for(
    redis: Redis, settings: Settings, records: Records
) -> None:
    source = SourceSettings(rate=1, rate_period=timedelta(minutes=1))
    await throttling(redis, settings, source).announce_limits(["youtube"])
    ids = await youtube_jobs(records, 3)
    assert await dispatched(records) == ids[:1]
    for ahead, job_id in enumerate(ids[1:]):
        job = await records.get(job_id)
        assert job is not None
        waiting = (await records.explain_waiting(job)).waiting
        assert waiting.cause == JobWaiting.CAUSE_SOURCE_RATE_LIMIT
        assert (waiting.source, waiting.jobs_ahead) == ("youtube", ahead)
        assert ahead < left(waiting) / timedelta(minutes=1) <= ahead + 1
    # It has kept its place.
    await records.cancel(ids[0])
    assert await dispatched(records) == ids[1:2]
