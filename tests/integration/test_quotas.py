"""What one caller may have at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from google.rpc.error_details_pb2 import QuotaFailure, RetryInfo

from ingot.v1 import reason_pb2
from ingot_server.caller_limits import CallerLimits
from ingot_server.errors import Failure
from ingot_server.jobs.outcomes import Creation
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis
from tests.records import new_job

TWO_JOBS = CallerLimits(jobs=2)


async def create(records: Records, media_id: str, *, caller: str = "recorder") -> Creation:
    return await records.create(new_job(media_id=media_id), caller=caller, limits=TWO_JOBS)


async def counts(redis: Redis) -> Mapping[bytes | str, bytes | str]:
    return await redis.hgetall("ingot:caller-jobs")


async def test_a_caller_has_only_so_many_jobs_that_have_not_ended(records: Records) -> None:
    first = (await create(records, "a")).job
    await create(records, "b")
    with pytest.raises(Failure) as refused:
        await create(records, "c")
    assert refused.value.reason == reason_pb2.REASON_QUOTA_EXCEEDED
    assert refused.value.metadata == {"quota": "jobs", "limit": "2"}
    details = {detail.TypeName(): detail for detail in refused.value.status().details}
    quota, retry = QuotaFailure(), RetryInfo()
    details["google.rpc.QuotaFailure"].Unpack(quota)
    assert details["google.rpc.RetryInfo"].Unpack(retry)
    assert quota.violations[0].description == refused.value.message

    await create(records, "c", caller="another")
    await records.cancel(first.id)
    await create(records, "c2")


async def test_a_job_that_exists_costs_nothing(records: Records) -> None:
    for media in ("a", "b"):
        await create(records, media)
    assert not (await create(records, "a")).is_new


async def test_at_most_the_quota_is_created_by_many_calls_at_once(
    records: Records, redis: Redis
) -> None:
    calls = (create(records, f"media{number}") for number in range(20))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, Creation) for result in results) == 2
    assert await counts(redis) == {b"recorder": b"2"}
    for result in results:
        if isinstance(result, Creation):
            await records.cancel(result.job.id)
    assert await counts(redis) == {}


async def test_an_unlimited_caller_has_as_many_as_it_likes(records: Records) -> None:
    for number in range(5):
        await records.create(new_job(media_id=f"media{number}"), caller="recorder")
