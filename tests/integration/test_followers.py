"""A job that waits for another one's media item: without a slot, and until any end of that one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import cast

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job, JobWaiting
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.changes import failed, succeeded
from ingot_server.jobs.outcomes import CircularWait, Claim
from ingot_server.jobs.placement import Work
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis
from tests.harness import Harness, running_harness
from tests.mediasite import serve_page, serve_presentation
from tests.origin import Origin, Page
from tests.records import new_job, queued_job
from tests.refusals import reason_name_of
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores

WORKER = "worker"
SLOTS = 3

End = Callable[[Records, Claim], Awaitable[object]]


async def stores(records: Records, leader: Claim) -> None:
    succeeded(Media(id="media"), cached=False)(leader.job)
    await records.write(leader.job, leader.token)


async def fails(records: Records, leader: Claim) -> None:
    failed(Failure(reason_pb2.REASON_STALLED, "It has stalled."))(leader.job)
    await records.write(leader.job, leader.token)


async def is_cancelled(records: Records, leader: Claim) -> None:
    await records.cancel(leader.job.id)


async def loses_its_worker(records: Records, leader: Claim) -> None:
    """The lease is of no length, and no loss is allowed."""
    assert await records.dispatch.sweep(10) == [leader.job.id]
    await records.recover(leader.job.id)


async def dispatched(records: Records) -> list[str]:
    return [each.job_id for each in (await records.dispatch.take(Work.FETCH)).jobs]


async def claim(records: Records, media_id: str) -> Claim:
    """Have a job dispatched and claimed."""
    job = await queued_job(records, media_id)
    assert await dispatched(records) == [job.id]
    found = await records.claim(job.id, worker_id=WORKER)
    assert found is not None
    return found


async def follow(records: Records, follower: Claim, leader: Job) -> Job:
    waiting = JobWaiting(cause=JobWaiting.CAUSE_SAME_MEDIA, job_id=leader.id)
    return await records.release(follower.job.id, follower.token, waiting=waiting, deferred=True)


async def held(redis: Redis) -> set[str]:
    """The jobs that hold slots of workers for fetching."""
    job_ids = cast("list[bytes]", await redis.hkeys("ingot:held:fetch"))
    return {job_id.decode() for job_id in job_ids}


@pytest.fixture
async def records(records: Records) -> Records:
    await records.dispatch.announce(WORKER, Work.FETCH, SLOTS)
    return records


@pytest.mark.parametrize("end", [stores, fails, is_cancelled, loses_its_worker])
async def test_a_follower_is_dispatched_when_its_leader_has_ended_in_any_way(
    redis: Redis, settings: Settings, records: Records, end: End
) -> None:
    if end is loses_its_worker:
        records = Records(redis, settings.replace(lease=timedelta(0), worker_losses=1))
        await records.dispatch.announce(WORKER, Work.FETCH, SLOTS)
        await redis.zadd("ingot:slots-until:fetch", {WORKER: 10**13})
    leader = await claim(records, "media")
    follower = await follow(records, await claim(records, "page"), leader.job)
    assert (follower.state, follower.attempt) == (job_pb2.JOB_STATE_QUEUED, 0)
    assert follower.waiting.job_id == leader.job.id
    assert await held(redis) == {leader.job.id}
    assert await dispatched(records) == []
    assert await records.claim(follower.id) is None

    await end(records, leader)

    assert await dispatched(records) == [follower.id]
    again = await records.claim(follower.id, worker_id=WORKER)
    assert again is not None
    assert again.followed == leader.job.id
    assert await held(redis) == {follower.id}


async def test_a_leader_that_is_tried_again_has_not_ended(records: Records) -> None:
    leader = await claim(records, "media")
    follower = await follow(records, await claim(records, "page"), leader.job)
    await records.release(leader.job.id, leader.token)
    assert await dispatched(records) == [leader.job.id]
    again = await records.claim(leader.job.id, worker_id=WORKER)
    assert again is not None
    await fails(records, again)
    assert await dispatched(records) == [follower.id]


async def test_who_follows_a_job_that_has_ended_meanwhile_goes_on(records: Records) -> None:
    leader = await claim(records, "media")
    follower = await claim(records, "page")
    await stores(records, leader)
    await follow(records, follower, leader.job)
    assert await dispatched(records) == [follower.job.id]


async def test_a_follower_that_is_cancelled_stays_ended(records: Records, redis: Redis) -> None:
    leader = await claim(records, "media")
    follower = await follow(records, await claim(records, "page"), leader.job)
    ended = await records.cancel(follower.id)
    assert ended is not None
    assert ended.state == job_pb2.JOB_STATE_CANCELLED
    await stores(records, leader)
    assert await dispatched(records) == []
    assert await held(redis) == set()


async def test_jobs_do_not_wait_for_each_other(records: Records) -> None:
    """Neither two that follow each other, nor a list and its entry."""
    one, two, entry = [await claim(records, media_id) for media_id in ("one", "two", "list")]
    await follow(records, one, two.job)
    with pytest.raises(CircularWait):
        await follow(records, two, one.job)
    await records.children.add(
        new_job("one"), parent_id=entry.job.id, token=entry.token, entry="one", order=0
    )
    with pytest.raises(CircularWait):
        await follow(records, two, entry.job)


async def test_an_entry_that_another_job_follows_waits_no_longer_for_its_turn(
    records: Records,
) -> None:
    a_list, follower = await claim(records, "list"), await claim(records, "page")
    entry = await records.children.add(
        new_job("media"), parent_id=a_list.job.id, token=a_list.token, entry="media", order=0
    )
    assert await dispatched(records) == []
    await follow(records, follower, entry)
    assert await dispatched(records) == [entry.id]


async def test_as_many_followers_as_slots_leave_these_to_others(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    serve_presentation(origin, clip)
    gate = origin.pages["/lecture.mp4"].gate = asyncio.Event()
    leader, *followers = [
        await harness.ask(serve_page(origin, f"/{number}")) for number in range(SLOTS)
    ]
    await harness.records.dispatch.announce(WORKER, Work.FETCH, SLOTS)
    assert len(await dispatched(harness.records)) == SLOTS
    leading = asyncio.create_task(harness.worker.run_dispatched(leader.id))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await origin.asked_for("/lecture.mp4")
        for follower in followers:
            await harness.worker.run_dispatched(follower.id)
    assert await held(harness.redis) == {leader.id}
    waiting = [(await harness.record(follower.id)).waiting for follower in followers]
    assert {(each.cause, each.job_id) for each in waiting} == {
        (JobWaiting.CAUSE_SAME_MEDIA, leader.id)
    }
    other = await harness.ask(origin.serve("/other.mp4", Page(clip)))
    assert (await harness.end(other)).state == job_pb2.JOB_STATE_SUCCEEDED

    asked = len(origin.log)
    gate.set()
    await leading
    for follower in followers:
        await harness.worker.run_dispatched(follower.id)
    stored = (await harness.record(leader.id)).media
    for follower in followers:
        ended = await harness.record(follower.id)
        assert (ended.state, ended.cached, ended.attempt) == (job_pb2.JOB_STATE_SUCCEEDED, True, 1)
        assert ended.media == stored
    assert len(origin.log) == asked, "the source was asked again"


async def test_a_workflow_whose_ingest_runs_elsewhere_holds_no_slot(
    settings: Settings, origin: Origin, clip: bytes
) -> None:
    gate = asyncio.Event()
    url = origin.serve("/talk.mp4", Page(clip, gate=gate))
    async with running_harness(settings) as harness:
        ingest = await harness.ask(url)
        running = asyncio.create_task(harness.worker.run_dispatched(ingest.id))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await origin.asked_for("/talk.mp4")
        workflow = await harness.ask(url, recipes=[Recipe(wav=Recipe.Wav())])
        await harness.worker.run_dispatched(workflow.id)
        assert await held(harness.redis) == {ingest.id}
        waiting = await harness.record(workflow.id)
        assert waiting.child_job_ids == [ingest.id]
        assert waiting.stage == (await harness.record(ingest.id)).stage
        gate.set()
        await running
        ended = await harness.end(await harness.record(workflow.id))
    assert (ended.state, ended.attempt, len(ended.conversions)) == (
        job_pb2.JOB_STATE_SUCCEEDED,
        1,
        1,
    )
    assert len(origin.gets("/talk.mp4")) == 1


@pytest.mark.parametrize("is_cancelled_first", [False, True], ids=["fails", "is cancelled"])
async def test_a_follower_ends_like_its_leader_and_goes_on_alone_if_that_is_cancelled(
    settings: Settings, origin: Origin, clip: bytes, is_cancelled_first: bool
) -> None:
    serve_presentation(origin, b"no media" * 1000)
    page = origin.pages["/lecture.mp4"]
    page.gate = asyncio.Event()
    async with running_harness(settings.replace(attempts=1)) as harness:
        leader, follower = [
            await harness.ask(serve_page(origin, path)) for path in ("/one", "/two")
        ]
        leading = asyncio.create_task(harness.worker.run_dispatched(leader.id))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await origin.asked_for("/lecture.mp4")
            await harness.worker.run_dispatched(follower.id)
        if is_cancelled_first:
            await harness.cancel(leader)
            page.content = clip
        page.gate.set()
        await leading
        await harness.worker.run_dispatched(follower.id)
        ended, led = await harness.record(follower.id), await harness.record(leader.id)
    if is_cancelled_first:
        assert (ended.state, ended.cached) == (job_pb2.JOB_STATE_SUCCEEDED, False)
    else:
        assert ended.state == led.state == job_pb2.JOB_STATE_FAILED
        assert reason_name_of(ended) == reason_name_of(led)
