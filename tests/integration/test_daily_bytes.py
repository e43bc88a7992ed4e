"""What the jobs and uploads of a caller receive in a day is bounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.rpc.error_details_pb2 import RetryInfo

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import (
    CompleteUploadRequest,
    CreateUploadUrlRequest,
    ResolveRequest,
)
from ingot.v1.job_pb2 import Job, JobWaiting
from ingot_server.caller_limits import CallerLimits
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.daily_bytes import next_day
from ingot_server.jobs.records import Records
from ingot_server.library.upload_parts import Part, appended_name, linked_bytes, linked_name
from ingot_server.redis import Redis
from tests.harness import Harness
from tests.integration.uploads.browser import put
from tests.integration.uploads.upload_servers import clip, requests
from tests.limited_callers import CALLER, limited
from tests.origin import Origin, Page
from tests.records import new_job
from tests.refusals import refused

# One byte a day: one job is all that the caller gets.
QUOTA = {"daily_bytes": "1"}


async def used(harness: Harness) -> int:
    return await harness.records.daily_bytes.used(CALLER)


async def test_after_the_last_byte_of_the_day_nothing_more_is_received(
    settings: Settings, origin: Origin
) -> None:
    async with limited(settings, QUOTA) as (harness, caller):
        page = Page(clip())
        url = origin.serve("/first.mp4", page)
        later = origin.serve("/second.mp4", page)
        first, second = await caller.ask(url), await caller.ask(later)
        # A job that has begun may exceed the limit by its own size.
        ended = await harness.end(first)
        assert ended.state == job_pb2.JOB_STATE_SUCCEEDED, ended.error.message
        assert await used(harness) >= ended.media.blob.size_bytes > 1

        await harness.worker.run_job(second.id)
        waiting = await harness.record(second.id)
        assert (waiting.state, waiting.attempt) == (job_pb2.JOB_STATE_QUEUED, 0)
        assert waiting.waiting.cause == JobWaiting.CAUSE_QUOTA
        assert waiting.waiting.end_time.ToDatetime(UTC) == next_day()

        refusal = await refused(caller.ask(later + "?third"))
        assert refusal.reason == "QUOTA_EXCEEDED"
        assert "received 1 bytes today" in refusal.message
        for method, request in (
            ("Resolve", ResolveRequest(url=later + "?third")),
            ("CreateUploadUrl", CreateUploadUrlRequest(size_bytes=9, content_type="video/mp4")),
            ("Upload", requests(b"upload", content_type="video/mp4")),
        ):
            assert (await refused(caller.call(method, request))).reason == "QUOTA_EXCEEDED", method

        # What has a job, or is stored, costs nothing.
        assert (await caller.ask(later)).id == second.id
        assert (await caller.ask(url)).cached


async def test_what_is_uploaded_counts_once(settings: Settings) -> None:
    content = clip()
    async with limited(settings, QUOTA) as (harness, caller):
        job = (await caller.call("Upload", requests(content, content_type="video/mp4"))).job
        assert await used(harness) == len(content)
        await harness.redis.delete(harness.redis.key(f"daily-bytes:{CALLER}"))

        asked = CreateUploadUrlRequest(size_bytes=len(content), content_type="video/mp4")
        link = await caller.call("CreateUploadUrl", asked)
        assert await put(link.url, content) == 200
        complete = CompleteUploadRequest(upload_id=link.upload_id)
        for _ in range(2):
            await caller.call("CompleteUpload", complete)
        assert await used(harness) == len(content)
        # The bytes that a job reads in the bucket have been counted.
        assert (await harness.end(job)).state == job_pb2.JOB_STATE_SUCCEEDED
        assert await used(harness) == len(content)


@pytest.fixture
async def used_up(records: Records, redis: Redis) -> Records:
    """Records of a caller that has received 100 bytes."""
    await records.daily_bytes.count(CALLER, 60)
    await records.daily_bytes.count(CALLER, 40)
    # The counts end with the day.
    assert 0 < await redis.ttl(redis.key(f"daily-bytes:{CALLER}")) <= 24 * 3600
    return records


@pytest.mark.parametrize(
    ("caller", "limit", "passes"),
    [(CALLER, 100, False), (CALLER, 101, True), (CALLER, 0, True), ("another", 100, True)],
)
async def test_a_new_job_needs_bytes_that_are_left(
    used_up: Records, caller: str, limit: int, passes: bool
) -> None:
    async def create() -> Job:
        return (
            await used_up.create(new_job(), caller=caller, limits=CallerLimits(daily_bytes=limit))
        ).job

    if passes:
        await used_up.job_bytes.require((await create()).id, receives=True)
        return
    with pytest.raises(Failure) as raised:
        await create()
    assert raised.value.reason == reason_pb2.REASON_QUOTA_EXCEEDED
    assert raised.value.metadata == {"quota": "daily_bytes", "limit": "100"}
    retry = RetryInfo()
    assert any(detail.Unpack(retry) for detail in raised.value.status().details)
    until_next_day = next_day() - datetime.now(UTC)
    assert abs(retry.retry_delay.ToTimedelta() - until_next_day) < timedelta(minutes=1)


async def test_the_entries_of_a_list_count_for_the_caller_of_the_list(records: Records) -> None:
    parent = (
        await records.create(new_job("list"), caller=CALLER, limits=CallerLimits(daily_bytes=100))
    ).job
    claim = await records.claim(parent.id)
    assert claim is not None
    child = await records.children.add(
        new_job("entry"), parent_id=parent.id, token=claim.token, entry="entry", order=0
    )
    await records.job_bytes.require(child.id, receives=True)
    await records.job_bytes.count(child.id, 100)
    assert await records.daily_bytes.used(CALLER) == 100
    with pytest.raises(Failure, match="100 bytes today"):
        await records.job_bytes.require(child.id, receives=True)


async def test_jobs_without_a_limit_leave_nothing_in_redis(records: Records, redis: Redis) -> None:
    job = (await records.create(new_job(), caller=CALLER)).job
    await records.job_bytes.count(job.id, 100)
    assert not await redis.keys("*daily-bytes*")


def test_only_parts_that_were_sent_to_links_count_at_the_end() -> None:
    parts = [Part(appended_name(0), 0, 5), Part(linked_name(5, 7), 5, 7)]
    assert linked_bytes(parts) == 7
