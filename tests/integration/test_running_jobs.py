"""What of a caller's jobs may run, what waits, and what is refused."""

from __future__ import annotations

import pytest
from google.rpc.error_details_pb2 import QuotaFailure, RetryInfo

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job, JobWaiting
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.caller_limits import NO_LIMITS, CallerLimits
from ingot_server.errors import Failure
from ingot_server.jobs.caller_jobs import count_jobs
from ingot_server.jobs.placement import Work
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis
from tests.records import new_job

CALLER = "recorder"
TWO_RUN = CallerLimits(running_jobs=2)
TWO_QUEUED = CallerLimits(queued_jobs=2)


async def create(
    records: Records, name: str, limits: CallerLimits = TWO_RUN, *, caller: str = CALLER
) -> Job:
    return (await records.create(new_job(name), caller=caller, limits=limits)).job


async def conversion(records: Records) -> Job:
    draft = Job(
        kind=job_pb2.JOB_KIND_CONVERT,
        recipes=[Recipe(mp3=Recipe.Mp3())],
        media=Media(id="converted"),
    )
    return (await records.create(draft, caller=CALLER, limits=TWO_RUN)).job


async def announce(records: Records) -> None:
    for work in Work:
        await records.dispatch.announce(f"worker-{work}", work, 16)


async def take(records: Records, work: Work = Work.FETCH) -> list[str]:
    """Dispatch what may run."""
    return [each.job_id for each in (await records.dispatch.take(work)).jobs]


async def cause_of(records: Records, job: Job) -> JobWaiting.Cause.ValueType:
    waiting = await records.dispatch.waiting(job)
    return waiting.cause if waiting is not None else JobWaiting.CAUSE_UNSPECIFIED


async def test_jobs_beyond_the_limit_wait_and_those_of_others_run(records: Records) -> None:
    await announce(records)
    first, second, third = [await create(records, name) for name in "abc"]
    assert await take(records) == [first.id, second.id]
    converts = await conversion(records)
    assert await take(records, Work.CONVERT) == []
    for job in (third, converts):
        assert await cause_of(records, job) == JobWaiting.CAUSE_CALLER_LIMIT

    other = await create(records, "d", NO_LIMITS, caller="another")
    assert await take(records) == [other.id]
    assert await cause_of(records, other) == JobWaiting.CAUSE_UNSPECIFIED

    await records.cancel(first.id)
    assert await take(records, Work.CONVERT) == [converts.id]
    assert await take(records) == []
    await records.cancel(converts.id)
    assert await take(records) == [third.id]


async def test_the_entries_of_a_list_run_within_the_limit_of_its_caller(records: Records) -> None:
    await announce(records)
    parent = await create(records, "list", CallerLimits(running_jobs=1))
    [_] = await take(records)
    claim = await records.claim(parent.id, worker_id=f"worker-{Work.FETCH}")
    assert claim is not None
    for order, name in enumerate("abc"):
        await records.children.add(
            new_job(name), parent_id=parent.id, token=claim.token, entry=name, order=order
        )
    await records.children.leave_parent(claim.job, claim.token, [])
    await records.children.advance(parent.id)
    for _ in range(3):
        # The list itself does not run while it waits.
        [entry] = await take(records)
        assert await take(records) == []
        await records.cancel(entry)


async def test_the_limit_is_that_of_the_job_that_was_ready_last(records: Records) -> None:
    await announce(records)
    ids = [(await create(records, name)).id for name in "abcd"]
    assert await take(records) == ids[:2]
    ids.append((await create(records, "e", CallerLimits(running_jobs=4))).id)
    assert await take(records) == ids[2:4]
    ids.append((await create(records, "f", NO_LIMITS)).id)
    assert await take(records) == ids[4:]


async def test_only_so_many_jobs_wait_for_a_worker(records: Records, redis: Redis) -> None:
    first, second = [await create(records, name, TWO_QUEUED) for name in "ab"]
    with pytest.raises(Failure) as refused:
        await create(records, "c", TWO_QUEUED)
    assert refused.value.metadata == {"quota": "queued_jobs", "limit": "2"}
    details = refused.value.status().details
    for kind in (QuotaFailure(), RetryInfo()):
        assert any(each.Unpack(kind) for each in details), kind
    await create(records, "d", TWO_QUEUED, caller="another")

    # What runs is not queued, and is again while it waits for its next attempt.
    claim = await records.claim(first.id)
    assert claim is not None
    third = await create(records, "c", TWO_QUEUED)
    waiting = JobWaiting(cause=JobWaiting.CAUSE_RETRY)
    waiting.end_time.GetCurrentTime()
    await records.release(first.id, claim.token, waiting=waiting)
    assert await count_jobs(redis, CALLER) == {"jobs": 3, "queued_jobs": 3, "running_jobs": 0}
    await records.cancel(first.id)
    with pytest.raises(Failure, match="2 jobs that no worker has begun"):
        await create(records, "e", TWO_QUEUED)

    for job in (second, third):
        await records.cancel(job.id)
    assert await count_jobs(redis, CALLER) == {"jobs": 0, "queued_jobs": 0, "running_jobs": 0}


async def test_jobs_that_hold_slots_are_counted_until_they_give_them_up(
    records: Records, redis: Redis
) -> None:
    await announce(records)
    job = await create(records, "a")
    assert await take(records) == [job.id]
    assert await count_jobs(redis, CALLER) == {"jobs": 1, "queued_jobs": 1, "running_jobs": 1}
    claim = await records.claim(job.id, worker_id=f"worker-{Work.FETCH}")
    assert claim is not None
    assert await count_jobs(redis, CALLER) == {"jobs": 1, "queued_jobs": 0, "running_jobs": 1}
    await records.release(job.id, claim.token)
    assert await count_jobs(redis, CALLER) == {"jobs": 1, "queued_jobs": 1, "running_jobs": 0}
    await records.cancel(job.id)
    for key in ("caller-jobs", "caller-queued", "running-jobs", "running-limits"):
        assert not await redis.exists(redis.key(key)), key
