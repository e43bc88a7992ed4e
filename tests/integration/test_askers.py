"""A job that several callers asked for is cancelled for the caller that cancels it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.job_pb2 import Job, JobPriority, JobWaiting
from ingot.v1.job_service_pb2 import (
    CancelJobRequest,
    CancelJobsRequest,
    GetJobRequest,
    ListJobsRequest,
    WatchJobsRequest,
)
from ingot_server.access_tokens import SCOPES, entry, new_token
from ingot_server.config import Settings
from ingot_server.jobs.outcomes import StillWanted
from ingot_server.jobs.placement import Work
from ingot_server.jobs.records import Records
from ingot_server.journal.writer import JournalWriter
from ingot_server.library.blobs import Blobs
from ingot_server.redis import Redis
from tests.integration.api.running_api import URL, Api, serving
from tests.records import new_job

pytestmark = pytest.mark.any_stores

QUEUED, CANCELLED = job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_CANCELLED
LOW, NORMAL, HIGH = (
    job_pb2.JOB_PRIORITY_LOW,
    job_pb2.JOB_PRIORITY_NORMAL,
    job_pb2.JOB_PRIORITY_HIGH,
)


async def ask(
    records: Records,
    caller: str,
    media_id: str = "media",
    *,
    request_id: str = "",
    priority: JobPriority.ValueType = NORMAL,
) -> Job:
    job = new_job(media_id)
    job.requested_by = caller
    job.priority = priority
    creation = await records.create(
        job, caller=caller, request_id=request_id, fingerprint=request_id
    )
    return creation.job


async def make_list(records: Records, caller: str, name: str, *entries: str) -> tuple[Job, str]:
    """A list of a caller that a worker holds, and the job of its last entry."""
    parent = await ask(records, caller, name)
    claim = await records.claim(parent.id)
    assert claim is not None
    child_id = ""
    for order, media_id in enumerate(entries):
        child = new_job(media_id)
        child.requested_by = caller
        child_id = (
            await records.children.add(
                child, parent_id=parent.id, token=claim.token, entry=media_id, order=order
            )
        ).id
    return parent, child_id


async def cancel(records: Records, job_id: str, caller: str) -> bool:
    """Cancel a job for a caller; return whether it has ended."""
    try:
        job = await records.cancel(job_id, withdraws=caller)
    except StillWanted as wanted:
        job = wanted.job
    assert job == await records.get(job_id)
    assert job is not None
    return job.state == CANCELLED


async def test_a_job_ends_when_the_last_caller_has_cancelled_it(records: Records) -> None:
    job = await ask(records, "news")
    assert (await ask(records, "archive")).id == (await ask(records, "news")).id == job.id

    assert not await cancel(records, job.id, "news")
    assert not await cancel(records, job.id, "news")
    assert not await cancel(records, job.id, "stranger")
    assert await cancel(records, job.id, "archive")


async def test_a_caller_that_asks_again_wants_the_job_again(records: Records) -> None:
    job = await ask(records, "news", request_id="news/r")
    await ask(records, "archive")
    assert not await cancel(records, job.id, "news")
    await ask(records, "news", request_id="news/r")
    assert not await cancel(records, job.id, "archive")
    assert await cancel(records, job.id, "news")


async def test_a_job_of_nobody_known_is_cancelled_by_anyone(records: Records) -> None:
    job = await ask(records, "")
    await ask(records, "")
    assert await cancel(records, job.id, "news")


async def test_without_a_name_a_job_is_cancelled_for_all(records: Records) -> None:
    job = await ask(records, "news")
    await ask(records, "archive")
    cancelled = await records.cancel(job.id)
    assert cancelled is not None
    assert cancelled.state == CANCELLED


async def test_a_job_that_a_caller_gave_up_leaves_room_for_another_one(
    records: Records, redis: Redis
) -> None:
    job = await ask(records, "news")
    await ask(records, "archive")
    assert not await cancel(records, job.id, "news")
    assert await redis.hgetall("ingot:caller-jobs") == {}
    assert await cancel(records, job.id, "archive")
    assert await redis.hgetall("ingot:caller-jobs") == {}


async def test_who_wants_a_job_is_forgotten_with_it(records: Records, redis: Redis) -> None:
    job = await ask(records, "news")
    key = f"ingot:askers:{job.id}"
    assert await redis.ttl(key) == -1
    await ask(records, "archive")
    await records.cancel(job.id)
    assert 0 < await redis.pexpiretime(key) <= await redis.pexpiretime(f"ingot:job:{job.id}")


async def test_a_part_goes_on_while_a_caller_of_its_own_wants_it(records: Records) -> None:
    parent, child_id = await make_list(records, "news", "list", "entry")
    assert (await ask(records, "archive", "entry")).id == child_id

    assert not await cancel(records, child_id, "news")
    assert await cancel(records, parent.id, "news")
    child = await records.get(child_id)
    assert child is not None
    assert child.state == QUEUED
    assert await cancel(records, child_id, "archive")


async def test_a_part_goes_on_while_its_list_is_wanted_and_no_longer(records: Records) -> None:
    """Also if another caller had made it, and has cancelled it since."""
    own = await ask(records, "archive", "own")
    parent, child_id = await make_list(records, "news", "list", "own", "entry")
    await ask(records, "archive", "entry")

    assert not await cancel(records, own.id, "archive")
    assert not await cancel(records, child_id, "archive")
    assert await cancel(records, parent.id, "news")
    for job in await records.get_many([own.id, child_id]):
        assert job is not None
        assert job.state == CANCELLED


async def test_a_part_of_two_lists_ends_with_the_second(records: Records) -> None:
    first, child_id = await make_list(records, "news", "one", "entry")
    second, same_id = await make_list(records, "archive", "two", "entry")
    assert same_id == child_id

    assert await cancel(records, first.id, "news")
    child = await records.get(child_id)
    assert child is not None
    assert child.state == QUEUED
    assert await cancel(records, second.id, "archive")
    child = await records.get(child_id)
    assert child is not None
    assert child.state == CANCELLED


async def test_a_part_is_cancelled_by_the_only_caller_of_its_lists(records: Records) -> None:
    _, child_id = await make_list(records, "news", "one", "entry")
    await make_list(records, "news", "two", "entry")
    assert await cancel(records, child_id, "news")


async def test_a_job_has_the_highest_priority_of_those_who_want_it(records: Records) -> None:
    await ask(records, "news", "before")
    job = await ask(records, "news", priority=LOW)
    assert (await ask(records, "archive")).priority == NORMAL
    assert (await ask(records, "radio", priority=HIGH)).priority == HIGH
    assert (await ask(records, "news", priority=LOW)).priority == HIGH
    await records.dispatch.announce("worker", Work.FETCH, 1)
    taken = await records.dispatch.take(Work.FETCH)
    assert [each.job_id for each in taken.jobs] == [job.id]

    for caller, priority in (("radio", NORMAL), ("archive", LOW)):
        assert not await cancel(records, job.id, caller)
        found = await records.get(job.id)
        assert found is not None
        assert found.priority == priority


async def test_a_running_job_is_joined_without_a_loss_of_its_lease(records: Records) -> None:
    job = await ask(records, "news")
    claim = await records.claim(job.id)
    assert claim is not None
    working = claim.job
    assert (await ask(records, "archive", priority=HIGH)).priority == HIGH

    working.stage = job_pb2.JOB_STAGE_DOWNLOADING
    written = await records.write(working, claim.token)
    assert (written.priority, written.stage) == (HIGH, job_pb2.JOB_STAGE_DOWNLOADING)
    assert written.revision == working.revision + 2


async def test_a_job_that_waits_for_its_next_attempt_goes_on_waiting_when_it_is_joined(
    records: Records,
) -> None:
    job = await ask(records, "news")
    claim = await records.claim(job.id)
    assert claim is not None
    waiting = JobWaiting(cause=JobWaiting.CAUSE_RETRY)
    waiting.end_time.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    await records.release(job.id, claim.token, waiting=waiting)

    joined = await ask(records, "archive", priority=HIGH)

    assert (joined.priority, joined.waiting) == (HIGH, waiting)
    assert await records.claim(job.id) is None


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def ingest(api: Api, token: str, url: str = URL) -> Job:
    answer = await api.ingest.Ingest(IngestRequest(url=url), metadata=bearer(token))
    job: Job = answer.job
    return job


async def cancelled_state(api: Api, token: str, job: Job) -> job_pb2.JobState.ValueType:
    request = CancelJobRequest(job_id=job.id)
    answer = (await api.jobs.CancelJob(request, metadata=bearer(token))).job
    assert answer.id == job.id
    state: job_pb2.JobState.ValueType = answer.state
    return state


async def test_calls_cancel_for_their_caller_and_an_administrator_for_all(
    settings: Settings, redis: Redis, blobs: Blobs
) -> None:
    news, archive, admin = (new_token() for _ in range(3))
    some = [scope for scope in SCOPES if scope != "admin"]
    tokens = [
        entry(news, "news", some, None),
        entry(archive, "archive", some, None),
        entry(admin, "admin", list(SCOPES), None),
    ]
    async with serving(settings.replace(tokens="".join(tokens))) as api:
        job = await ingest(api, news)
        other = await ingest(api, news, URL + "?other")
        assert (await ingest(api, archive)).id == job.id
        assert await cancelled_state(api, news, job) == QUEUED
        # The other job is not theirs.
        matching = CancelJobsRequest(states=[QUEUED])
        answer = await api.jobs.CancelJobs(matching, metadata=bearer(archive))
        assert answer.cancelled_count == 1
        found = await api.records.get_many([job.id, other.id])
        assert [each.state for each in found if each is not None] == [CANCELLED, QUEUED]

        assert await cancelled_state(api, archive, other) == QUEUED
        await ingest(api, archive, URL + "?other")
        assert await cancelled_state(api, admin, other) == CANCELLED


async def test_each_caller_sees_and_finds_a_job_by_its_own_labels(
    settings: Settings, redis: Redis, blobs: Blobs
) -> None:
    names = ("news", "archive", "stranger")
    tokens = {name: new_token() for name in names}
    some = [scope for scope in SCOPES if scope != "admin"]
    entries = "".join(entry(token, name, some, None) for name, token in tokens.items())
    labels = {"news": {"team": "news"}, "archive": {"box": "7"}, "stranger": {}}

    async def seen(api: Api, caller: str, **filters: str) -> list[dict[str, str]]:
        found = await api.jobs.ListJobs(
            ListJobsRequest(labels=filters), metadata=bearer(tokens[caller])
        )
        assert not any(job.labels_of_others for job in found.jobs)
        return [dict(job.labels) for job in found.jobs]

    async with serving(settings.replace(tokens=entries)) as api:
        watch = api.jobs.WatchJobs(
            WatchJobsRequest(labels=labels["archive"]), metadata=bearer(tokens["archive"])
        )
        assert (await anext(aiter(watch))).HasField("snapshot_end")
        for name in ("news", "archive"):
            request = IngestRequest(url=URL, labels=labels[name])
            job = (await api.ingest.Ingest(request, metadata=bearer(tokens[name]))).job
            assert job.labels == labels[name]

        update = await anext(aiter(watch))
        while update.HasField("heartbeat"):
            update = await anext(aiter(watch))
        assert (update.job.id, update.job.labels) == (job.id, labels["archive"])
        for name in names:
            assert await seen(api, name) == [labels[name]]
            got = await api.jobs.GetJob(GetJobRequest(job_id=job.id), metadata=bearer(tokens[name]))
            assert got.job.labels == labels[name]
        assert await seen(api, "archive", box="7") == [labels["archive"]]
        assert await seen(api, "archive", team="news") == []
        assert await seen(api, "news", box="7") == []


async def test_who_made_a_job_wants_it_again_when_redis_has_lost_all(
    settings: Settings, redis: Redis, blobs: Blobs
) -> None:
    news, archive = new_token(), new_token()
    some = [scope for scope in SCOPES if scope != "admin"]
    tokens = entry(news, "news", some, None) + entry(archive, "archive", some, None)
    async with serving(settings.replace(tokens=tokens)) as api:
        job = await ingest(api, news)
        await redis.flushall()
        assert await JournalWriter(api.records.journal, blobs).restorer.restore() == 1
        assert (await ingest(api, archive)).id == job.id
        assert await cancelled_state(api, archive, job) == QUEUED
        assert await cancelled_state(api, news, job) == CANCELLED
