"""Job records on a real Redis: single flight, fencing, recovery, expiry."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.records import LeaseLost, Records
from tests.records import a_job, taken_job

SHORT = timedelta(milliseconds=60)


@pytest.fixture
def hasty(redis: Redis, settings: Settings) -> Records:
    """Records whose deadlines pass within a moment."""
    return Records(redis, settings.replace(lease=SHORT, resend_interval=SHORT))


def reason_of(job: Job) -> int:
    return Failure.from_status(job.error).reason


async def first_overdue(records: Records, after: timedelta = SHORT) -> str:
    await asyncio.sleep(after.total_seconds() + 0.02)
    return (await records.overdue(10))[0]


async def bring_forward(redis: Redis, job: Job) -> None:
    """Has the time come at which somebody has to look after the job."""
    await redis.zadd("ingot:deadlines", {job.id: 0}, xx=True)


async def time_left(redis: Redis, job: Job) -> timedelta:
    """Until somebody has to look after the job."""
    seconds, microseconds = await redis.time()
    deadline = await redis.zscore("ingot:deadlines", job.id)
    assert deadline is not None
    return timedelta(milliseconds=deadline) - timedelta(seconds=seconds, microseconds=microseconds)


async def test_a_thousand_callers_get_one_job(records: Records) -> None:
    answers = await asyncio.gather(*(records.create(a_job()) for _ in range(1000)))
    assert len({job.id for job, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1
    assert len(await records.list(limit=10)) == 1


async def test_a_new_job_is_complete(records: Records) -> None:
    job, created = await records.create(a_job(labels={"team": "news"}))
    assert created
    assert (job.state, job.revision, job.attempt) == (job_pb2.JOB_STATE_QUEUED, 1, 0)
    assert len(job.id) == 26
    assert job.HasField("create_time")
    assert await records.get(job.id) == job


async def test_an_ended_job_frees_its_slot(records: Records, redis: Redis) -> None:
    job, token = await taken_job(records)
    assert (job.state, job.attempt, job.revision) == (job_pb2.JOB_STATE_RUNNING, 1, 2)
    assert await redis.ttl(f"ingot:job:{job.id}") == -1
    job.state = job_pb2.JOB_STATE_SUCCEEDED
    ended = await records.write(job, token)
    assert (ended.state, ended.revision) == (job_pb2.JOB_STATE_SUCCEEDED, 3)
    assert ended.HasField("end_time")
    assert 0 < await redis.ttl(f"ingot:job:{job.id}") <= 3600
    again, created = await records.create(a_job())
    assert created
    assert again.id != job.id


async def test_a_repeated_end_finds_its_own_work(records: Records) -> None:
    job, token = await taken_job(records)
    job.state = job_pb2.JOB_STATE_SUCCEEDED
    ended = await records.write(job, token)
    assert await records.write(job, token) == ended
    job.state = job_pb2.JOB_STATE_FAILED
    with pytest.raises(LeaseLost):
        await records.write(job, token)


async def test_an_answer_that_has_ended_takes_no_slot(records: Records, redis: Redis) -> None:
    answer, created = await records.create(
        a_job(state=job_pb2.JOB_STATE_SUCCEEDED, cached=True), request_id="one", fingerprint="f"
    )
    assert created
    assert answer.HasField("end_time")
    assert await redis.ttl(f"ingot:job:{answer.id}") > 0
    assert await redis.ttl("ingot:request:one") > 0
    assert (await records.create(a_job()))[1]
    assert await records.create(a_job(), request_id="one", fingerprint="f") == (answer, False)


async def test_a_request_id_names_one_job(records: Records, redis: Redis) -> None:
    first, _ = await records.create(a_job("one"))
    joined, created = await records.create(a_job("one"), request_id="r", fingerprint="f")
    assert (joined.id, created) == (first.id, False)
    await records.cancel(first.id)
    again, created = await records.create(a_job("one"), request_id="r", fingerprint="f")
    assert (again.id, created) == (first.id, False)
    with pytest.raises(Failure) as caught:
        await records.create(a_job("one"), request_id="r", fingerprint="g")
    assert caught.value.reason == reason_pb2.REASON_REQUEST_ID_REUSED
    assert 0 < await redis.ttl("ingot:request:r") <= 3600
    await redis.delete(f"ingot:job:{first.id}")
    assert (await records.create(a_job("one"), request_id="r", fingerprint="g"))[1]


async def test_a_slot_whose_record_is_gone_is_taken(records: Records, redis: Redis) -> None:
    job, _ = await records.create(a_job())
    await redis.delete(f"ingot:job:{job.id}")
    assert (await records.create(a_job()))[1]


async def test_a_job_is_claimed_once(records: Records) -> None:
    job, _ = await records.create(a_job())
    claims = await asyncio.gather(*(records.claim(job.id) for _ in range(20)))
    assert sum(claim is not None for claim in claims) == 1
    assert await records.claim(job.id) is None
    assert await records.claim("no-such-job") is None


async def test_only_the_holder_writes(hasty: Records) -> None:
    job, token = await taken_job(hasty)
    assert await first_overdue(hasty) == job.id
    recovered = await hasty.recover(job.id)
    assert recovered is not None
    assert recovered.state == job_pb2.JOB_STATE_QUEUED
    assert reason_of(recovered) == reason_pb2.REASON_WORKER_LOST
    for late in (hasty.write(job, token), hasty.renew(job.id, token)):
        with pytest.raises(LeaseLost):
            await late
    with pytest.raises(LeaseLost):
        await hasty.release(job.id, token, retry_time=None, error=None)
    claimed = await hasty.claim(job.id)
    assert claimed is not None
    assert claimed[0].attempt == 2
    with pytest.raises(LeaseLost):
        await hasty.write(job, token)


async def test_a_renewed_lease_is_not_overdue(
    records: Records, redis: Redis, settings: Settings
) -> None:
    job, token = await taken_job(records)
    for _ in range(5):
        await bring_forward(redis, job)
        assert await records.overdue(10) == [job.id]
        await records.renew(job.id, token)
        assert not await records.overdue(10)
        assert timedelta(0) < await time_left(redis, job) <= settings.lease
    assert await records.recover(job.id) is None


async def test_a_job_that_kills_its_workers_fails(
    records: Records, redis: Redis, settings: Settings
) -> None:
    job, _ = await records.create(a_job())
    for _ in range(settings.worker_losses - 1):
        assert await records.claim(job.id) is not None
        await bring_forward(redis, job)
        answers = await asyncio.gather(*(records.recover(job.id) for _ in range(5)))
        assert sum(answer is not None for answer in answers) == 1
    assert await records.claim(job.id) is not None
    await bring_forward(redis, job)
    assert await records.recover(job.id) is None
    failed = await records.get(job.id)
    assert failed is not None
    assert failed.state == job_pb2.JOB_STATE_FAILED
    assert reason_of(failed) == reason_pb2.REASON_WORKER_LOST
    assert not await records.overdue(10)
    assert (await records.create(a_job()))[1]


async def test_a_lost_message_is_sent_again_ever_more_rarely(
    records: Records, redis: Redis, settings: Settings
) -> None:
    job, _ = await records.create(a_job())
    waits = []
    for _ in range(3):
        await bring_forward(redis, job)
        answers = await asyncio.gather(*(records.recover(job.id) for _ in range(5)))
        assert sum(answer is not None for answer in answers) == 1
        waits.append(await time_left(redis, job))
    assert waits[0] < waits[1] < waits[2] <= 8 * settings.resend_interval
    stored = await records.get(job.id)
    assert stored is not None
    assert stored.revision == 1


async def released_job(records: Records, delay: timedelta) -> tuple[Job, Job]:
    """A job when it was taken, and after it was put back."""
    job, token = await taken_job(records)
    failure = Failure(reason_pb2.REASON_STALLED, "It stalled.")
    due = datetime.now(UTC) + delay
    return job, await records.release(job.id, token, retry_time=due, error=failure.status())


async def test_a_released_job_waits_for_its_time(records: Records, redis: Redis) -> None:
    delay = timedelta(minutes=5)
    job, released = await released_job(records, delay)
    assert released.state == job_pb2.JOB_STATE_QUEUED
    assert reason_of(released) == reason_pb2.REASON_STALLED
    assert not released.HasField("progress")
    assert await records.claim(job.id) is None
    assert not await records.overdue(10)
    assert timedelta(0) < await time_left(redis, job) <= delay


async def test_a_released_job_is_taken_when_its_time_has_come(records: Records) -> None:
    delay = timedelta(milliseconds=150)
    job, _ = await released_job(records, delay)
    assert await first_overdue(records, delay) == job.id
    recovered = await records.recover(job.id)
    assert recovered is not None
    claimed = await records.claim(job.id)
    assert claimed is not None
    assert not claimed[0].HasField("retry_time")
    assert claimed[0].start_time == job.start_time


async def test_a_job_that_cannot_be_queued_fails(records: Records) -> None:
    failure = Failure(reason_pb2.REASON_QUEUE_UNAVAILABLE, "The broker is down.")
    job, _ = await records.create(a_job())
    failed = await records.fail_unqueued(job.id, failure)
    assert failed is not None
    assert failed.state == job_pb2.JOB_STATE_FAILED
    assert reason_of(failed) == reason_pb2.REASON_QUEUE_UNAVAILABLE
    assert (await records.create(a_job()))[1]
    running, _ = await taken_job(records, "another")
    assert await records.fail_unqueued(running.id, failure) == running
    assert await records.fail_unqueued("no-such-job", failure) is None


async def test_cancel(records: Records) -> None:
    assert await records.cancel("no-such-job") is None
    job, token = await taken_job(records)
    cancelled = await records.cancel(job.id)
    assert cancelled is not None
    assert cancelled.state == job_pb2.JOB_STATE_CANCELLED
    assert reason_of(cancelled) == reason_pb2.REASON_CANCELLED
    assert await records.cancel(job.id) == cancelled
    with pytest.raises(LeaseLost):
        await records.write(job, token)
    assert await records.claim(job.id) is None
    assert not await records.overdue(10)
    assert (await records.create(a_job()))[1]


async def test_a_commit_is_not_cancelled(records: Records) -> None:
    job, token = await taken_job(records)
    job.stage = job_pb2.JOB_STAGE_COMMITTING
    committing = await records.write(job, token)
    assert await records.cancel(job.id) == committing
    committing.state = job_pb2.JOB_STATE_SUCCEEDED
    assert (await records.write(committing, token)).state == job_pb2.JOB_STATE_SUCCEEDED


async def test_pages_of_the_list(records: Records, redis: Redis) -> None:
    created = [
        (await records.create(a_job(f"media-{number}", labels={"odd": str(number % 2)})))[0]
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
        job, _ = await records.create(a_job(), request_id="r", fingerprint="f")
        await records.cancel(job.id)
        await asyncio.sleep(2 * SHORT.total_seconds())
    assert await redis.zcard("ingot:jobs") == 1
    assert await redis.zcard("ingot:expiring") == 1
    assert sorted(await redis.keys("ingot:*")) == [b"ingot:expiring", b"ingot:jobs"]


async def test_what_happened_is_told_without_gaps_in_stage(records: Records) -> None:
    job, token = await taken_job(records)
    for stage in (job_pb2.JOB_STAGE_RESOLVING, job_pb2.JOB_STAGE_DOWNLOADING):
        job.stage = stage
        for done in range(3):
            job.progress.bytes_done = done
            job = await records.write(job, token)
    changes = await records.changes(job.id, 1)
    assert changes is not None
    assert [(change.stage, change.progress.bytes_done) for change in changes] == [
        (job_pb2.JOB_STAGE_UNSPECIFIED, 0),
        (job_pb2.JOB_STAGE_RESOLVING, 2),
        (job_pb2.JOB_STAGE_DOWNLOADING, 2),
    ]
    assert await records.changes(job.id, job.revision) == []
    assert await records.changes("no-such-job", 0) is None


async def test_a_wiped_redis_in_the_middle_of_a_job(records: Records, redis: Redis) -> None:
    job, token = await taken_job(records)
    await redis.flushall()
    await redis.script_flush()
    with pytest.raises(LeaseLost):
        await records.renew(job.id, token)
    with pytest.raises(LeaseLost):
        await records.write(job, token)
    again, created = await records.create(a_job())
    assert created
    with pytest.raises(LeaseLost):
        await records.write(job, token)
    assert await records.claim(again.id) is not None


async def test_a_redis_that_is_not_there(settings: Settings) -> None:
    async with Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0)) as nowhere:
        records = Records(nowhere, settings)
        for call in (records.create(a_job()), records.get("job"), records.list(limit=1)):
            with pytest.raises(Failure) as caught:
                await call
            assert caught.value.reason == reason_pb2.REASON_CACHE_UNAVAILABLE
