"""Care for sources on a real Redis: rate, jobs at once, breaker, and what is an attempt."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot.v1.reason_pb2 import Reason
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs import throttle as care_module
from ingot_server.jobs.records import Records
from ingot_server.jobs.throttle import SourceThrottle
from ingot_server.source_settings import SourceSettings
from ingot_server.worker import Worker

BOT_CHECK = reason_pb2.REASON_BOT_CHECK
RATE_LIMITED = reason_pb2.REASON_RATE_LIMITED
# Longer than a test lasts: `pass_the_block` has it over.
MOMENT = timedelta(minutes=1)
BREAKING = SourceSettings(block=MOMENT, longest_block=4 * MOMENT)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(care_module, "ACQUIRE_TIMEOUT", timedelta(milliseconds=50))


def throttling(redis: Redis, settings: Settings, source: SourceSettings) -> SourceThrottle:
    return SourceThrottle(redis, {"youtube": source}, settings)


async def turn(
    throttle: SourceThrottle, job_id: str, reason: Reason.ValueType | None = None
) -> Failure | None:
    """One job's turn, in which the source answers with `reason`; the Failure, if it had none."""
    try:
        async with throttle.turn("youtube", job_id):
            if reason is not None:
                raise Failure(reason, "said the source")
    except Failure as failure:
        return failure
    return None


async def refused(throttle: SourceThrottle, job_id: str) -> Failure:
    failure = await turn(throttle, job_id)
    assert failure is not None
    assert failure.deferred
    return failure


async def pass_the_block(redis: Redis) -> None:
    """As if the time had come at which the source may be tried again."""
    assert not await redis.hset("ingot:source:youtube", "until", "0")


async def test_a_burst_goes_at_once_and_the_rest_in_line(redis: Redis, settings: Settings) -> None:
    source = SourceSettings(rate=10, rate_period=timedelta(seconds=20), burst=3)
    throttle, elsewhere = (throttling(redis, settings, source) for _ in range(2))
    assert [await turn(throttle, f"a{number}") for number in range(3)] == [None] * 3
    waits = [await refused(elsewhere, f"b{number}") for number in range(3)]
    assert {failure.reason for failure in waits} == {RATE_LIMITED}
    seconds = [failure.retry_after.total_seconds() for failure in waits]
    # Each has a place of its own, one interval after the one before.
    assert seconds[0] <= 2 < seconds[1] <= 4 < seconds[2] <= 6
    await asyncio.sleep(seconds[0])
    # Who came first is served first, whoever asks meanwhile.
    assert await turn(throttle, "b0") is None
    assert (await refused(throttle, "c0")).retry_after > waits[2].retry_after / 2


async def test_a_short_wait_is_waited_for(
    redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(care_module, "ACQUIRE_TIMEOUT", timedelta(seconds=2))
    source = SourceSettings(rate=10, rate_period=timedelta(seconds=1))
    throttle = throttling(redis, settings, source)
    assert [await turn(throttle, f"a{number}") for number in range(4)] == [None] * 4


async def test_no_more_than_so_many_jobs_run_at_once(redis: Redis, settings: Settings) -> None:
    throttle = throttling(redis, settings, SourceSettings(concurrency=2))
    async with throttle.turn("youtube", "a"), throttle.turn("youtube", "b"):
        assert (await refused(throttle, "c")).reason == RATE_LIMITED
    assert await turn(throttle, "c") is None


async def test_turns_are_kept_while_held_and_freed_when_their_worker_dies(
    redis: Redis, settings: Settings
) -> None:
    hasty = settings.replace(lease=timedelta(seconds=2))
    throttle = throttling(redis, hasty, SourceSettings(concurrency=1))
    async with throttle.turn("youtube", "a"):
        await asyncio.sleep(2.5)
        await refused(throttle, "b")
    # A worker that was killed: its turn was taken, and nothing comes of it any more.
    await throttle._take("youtube", "c", "turn of the dead")
    await refused(throttle, "b")
    await asyncio.sleep(2.05)
    assert await turn(throttle, "b") is None


async def test_a_cancelled_job_gives_its_turn_back(redis: Redis, settings: Settings) -> None:
    throttle = throttling(redis, settings, SourceSettings(concurrency=1))
    began = asyncio.Event()

    async def run() -> None:
        async with throttle.turn("youtube", "a"):
            began.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await began.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert await turn(throttle, "b") is None


async def test_a_bot_check_blocks_for_ever_longer_until_a_trial_gets_through(
    redis: Redis, settings: Settings
) -> None:
    throttle = throttling(redis, settings, BREAKING)
    lengths = []
    for number in range(4):
        assert (await turn(throttle, f"try{number}", BOT_CHECK)) is not None
        failure = await refused(throttle, "other")
        assert failure.reason == BOT_CHECK
        blocked = (await throttle.blocked(["youtube"]))["youtube"]
        assert blocked.reason == BOT_CHECK
        lengths.append(round(blocked.retry_after / MOMENT))
        await pass_the_block(redis)
    assert lengths == [1, 2, 4, 4]
    async with throttle.turn("youtube", "trial"):
        await refused(throttle, "other")
        assert "youtube" in await throttle.blocked(["youtube"])
    assert await throttle.blocked(["youtube"]) == {}
    assert await turn(throttle, "other") is None
    # Closed means forgotten: the next block is the first again.
    await turn(throttle, "last", BOT_CHECK)
    assert (await throttle.blocked(["youtube"]))["youtube"].retry_after <= MOMENT


async def test_only_the_trial_decides(redis: Redis, settings: Settings) -> None:
    throttle = throttling(redis, settings, BREAKING)
    async with throttle.turn("youtube", "begun before"):
        await turn(throttle, "a", BOT_CHECK)
    await throttle.note("youtube", None)
    assert "youtube" in await throttle.blocked(["youtube"])
    await pass_the_block(redis)
    # A trial that failed for a reason of our own decides nothing, and another may try.
    await turn(throttle, "b", reason_pb2.REASON_STORAGE_UNAVAILABLE)
    assert "youtube" in await throttle.blocked(["youtube"])
    # The source answers again, if only to say that there is no such video.
    await turn(throttle, "c", reason_pb2.REASON_MEDIA_DOES_NOT_EXIST)
    assert await throttle.blocked(["youtube"]) == {}


async def test_a_run_of_rate_limits_blocks_and_single_ones_do_not(
    redis: Redis, settings: Settings
) -> None:
    throttle = throttling(redis, settings, BREAKING)
    for reason in (RATE_LIMITED, RATE_LIMITED, None, RATE_LIMITED, RATE_LIMITED):
        await turn(throttle, "a", reason)
    assert await throttle.blocked(["youtube"]) == {}
    await turn(throttle, "a", RATE_LIMITED)
    assert (await throttle.blocked(["youtube"]))["youtube"].reason == RATE_LIMITED


async def test_patience_with_a_source_that_refuses_ends(redis: Redis, settings: Settings) -> None:
    impatient = settings.replace(source_wait_timeout=timedelta(milliseconds=100))
    throttle = throttling(redis, impatient, SourceSettings(block=timedelta(minutes=1)))
    await turn(throttle, "a", BOT_CHECK)
    assert (await refused(throttle, "b")).retry_after <= impatient.source_wait_timeout
    await asyncio.sleep(0.12)
    failure = await turn(throttle, "b")
    assert failure is not None
    assert (failure.reason, failure.deferred, failure.final) == (BOT_CHECK, False, True)
    # Another job has a patience of its own.
    await refused(throttle, "c")


async def test_waiting_for_a_turn_is_no_attempt(redis: Redis, settings: Settings) -> None:
    records = Records(redis, settings)
    job, _ = await records.create(Job(kind=job_pb2.JOB_KIND_INGEST, media=Media(id="media")))
    for _ in range(5):
        claimed = await records.claim(job.id)
        assert claimed is not None
        assert claimed[0].attempt == 1
        failure = Failure(RATE_LIMITED, "waits", deferred=True)
        job = await records.release(
            job.id, claimed[1], retry_time=None, error=failure.status(), deferred=True
        )
        assert (job.state, job.attempt) == (job_pb2.JOB_STATE_QUEUED, 0)


async def test_a_worker_puts_a_job_back_and_fails_it_when_patience_is_over(
    redis: Redis, settings: Settings
) -> None:
    throttle = throttling(redis, settings, SourceSettings())
    await throttle.note("youtube", Failure(BOT_CHECK, "said the source"))
    patient = settings.replace(source_wait_timeout=timedelta(seconds=1))
    records = Records(redis, patient)
    url = "https://www.youtube.com/watch?v=dQw4w9WgXcQ"
    new = Job(kind=job_pb2.JOB_KIND_INGEST, url=url, media=Media(id="a" * 52))
    job, _ = await records.create(new)
    worker = Worker(patient)
    await worker.start()
    try:
        await worker.run(job.id)
        waiting = await records.get(job.id)
        assert waiting is not None
        assert (waiting.state, waiting.attempt) == (job_pb2.JOB_STATE_QUEUED, 0)
        assert waiting.HasField("retry_time")
        assert Failure.from_status(waiting.error).reason == BOT_CHECK
        await asyncio.sleep(1.05)
        await worker.run(job.id)
        ended = await records.get(job.id)
        assert ended is not None
        assert (ended.state, ended.attempt) == (job_pb2.JOB_STATE_FAILED, 1)
        assert Failure.from_status(ended.error).reason == BOT_CHECK
    finally:
        await worker.stop()


async def test_cookies_and_proxy_are_those_of_the_source(redis: Redis, settings: Settings) -> None:
    throttle = throttling(redis, settings, SourceSettings(proxy="http://proxy.example:3128"))
    assert throttle.proxy_for("youtube") == "http://proxy.example:3128"
    assert (throttle.proxy_for("http"), throttle.cookies_for("youtube")) == ("", "")
