"""Job records on a real Redis: single flight, fencing, recovery, expiry."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job, JobWaiting
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.outcomes import LeaseLost, NothingToDo, QueuedAgain
from ingot_server.jobs.position import Version, version
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis, connect
from tests.records import claimed_job, new_job
from tests.refusals import failed_attempt_of, reason_of

SHORT = timedelta(milliseconds=60)


@pytest.fixture
def short_deadlines(redis: Redis, settings: Settings) -> Records:
    """Records with very short deadlines."""
    return Records(redis, settings.replace(lease=SHORT, resend_interval=SHORT))


async def first_overdue(records: Records, after: timedelta = SHORT) -> str:
    await asyncio.sleep(after.total_seconds() + 0.02)
    return (await records.dispatch.sweep(10))[0]


async def make_overdue(redis: Redis, job: Job) -> None:
    """Make the job overdue."""
    await redis.zadd("ingot:deadlines", {job.id: 0}, xx=True)


async def time_left(redis: Redis, job: Job) -> timedelta:
    """Return how long it takes until the job is overdue."""
    seconds, microseconds = await redis.time()
    deadline = await redis.zscore("ingot:deadlines", job.id)
    assert deadline is not None
    return timedelta(milliseconds=deadline) - timedelta(seconds=seconds, microseconds=microseconds)


async def test_a_thousand_callers_get_one_job(records: Records) -> None:
    creations = await asyncio.gather(*(records.create(new_job()) for _ in range(1000)))
    assert len({creation.job.id for creation in creations}) == 1
    assert sum(creation.is_new for creation in creations) == 1
    assert len(await records.list(limit=10)) == 1


async def test_a_new_job_is_complete(records: Records) -> None:
    creation = await records.create(new_job(labels={"team": "news"}))
    job = creation.job
    assert creation.is_new
    assert (job.state, job.revision, job.attempt) == (job_pb2.JOB_STATE_QUEUED, 1, 0)
    assert len(job.id) == 26
    assert job.HasField("create_time")
    assert await records.get(job.id) == job


async def test_an_ended_job_frees_its_single_flight_key(records: Records, redis: Redis) -> None:
    job, token = await claimed_job(records)
    assert (job.state, job.attempt, job.revision) == (job_pb2.JOB_STATE_RUNNING, 1, 2)
    assert await redis.ttl(f"ingot:job:{job.id}") == -1
    job.state = job_pb2.JOB_STATE_SUCCEEDED
    ended = await records.write(job, token)
    assert (ended.state, ended.revision) == (job_pb2.JOB_STATE_SUCCEEDED, 3)
    assert ended.HasField("end_time")
    assert 0 < await redis.ttl(f"ingot:job:{job.id}") <= 3600
    again = await records.create(new_job())
    assert again.is_new
    assert again.job.id != job.id


async def test_only_the_first_run_after_a_look_into_the_bucket_may_skip_its_own(
    records: Records,
) -> None:
    async def may_skip(*, unstored: bool) -> bool:
        job = (await records.create(new_job(), unstored=unstored)).job
        found = []
        for _ in range(2):
            claim = await records.claim(job.id)
            assert claim is not None
            found.append(claim.unstored)
            job = await records.release(job.id, claim.token, deferred=True)
        await records.cancel(job.id)
        assert found[1] is False, "an earlier run may have stored it"
        return found[0]

    assert await may_skip(unstored=True)
    # The job that has just ended may have stored it since the look.
    assert not await may_skip(unstored=True)
    assert not await may_skip(unstored=False)


async def test_a_repeated_end_finds_its_own_result(records: Records) -> None:
    job, token = await claimed_job(records)
    job.state = job_pb2.JOB_STATE_SUCCEEDED
    ended = await records.write(job, token)
    assert await records.write(job, token) == ended
    job.state = job_pb2.JOB_STATE_FAILED
    with pytest.raises(LeaseLost):
        await records.write(job, token)


async def test_a_job_that_ended_at_once_takes_no_single_flight_key(
    records: Records, redis: Redis
) -> None:
    creation = await records.create(
        new_job(state=job_pb2.JOB_STATE_SUCCEEDED, cached=True), request_id="one", fingerprint="f"
    )
    assert creation.is_new
    job = creation.job
    assert job.HasField("end_time")
    assert await redis.ttl(f"ingot:job:{job.id}") > 0
    assert await redis.ttl("ingot:request:one") > 0
    assert (await records.create(new_job())).is_new
    again = await records.create(new_job(), request_id="one", fingerprint="f")
    assert (again.job, again.is_new) == (job, False)


async def test_a_request_id_names_one_job(records: Records, redis: Redis) -> None:
    first = (await records.create(new_job("one"))).job
    joined = await records.create(new_job("one"), request_id="r", fingerprint="f")
    assert (joined.job.id, joined.is_new) == (first.id, False)
    await records.cancel(first.id)
    again = await records.create(new_job("one"), request_id="r", fingerprint="f")
    assert (again.job.id, again.is_new) == (first.id, False)
    with pytest.raises(Failure) as caught:
        await records.create(new_job("one"), request_id="r", fingerprint="g")
    assert caught.value.reason == reason_pb2.REASON_REQUEST_ID_REUSED
    assert 0 < await redis.ttl("ingot:request:r") <= 3600
    await redis.delete(f"ingot:job:{first.id}")
    assert (await records.create(new_job("one"), request_id="r", fingerprint="g")).is_new


async def test_an_upload_has_one_job_until_that_fails_or_expires(
    records: Records, redis: Redis
) -> None:
    job, token = await claimed_job(records, "first")
    joined = await records.create(new_job("first"), upload_id="u")
    assert (joined.job.id, joined.is_new) == (job.id, False)
    # The job may have another identity by now, so its media is not what it is found by.
    assert (await records.create(new_job("second"), upload_id="u")).job.id == job.id
    job.state = job_pb2.JOB_STATE_SUCCEEDED
    ended = await records.write(job, token)
    assert (await records.create(new_job("third"), upload_id="u")).job == ended
    assert await records.uploads.job("u") == ended
    assert 0 < await redis.ttl("ingot:upload:u") <= 3600
    await redis.delete(f"ingot:job:{job.id}")
    assert await records.uploads.job("u") is None

    failing = (await records.create(new_job("fourth"), upload_id="u")).job
    failed = await records.cancel(failing.id)
    assert await records.uploads.job("u") == failed
    again = await records.create(new_job("fifth"), upload_id="u")
    assert again.is_new
    # The expiry of the old job leaves the upload to the new one.
    assert await records.uploads.job("u") == again.job
    assert await redis.ttl("ingot:upload:u") == -1


async def test_an_upload_whose_job_could_not_be_sent_is_free_again(records: Records) -> None:
    job = (await records.create(new_job(), upload_id="u")).job
    await records.fail_unqueued(job.id, Failure(reason_pb2.REASON_QUEUE_UNAVAILABLE, "No broker."))
    assert await records.uploads.job("u") is None


async def test_a_single_flight_key_whose_record_is_gone_is_free(
    records: Records, redis: Redis
) -> None:
    job = (await records.create(new_job())).job
    await redis.delete(f"ingot:job:{job.id}")
    assert (await records.create(new_job())).is_new


async def test_a_job_is_claimed_once(records: Records) -> None:
    job = (await records.create(new_job())).job
    claims = await asyncio.gather(*(records.claim(job.id) for _ in range(20)))
    assert sum(claim is not None for claim in claims) == 1
    assert await records.claim(job.id) is None
    assert await records.claim("no-such-job") is None


async def test_only_the_lease_holder_writes(short_deadlines: Records) -> None:
    job, token = await claimed_job(short_deadlines)
    assert await first_overdue(short_deadlines) == job.id
    recovered = await short_deadlines.recover(job.id)
    assert isinstance(recovered, QueuedAgain)
    assert recovered.job.state == job_pb2.JOB_STATE_QUEUED
    assert failed_attempt_of(recovered.job) == "WORKER_LOST"
    assert recovered.job.waiting.cause == JobWaiting.CAUSE_WORKER
    for late in (short_deadlines.write(job, token), short_deadlines.renew(job.id, token)):
        with pytest.raises(LeaseLost):
            await late
    with pytest.raises(LeaseLost):
        await short_deadlines.release(job.id, token)
    claim = await short_deadlines.claim(job.id)
    assert claim is not None
    assert claim.job.attempt == 2
    with pytest.raises(LeaseLost):
        await short_deadlines.write(job, token)


async def test_a_renewed_lease_is_not_overdue(
    records: Records, redis: Redis, settings: Settings
) -> None:
    job, token = await claimed_job(records)
    for _ in range(5):
        await make_overdue(redis, job)
        assert await records.dispatch.sweep(10) == [job.id]
        await records.renew(job.id, token)
        assert not await records.dispatch.sweep(10)
        assert timedelta(0) < await time_left(redis, job) <= settings.lease
    assert await records.recover(job.id) == NothingToDo()


async def test_a_job_that_kills_its_workers_fails(
    records: Records, redis: Redis, settings: Settings
) -> None:
    job = (await records.create(new_job())).job
    for _ in range(settings.worker_losses - 1):
        assert await records.claim(job.id) is not None
        await make_overdue(redis, job)
        recoveries = await asyncio.gather(*(records.recover(job.id) for _ in range(5)))
        assert sum(isinstance(each, QueuedAgain) for each in recoveries) == 1
    assert await records.claim(job.id) is not None
    await make_overdue(redis, job)
    assert await records.recover(job.id) == NothingToDo()
    failed = await records.get(job.id)
    assert failed is not None
    assert failed.state == job_pb2.JOB_STATE_FAILED
    assert reason_of(failed) == reason_pb2.REASON_WORKER_LOST
    assert not await records.dispatch.sweep(10)
    assert (await records.create(new_job())).is_new


async def released_job(records: Records, delay: timedelta) -> tuple[Job, Job]:
    """Return a job as it was claimed, and as it was released."""
    job, token = await claimed_job(records)
    failure = Failure(reason_pb2.REASON_STALLED, "It stalled.")
    waiting = JobWaiting(cause=JobWaiting.CAUSE_RETRY)
    waiting.end_time.FromDatetime(datetime.now(UTC) + delay)
    return job, await records.release(job.id, token, waiting=waiting, error=failure.status())


async def test_a_released_job_waits_for_its_retry(records: Records, redis: Redis) -> None:
    delay = timedelta(minutes=5)
    job, released = await released_job(records, delay)
    assert released.state == job_pb2.JOB_STATE_QUEUED
    assert failed_attempt_of(released) == "STALLED"
    assert released.waiting.cause == JobWaiting.CAUSE_RETRY
    assert not released.HasField("error")
    assert not released.HasField("progress")
    assert await records.claim(job.id) is None
    assert not await records.dispatch.sweep(10)
    assert timedelta(0) < await time_left(redis, job) <= delay


async def test_a_released_job_is_claimed_when_its_retry_is_due(records: Records) -> None:
    delay = timedelta(milliseconds=150)
    job, _ = await released_job(records, delay)
    await asyncio.sleep(delay.total_seconds() + 0.02)
    claim = await records.claim(job.id)
    assert claim is not None
    assert not claim.job.HasField("waiting")
    assert claim.job.start_time == job.start_time


async def test_a_job_that_cannot_be_queued_fails(records: Records) -> None:
    failure = Failure(reason_pb2.REASON_QUEUE_UNAVAILABLE, "The broker is down.")
    job = (await records.create(new_job())).job
    failed = await records.fail_unqueued(job.id, failure)
    assert failed is not None
    assert failed.state == job_pb2.JOB_STATE_FAILED
    assert reason_of(failed) == reason_pb2.REASON_QUEUE_UNAVAILABLE
    assert (await records.create(new_job())).is_new
    running, _ = await claimed_job(records, "another")
    assert await records.fail_unqueued(running.id, failure) == running
    assert await records.fail_unqueued("no-such-job", failure) is None


async def test_cancel(records: Records) -> None:
    assert await records.cancel("no-such-job") is None
    job, token = await claimed_job(records)
    cancelled = await records.cancel(job.id)
    assert cancelled is not None
    assert cancelled.state == job_pb2.JOB_STATE_CANCELLED
    assert reason_of(cancelled) == reason_pb2.REASON_CANCELLED
    assert await records.cancel(job.id) == cancelled
    with pytest.raises(LeaseLost):
        await records.write(job, token)
    assert await records.claim(job.id) is None
    assert not await records.dispatch.sweep(10)
    assert (await records.create(new_job())).is_new


async def test_a_commit_is_not_cancelled(records: Records) -> None:
    job, token = await claimed_job(records)
    job.stage = job_pb2.JOB_STAGE_COMMITTING
    committing = await records.write(job, token)
    assert await records.cancel(job.id) == committing
    committing.state = job_pb2.JOB_STATE_SUCCEEDED
    assert (await records.write(committing, token)).state == job_pb2.JOB_STATE_SUCCEEDED


async def test_pages_of_the_list(records: Records, redis: Redis) -> None:
    created = [
        (await records.create(new_job(f"media-{number}", labels={"odd": str(number % 2)}))).job
        for number in range(9)
    ]
    expected = [job.id for job in reversed(created)]
    seen: list[str] = []
    while page := await records.list(limit=4, before=seen[-1] if seen else ""):
        assert len(page) <= 4
        seen += [job.id for job in page]
    assert seen == expected
    odd = await records.list(limit=3, accepts=lambda job: job.labels["odd"] == "1")
    assert [job.media.id for job in odd] == ["media-7", "media-5", "media-3"]
    await redis.delete(f"ingot:job:{created[4].id}")
    assert len(await records.list(limit=100)) == 8
    assert await redis.zcard("ingot:jobs") == 8


async def test_the_end_of_a_job_cleans_up_after_expired_ones(
    redis: Redis, settings: Settings
) -> None:
    records = Records(redis, settings.replace(job_ttl=SHORT))
    for _ in range(5):
        job = (await records.create(new_job(), request_id="r", fingerprint="f")).job
        await records.cancel(job.id)
        await asyncio.sleep(2 * SHORT.total_seconds())
    assert await redis.zcard("ingot:jobs") == 1
    assert await redis.zcard("ingot:expiring") == 1
    assert sorted(await redis.keys("ingot:*")) == [
        b"ingot:changes",
        b"ingot:ended-flight:media",
        b"ingot:expiring",
        b"ingot:history",
        b"ingot:jobs",
        b"ingot:jobs:5",
        b"ingot:removed",
        b"ingot:turns:fetch",
    ]
    assert await redis.zcard("ingot:changes") == 1


async def test_changes_have_no_gaps_between_stages(records: Records) -> None:
    job, token = await claimed_job(records)
    for stage in (job_pb2.JOB_STAGE_DOWNLOADING, job_pb2.JOB_STAGE_PROBING):
        job.stage = stage
        for done in range(3):
            job.progress.stage.bytes_done = done
            job = await records.write(job, token)
    changes = await records.history.of_job(job.id, Version(job.epoch, 1))
    assert changes is not None
    assert [(change.stage, change.progress.stage.bytes_done) for change in changes] == [
        (job_pb2.JOB_STAGE_RESOLVING, 0),
        (job_pb2.JOB_STAGE_DOWNLOADING, 2),
        (job_pb2.JOB_STAGE_PROBING, 2),
    ]
    assert await records.history.of_job(job.id, version(job)) == []
    assert await records.history.of_job("no-such-job") is None


async def test_a_wiped_redis_in_the_middle_of_a_job(records: Records, redis: Redis) -> None:
    job, token = await claimed_job(records)
    await redis.flushall()
    await redis.script_flush()
    with pytest.raises(LeaseLost):
        await records.renew(job.id, token)
    with pytest.raises(LeaseLost):
        await records.write(job, token)
    again = await records.create(new_job())
    assert again.is_new
    with pytest.raises(LeaseLost):
        await records.write(job, token)
    assert await records.claim(again.job.id) is not None


async def test_a_redis_that_is_not_there(settings: Settings) -> None:
    async with connect(settings.replace(redis_url="redis://127.0.0.1:1")) as nowhere:
        records = Records(nowhere, settings)
        for call in (records.create(new_job()), records.get("job"), records.list(limit=1)):
            with pytest.raises(Failure) as caught:
                await call
            assert caught.value.reason == reason_pb2.REASON_CACHE_UNAVAILABLE
