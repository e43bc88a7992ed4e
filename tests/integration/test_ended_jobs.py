"""What has ended stays ended, whatever Redis loses: the bucket has the ends, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import grpc
import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import CancelJobRequest, CancelJobsRequest
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.journal_index import Accepted
from ingot_server.jobs.lifecycle import copy_of, same_result
from ingot_server.jobs.records import Records
from ingot_server.journal.ends import EndsWriter
from ingot_server.journal.removal import remove_due
from ingot_server.journal.writer import JournalWriter
from ingot_server.library.blobs import Blobs
from ingot_server.redis import Redis
from tests.bucket_proxy import bucket_behind_proxy
from tests.harness import Harness, running_harness
from tests.lost_writes import Dump, dumped, restored
from tests.media import media
from tests.origin import Origin, Page
from tests.records import claimed_job, new_job, queued_job

TINY = media("tiny.mp4").read_bytes()
LOSSES = ("everything", "its last writes")


def is_ends(method: str, path: str) -> bool:
    return method == "PUT" and "/journal/" in path and "-ends" in path


@pytest.fixture
def writer(records: Records, blobs: Blobs) -> JournalWriter:
    return JournalWriter(records.journal, blobs)


async def accepted(records: Records, writer: JournalWriter, media_id: str = "media") -> Job:
    """A job that a call got, in a Redis that has lost nothing."""
    creation = await records.create(new_job(media_id), request_id=media_id, fingerprint="print")
    job = creation.job
    await writer.enter(Accepted(job, "caller", media_id, request_id=media_id, fingerprint="print"))
    await writer.restorer.ensure()
    return job


async def lose(redis: Redis, loss: str, older: Dump) -> None:
    """Lose all data, or be the replica that has only `older` and becomes the primary."""
    if loss == "everything":
        await redis.flushall()
    else:
        await restored(redis, older)
        await redis.hset("ingot:history", "run_id", "another")


async def ends_groups(redis: Redis) -> AsyncIterator[str]:
    for name in await redis.zrange("ingot:journal-due", 0, -1):
        if isinstance(name, bytes) and name.endswith(b"-ends"):
            yield name.decode()


async def cancelled(records: Records, writer: JournalWriter, job: Job) -> Job:
    """A job that a caller has cancelled."""
    ended = await records.cancel(job.id)
    assert ended is not None
    await writer.record_ends([ended])
    return ended


async def ended(records: Records, job: Job, token: str, state: job_pb2.JobState.ValueType) -> Job:
    job = copy_of(job)
    job.state = state
    return await records.write(job, token)


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_cancelled_job_never_runs_again(
    loss: str, records: Records, writer: JournalWriter, redis: Redis
) -> None:
    job = await accepted(records, writer)
    older = await dumped(redis)
    end = await cancelled(records, writer, job)
    await lose(redis, loss, older)
    assert await records.claim(job.id) is None
    await writer.restorer.ensure()
    assert await records.claim(job.id) is None
    again = await records.get(job.id)
    assert again is not None
    assert same_result(again, end)
    assert again.epoch > end.epoch
    assert await records.requested("media", "print") == again


async def test_a_worker_that_has_not_heard_of_a_cancellation_commits_nothing_after_a_failover(
    records: Records, writer: JournalWriter, redis: Redis
) -> None:
    job = await accepted(records, writer)
    claim = await records.claim(job.id)
    assert claim is not None
    older = await dumped(redis)
    await cancelled(records, writer, job)
    await lose(redis, "its last writes", older)
    await records.renew(job.id, claim.token)
    with pytest.raises(Failure):
        await records.renew(job.id, claim.token, proves=True)
    await writer.restorer.ensure()
    again = await records.get(job.id)
    assert again is not None
    assert again.state == job_pb2.JOB_STATE_CANCELLED


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_job_is_not_made_again_while_its_cancellation_is_written(
    loss: str, settings: Settings, redis: Redis
) -> None:
    async with bucket_behind_proxy(settings) as (proxy, behind):
        blobs = Blobs(behind)
        await blobs.prepare()
        records = Records(redis, behind)
        writer = JournalWriter(records.journal, blobs)
        job = await accepted(records, writer)
        older = await dumped(redis)
        proxy.hold(is_ends)
        cancelling = asyncio.create_task(cancelled(records, writer, job))
        await proxy.held()
        await lose(redis, loss, older)
        await writer.restorer.ensure()
        again = await records.get(job.id)
        assert again is not None
        assert again.state == job_pb2.JOB_STATE_QUEUED
        proxy.release()
        await cancelling
        assert await records.claim(job.id) is None
        await blobs.close()


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_job_that_ended_by_itself_keeps_its_end_once_it_is_written(
    loss: str, records: Records, writer: JournalWriter, redis: Redis, blobs: Blobs
) -> None:
    claims = {}
    for state in (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED):
        job = await accepted(records, writer, f"media{state}")
        claim = await records.claim(job.id)
        assert claim is not None
        claims[state] = claim
    older = await dumped(redis)
    ends = [await ended(records, each.job, each.token, state) for state, each in claims.items()]
    await EndsWriter(records.journal, blobs).record_due()
    await remove_due(records.journal, blobs)
    await lose(redis, loss, older)
    await writer.restorer.ensure()
    for end in ends:
        again = await records.get(end.id)
        assert again is not None
        assert same_result(again, end)


async def test_an_end_that_a_worker_did_not_write_is_written_by_another_one(
    records: Records, writer: JournalWriter, redis: Redis, blobs: Blobs
) -> None:
    job = await accepted(records, writer)
    await records.cancel(job.id)
    assert await records.journal.ended(10) == [job.id]  # and the worker is killed
    seconds, _ = await redis.time()
    assert await redis.zcount("ingot:journal-ended", 0, (seconds + 5) * 1000) == 1


async def test_a_job_whose_end_nobody_knows_any_more_does_not_run_again(
    records: Records, writer: JournalWriter, redis: Redis, blobs: Blobs
) -> None:
    job = await accepted(records, writer)
    older = await dumped(redis)
    await cancelled(records, writer, job)
    for each in await blobs.list_objects("journal/"):
        await blobs.remove(each.key)
    await lose(redis, "its last writes", older)
    await writer.restorer.ensure()
    again = await records.get(job.id)
    assert again is not None
    assert again.state == job_pb2.JOB_STATE_FAILED


async def test_an_end_stays_for_as_long_as_the_entry_of_its_job(
    records: Records, writer: JournalWriter, redis: Redis
) -> None:
    job, other = [await queued_job(records, name) for name in ("job", "other")]
    await asyncio.gather(*(writer.enter(Accepted(each, "", "")) for each in (job, other)))
    await cancelled(records, writer, job)
    [ends] = [each async for each in ends_groups(redis)]

    async def due_now() -> Sequence[str]:
        await redis.zadd("ingot:journal-due", {ends: 0})
        return await records.journal.due(10, again=True)

    assert await due_now() == []
    assert await records.journal.needed([ends]) == [ends]
    await cancelled(records, writer, other)
    [entries] = await due_now()
    await records.journal.removed([entries])
    assert await due_now() == [ends]


async def test_the_end_of_a_child_of_a_cancelled_list_is_not_forgotten_by_a_replica(
    records: Records, writer: JournalWriter, redis: Redis
) -> None:
    parent, token = await claimed_job(records, "list")
    await writer.enter(Accepted(parent, "", "list"))
    child = await records.children.add(
        Job(kind=job_pb2.JOB_KIND_INGEST, media=Job().media),
        parent_id=parent.id,
        token=token,
        entry="entry",
        order=0,
    )
    await writer.restorer.ensure()
    older = await dumped(redis)
    await cancelled(records, writer, parent)
    await lose(redis, "its last writes", older)
    await writer.restorer.ensure()
    for job_id in await records.dispatch.sweep(10):
        await records.recover(job_id)
    again = await records.get(child.id)
    assert again is not None
    assert again.state == job_pb2.JOB_STATE_CANCELLED


async def test_a_cancellation_that_cannot_be_written_down_is_not_confirmed(
    settings: Settings, origin: Origin
) -> None:
    gate = asyncio.Event()
    url = origin.serve("/clip.mp4", Page(TINY, gate=gate))
    async with (
        bucket_behind_proxy(settings) as (proxy, behind),
        running_harness(behind) as harness,
    ):
        job = await harness.ask(url)
        proxy.refuses = is_ends
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await harness.jobs.CancelJob(CancelJobRequest(job_id=job.id))
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert (await harness.record(job.id)).state == job_pb2.JOB_STATE_CANCELLED
        proxy.refuses = lambda _method, _path: False
        answer = await harness.jobs.CancelJob(CancelJobRequest(job_id=job.id))
        assert answer.job.state == job_pb2.JOB_STATE_CANCELLED
        assert len([key for key in await harness.keys("journal/") if "-ends" in key]) == 1


async def test_jobs_that_are_cancelled_together_share_a_request(
    harness: Harness, origin: Origin
) -> None:
    gate = asyncio.Event()
    for number in range(20):
        await harness.ask(origin.serve(f"/{number}.mp4", Page(TINY, gate=gate)))
    answer = await harness.jobs.CancelJobs(
        CancelJobsRequest(states=[job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING])
    )
    assert answer.cancelled_count == 20
    assert len([key for key in await harness.keys("journal/") if "-ends" in key]) < 20


async def test_a_job_that_succeeded_just_before_a_loss_is_answered_from_the_bucket(
    harness: Harness, origin: Origin
) -> None:
    url = origin.serve("/clip.mp4", Page(TINY))
    end = await harness.end(await harness.ask(url))
    writer = JournalWriter(harness.records.journal, harness.blobs)
    await writer.enter(Accepted(end, "", end.media.id))  # as if its end was never written
    for key in await harness.keys("journal/"):
        if "-ends" in key:
            await harness.blobs.remove(key)
    await harness.redis.flushall()
    await writer.restorer.restore()
    again = await harness.end(await harness.record(end.id))
    assert again.state == job_pb2.JOB_STATE_SUCCEEDED
    assert again.media == end.media
    assert len(origin.gets("/clip.mp4")) == 1
