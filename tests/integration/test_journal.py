"""The journal: what was accepted is in the bucket, and ends whatever Redis loses."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta
from io import StringIO

import grpc
import pytest

from ingot import Client, IngestJob, IngestOptions
from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job, JobWaiting
from ingot.v1.job_service_pb2 import SnapshotEnd, WatchJobRequest
from ingot_server.config import Settings
from ingot_server.jobs.dispatch import Dispatched
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.journal_index import ENDS_INTERVAL, REMOVAL_INTERVAL, Accepted
from ingot_server.jobs.lifecycle import same_result
from ingot_server.jobs.outcomes import JournalUnrestored
from ingot_server.jobs.placement import Work
from ingot_server.jobs.position import version
from ingot_server.jobs.records import Records
from ingot_server.journal.compaction import compact
from ingot_server.journal.ends import EndsWriter
from ingot_server.journal.leftovers import find_leftovers
from ingot_server.journal.removal import remove_due
from ingot_server.journal.restorer import Restorer
from ingot_server.journal.writer import JournalWriter
from ingot_server.library.blobs import Blobs
from ingot_server.rebuild import Rebuilt, rebuild
from ingot_server.redis import Redis
from tests.bucket_proxy import bucket_behind_proxy
from tests.harness import Harness, running_harness
from tests.lost_writes import dumped, restored
from tests.media import media
from tests.origin import Origin, Page
from tests.recipes import make_recipe
from tests.records import claimed_job, new_job, queued_job
from tests.running_service import running_service
from tests.waiting import JOB_SECONDS, TIMEOUT_SECONDS

TINY = media("tiny.mp4").read_bytes()


def is_journal(method: str, path: str) -> bool:
    return method == "PUT" and "/journal/" in path


@pytest.fixture
def writer(records: Records, blobs: Blobs) -> JournalWriter:
    return JournalWriter(records.journal, blobs)


async def accepted(records: Records, writer: JournalWriter, media_id: str = "media") -> Job:
    """A job that a call got."""
    job = await queued_job(records, media_id, part="one")
    await writer.enter(Accepted(job, "caller", media_id, request_id=job.id, fingerprint="print"))
    return job


def serve_list(origin: Origin, entry: str) -> str:
    item = f"<item><enclosure url='{entry}' type='video/mp4'/></item>"
    feed = f"<?xml version='1.0'?><rss version='2.0'><channel>{item}</channel></rss>"
    return origin.serve("/feed.xml", Page(feed.encode(), content_type="application/rss+xml"))


async def found(records: Records, job: Job) -> Job:
    record = await records.get(job.id)
    assert record is not None
    return record


async def groups(blobs: Blobs) -> list[str]:
    return [found.key for found in await blobs.list_objects("journal/")]


async def dispatched(records: Records) -> list[Dispatched]:
    await records.dispatch.announce("worker", Work.FETCH, 128)
    return list((await records.dispatch.take(Work.FETCH)).jobs)


@pytest.mark.slow
@pytest.mark.any_stores
async def test_each_accepted_job_ends_under_its_id_after_all_of_redis_is_lost(
    settings: Settings, origin: Origin, redis: Redis
) -> None:
    gate = asyncio.Event()
    slow = Page(TINY, gate=gate)
    broken = Page(TINY, status=503)
    running = origin.serve("/running.mp4", slow)
    waiting = origin.serve("/waiting.mp4", broken)
    workflow = origin.serve("/workflow.mp4", slow)
    entry = origin.serve("/entry.mp4", slow)
    listed = serve_list(origin, entry)
    settings = settings.replace(retry_backoff=timedelta(seconds=1))
    async with (
        asyncio.timeout(JOB_SECONDS),
        running_service(settings) as target,
        Client(target) as client,
    ):
        jobs = [
            await client.ingest_video(running, labels={"is": "kept"}),
            await client.ingest_video(waiting),
            await client.ingest_video(listed, options=IngestOptions(playlist=True)),
            await client.ingest_video(workflow, recipes=[make_recipe("mp3")]),
        ]
        seen: dict[str, list[Job]] = {job.id: [] for job in jobs}
        begun = asyncio.Event()

        async def watch(job: IngestJob) -> None:
            async for update in job:
                seen[update.id].append(update)
                if all(updates and updates[-1].attempt for updates in seen.values()):
                    begun.set()

        watches = [asyncio.create_task(watch(job)) for job in jobs]
        await begun.wait()
        await redis.flushall()
        broken.status = 200
        gate.set()
        await asyncio.gather(*watches)
        for updates in seen.values():
            assert updates[-1].state == job_pb2.JOB_STATE_SUCCEEDED, updates[-1]
            assert [each.state for each in updates if each.HasField("end_time")] == [
                job_pb2.JOB_STATE_SUCCEEDED
            ]
        assert seen[jobs[0].id][-1].labels == {"is": "kept"}


async def test_watches_wait_for_lost_jobs_and_go_on_with_them(
    records: Records, writer: JournalWriter, redis: Redis, settings: Settings
) -> None:
    feed = Feed(redis, records, settings, restore=writer.restorer.ensure)
    await feed.start()
    job = await accepted(records, writer)
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        aclosing(feed.watch_all(lambda _: True, 10)) as updates,
        aclosing(feed.watch(job.id)) as changes,
    ):
        while (await anext(updates)).event != SnapshotEnd():
            pass
        assert await anext(changes) == job
        await redis.flushall()
        feed._recheck_now.set()
        events = []
        while (update := await anext(updates)).event != SnapshotEnd():
            events.append(update.event)
        restored = await anext(changes)
    assert events == [restored]
    assert version(restored) > version(job)
    await feed.close()


async def test_a_job_that_an_older_replica_does_not_know_is_made_again(
    records: Records, writer: JournalWriter, redis: Redis
) -> None:
    known = await accepted(records, writer, "known")
    await writer.restorer.ensure()
    kept = await dumped(redis)
    lost = await accepted(records, writer, "lost")
    assert not await writer.restorer.ensure()
    await restored(redis, kept)

    assert await writer.restorer.ensure()
    again = await found(records, lost)
    assert again.labels == {"part": "one"}
    assert again.epoch > lost.epoch
    assert await records.get(known.id) == known
    assert await records.requested(lost.id, "print") == again
    assert {each.job_id for each in await dispatched(records)} == {known.id, lost.id}


async def test_processes_that_restore_at_once_make_each_job_once(
    records: Records, writer: JournalWriter, redis: Redis, blobs: Blobs
) -> None:
    jobs = await asyncio.gather(
        *(accepted(records, writer, f"media{number}") for number in range(50))
    )
    await redis.flushall()
    restorers = [Restorer(records.journal, blobs) for _ in range(3)]
    counts = await asyncio.gather(*(each.restore() for each in restorers))
    assert sum(counts) == len(jobs)
    assert sorted(each.job_id for each in await dispatched(records)) == sorted(
        job.id for job in jobs
    )


async def test_a_restored_job_ends_like_the_one_that_took_its_place(
    harness: Harness, origin: Origin
) -> None:
    gate = asyncio.Event()
    url = origin.serve("/clip.mp4", Page(TINY, gate=gate))
    writer = JournalWriter(harness.records.journal, harness.blobs)
    lost = await harness.ask(url)
    # Not FLUSHALL, of which the worker would hear.
    await harness.redis.delete(*[key async for key in harness.redis.scan_iter()])
    other = (await harness.records.create(Job(kind=lost.kind, url=url, media=lost.media))).job
    assert await writer.restorer.restore() == 1
    ending = asyncio.create_task(harness.end(other))
    await origin.arrived()
    following = asyncio.create_task(harness.end(await harness.record(lost.id)))
    async for response in harness.jobs.WatchJob(WatchJobRequest(job_id=lost.id)):
        if response.job.waiting.cause == JobWaiting.CAUSE_SAME_MEDIA:
            gate.set()
    followed = await following
    assert followed.id == lost.id
    assert followed.media == (await ending).media
    assert len(origin.gets("/clip.mp4")) == 1


async def test_no_run_of_a_job_uses_the_objects_of_one_that_redis_has_lost(
    records: Records, writer: JournalWriter, redis: Redis
) -> None:
    job = await accepted(records, writer)
    first = await records.claim(job.id)
    assert first is not None
    assert first.run == 1
    await redis.flushall()
    await writer.restorer.restore()
    again = await records.claim(job.id)
    assert again is not None
    assert again.run > 10**12


async def test_no_run_of_a_job_uses_the_objects_of_a_later_one_after_a_failover(
    records: Records, redis: Redis
) -> None:
    job = await queued_job(records)
    await redis.hset("ingot:history", "run_id", "another")
    await records.history.since(None)
    claim = await records.claim(job.id)
    assert claim is not None
    assert claim.run > 10**12


async def test_a_job_is_not_made_again_from_what_was_read_long_ago(
    records: Records, writer: JournalWriter, redis: Redis
) -> None:
    job = await accepted(records, writer)
    await redis.flushall()
    with pytest.raises(JournalUnrestored):
        await records.journal.recreate(Accepted(job, "", "media"), before=1)
    assert await records.get(job.id) is None


async def test_a_job_that_ends_while_its_entry_is_written_leaves_none(
    records: Records, writer: JournalWriter, blobs: Blobs
) -> None:
    job = await queued_job(records)
    cancelled = await records.cancel(job.id)
    assert cancelled is not None
    await writer.enter(Accepted(job, "", "media"))
    await EndsWriter(records.journal, blobs).record_due()
    await remove_due(records.journal, blobs)
    assert [key for key in await groups(blobs) if not key.endswith("-ends")] == []


async def test_a_call_that_joins_the_entry_of_a_list_makes_its_job_durable(
    records: Records, writer: JournalWriter, redis: Redis, blobs: Blobs
) -> None:
    parent, token = await claimed_job(records, "list")
    child = await records.children.add(
        new_job("entry"), parent_id=parent.id, token=token, entry="entry", order=0
    )
    assert await groups(blobs) == []
    joined = await records.create(new_job("entry"))
    assert (joined.job.id, joined.in_journal) == (child.id, False)
    await writer.ensure(joined.job)
    await writer.ensure(joined.job)
    assert (await records.create(new_job("entry"))).in_journal
    assert len(await groups(blobs)) == 1
    await redis.flushall()
    assert await writer.restorer.restore() == 1
    restored = await records.get(child.id)
    assert restored is not None
    assert restored.state == job_pb2.JOB_STATE_QUEUED


async def test_a_call_fails_if_its_job_cannot_be_made_durable(
    settings: Settings, origin: Origin
) -> None:
    url = origin.serve("/clip.mp4", Page(TINY))
    async with bucket_behind_proxy(settings) as (proxy, behind):
        proxy.refuses = is_journal
        async with running_harness(behind) as harness:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await harness.ask(url, request_id="11111111-1111-4111-8111-111111111111")
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            assert await harness.keys("journal/") == []
            [job] = await harness.records.list(limit=10)
            proxy.refuses = lambda _method, _path: False
            again = await harness.ask(url, request_id="11111111-1111-4111-8111-111111111111")
            assert again.id == job.id
            assert len(await harness.keys("journal/")) == 1


async def test_jobs_at_one_a_second_cost_at_most_two_requests_each(
    settings: Settings, redis: Redis
) -> None:
    requests: list[str] = []

    def note(method: str, path: str) -> bool:
        if "/journal/" in path or (method == "POST" and "delete" in path):
            requests.append(method)
        return False

    async with bucket_behind_proxy(settings) as (proxy, behind):
        proxy.denies_answer = note
        blobs = Blobs(behind)
        await blobs.prepare()
        records = Records(redis, behind)
        writer = JournalWriter(records.journal, blobs)
        jobs = [await accepted(records, writer, f"media{number}") for number in range(3)]
        assert requests == ["PUT"] * 3
        for job in jobs:
            await records.cancel(job.id)
        await EndsWriter(records.journal, blobs).record_due()
        await remove_due(records.journal, blobs)
        assert requests == ["PUT"] * 4 + ["POST"]
        assert len(await groups(blobs)) == 1
        await blobs.close()
    second = timedelta(seconds=1)
    assert 1 + second / ENDS_INTERVAL + second / REMOVAL_INTERVAL <= 2


async def test_jobs_that_are_accepted_at_the_same_time_share_their_requests(
    settings: Settings, redis: Redis
) -> None:
    async with bucket_behind_proxy(settings) as (proxy, behind):
        blobs = Blobs(behind)
        await blobs.prepare()
        records = Records(redis, behind)
        writer = JournalWriter(records.journal, blobs)
        proxy.hold(is_journal)
        first = asyncio.create_task(accepted(records, writer, "first"))
        await proxy.held()
        others = [
            asyncio.create_task(accepted(records, writer, f"media{number}")) for number in range(99)
        ]
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while len(await records.list(limit=100)) < 100:  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0.01)
        proxy.release()
        await asyncio.gather(first, *others)
        assert len(await groups(blobs)) <= 3
        await blobs.close()


async def test_a_job_leaves_the_group_of_those_that_have_ended(
    records: Records, writer: JournalWriter, redis: Redis, blobs: Blobs
) -> None:
    ended, other = [await queued_job(records, name, part="one") for name in ("ended", "other")]
    await asyncio.gather(
        *(writer.enter(Accepted(each, "", each.media.id)) for each in (ended, other))
    )
    [group] = await groups(blobs)
    kept = await dumped(redis)
    cancelled = await records.cancel(ended.id)
    assert cancelled is not None
    await writer.record_ends([cancelled])
    assert await compact(records.journal, blobs, age=timedelta(0))
    assert not await compact(records.journal, blobs, age=timedelta(0))
    assert [f"journal/{each}" for each in await records.journal.due(10)] == [group]
    await blobs.remove(group)

    # A replica that has not heard of that knows only the first group.
    await restored(redis, kept)
    await redis.hset("ingot:history", "run_id", "another")
    await writer.restorer.ensure()
    assert await records.get(other.id) == other
    await redis.flushall()
    assert await writer.restorer.restore() == 1
    again = await records.get(other.id)
    assert again is not None
    assert again.labels == {"part": "one"}
    assert same_result(await found(records, ended), cancelled)


async def test_gc_finds_only_those_groups_that_no_job_needs(
    records: Records, writer: JournalWriter, redis: Redis, blobs: Blobs
) -> None:
    job = await accepted(records, writer)
    await blobs.put("journal/unreadable", b"\xff", content_type="text/plain")

    async def keys() -> list[str]:
        leftovers = find_leftovers(records.journal, blobs, timedelta(0))
        return [each.key async for each in leftovers]

    await redis.flushall()
    assert await keys() == []
    await writer.restorer.ensure()
    assert await keys() == ["journal/unreadable"]
    cancelled = await records.cancel(job.id)
    assert cancelled is not None
    await writer.record_ends([cancelled])
    assert len(await keys()) == 2


async def test_rebuild_brings_the_jobs_back_and_says_how_far_it_is(
    records: Records, writer: JournalWriter, redis: Redis, settings: Settings
) -> None:
    job = await accepted(records, writer)
    await redis.flushall()
    output = StringIO()
    rebuilt = await rebuild(settings, output)
    assert rebuilt == Rebuilt(jobs=1, media_items=0)
    assert await records.get(job.id) is not None
    assert output.getvalue().splitlines() == [
        "groups of the journal: 0 of 1",
        "groups of the journal: 1 of 1",
        "media items: 0 of 0",
        "media items: 0 of 0",
    ]
