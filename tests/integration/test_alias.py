"""Aliases in the bucket, and jobs that move to a better identity; no extraction takes part here.

What callers see of it all, extraction included, is in test_identity_flow.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media, Selection
from ingot_server.config import Settings
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lease import hold
from ingot_server.jobs.outcomes import Claim, SingleFlightTaken
from ingot_server.jobs.records import Records
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.identity import media_id
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.pipeline.await_job import JobWaiter
from ingot_server.redis import Redis
from tests.bucket_proxy import bucket_behind_proxy
from tests.waiting import TIMEOUT_SECONDS

ASKED = media_id("http:http://127.0.0.1/page", Selection())
TARGET = media_id("vimeo:76979871", Selection())


@pytest.fixture
async def catalog(blobs: Blobs, redis: Redis, settings: Settings) -> AsyncIterator[Catalog]:
    opened = Catalog(blobs, redis, settings)
    await opened.start()
    yield opened
    await opened.close()


def new_media(blobs: Blobs) -> Manifest:
    media = Media(id=TARGET, title="A Bell")
    media.blob.url = blobs.url(f"media/{TARGET}/1.mp4")
    media.duration.FromTimedelta(timedelta(seconds=1))
    media.side_files.add(url=blobs.url(f"media/{TARGET}/1.1.vtt"))
    return Manifest(media=media)


async def test_a_thousand_callers_read_an_alias_twice_at_most(
    settings: Settings, redis: Redis
) -> None:
    reads: list[str] = []

    def note(method: str, path: str) -> bool:
        if method == "GET" and "/alias/" in path:
            reads.append(path)
        return False

    async with bucket_behind_proxy(settings) as (proxy, behind):
        blobs = Blobs(behind)
        await blobs.prepare()
        proxy.refuses = note
        catalog = Catalog(blobs, redis, behind)
        await catalog.start()
        found = await asyncio.gather(*(catalog.find(ASKED) for _ in range(1000)))
        await catalog.close()
        await blobs.close()
    assert set(found) == {(ASKED, None)}
    assert 1 <= len(reads) <= 2


async def test_an_alias_leads_to_its_media_and_outlives_redis(
    catalog: Catalog, blobs: Blobs, redis: Redis, settings: Settings
) -> None:
    await catalog.commit(new_media(blobs))
    await catalog.put_alias(ASKED, TARGET, source_key="vimeo:76979871")
    await redis.flushall()
    other = Catalog(blobs, redis, settings)

    name, manifest = await other.find(ASKED)

    assert name == TARGET
    assert manifest is not None
    assert manifest.media.title == "A Bell"
    assert other.alias_from_memory(ASKED) == TARGET
    assert await redis.get(f"ingot:alias:{ASKED}") == TARGET.encode()
    await other.close()


async def test_an_alias_of_a_deleted_media_is_harmless(catalog: Catalog, blobs: Blobs) -> None:
    await catalog.commit(new_media(blobs))
    await catalog.put_alias(ASKED, TARGET, source_key="vimeo:76979871")

    await catalog.delete(TARGET)

    assert await catalog.find(ASKED) == (TARGET, None)
    await catalog.remove_alias(ASKED)
    assert await catalog.find(ASKED) == (ASKED, None)


async def test_side_files_go_with_their_media(catalog: Catalog, blobs: Blobs) -> None:
    key = f"media/{TARGET}/1.1.vtt"
    await blobs.put(key, b"WEBVTT", content_type="text/vtt")
    await catalog.commit(new_media(blobs))

    await catalog.delete(TARGET)

    assert await blobs.stat(key) is None


def new_job(name: str) -> Job:
    job = Job(kind=job_pb2.JOB_KIND_INGEST, url="http://127.0.0.1/page")
    job.media.id = name
    return job


def to_target(job: Job) -> None:
    job.media.id = TARGET


async def claimed(records: Records, name: str) -> tuple[Job, str]:
    creation = await records.create(new_job(name))
    assert creation.is_new
    claim = await records.claim(creation.job.id)
    assert claim is not None
    return claim.job, claim.token


async def test_a_job_moves_to_the_better_identity(records: Records, feed: Feed) -> None:
    job, token = await claimed(records, ASKED)

    async with hold(records, feed, Claim(job, token, run=1)) as lease:
        assert await lease.adopt(to_target) == ""

        creation = await records.create(new_job(TARGET))
        moved = creation.job
        assert (moved.id, creation.is_new) == (job.id, False)
        assert moved.media.id == TARGET
        assert moved.revision == job.revision + 1
        assert (await records.create(new_job(ASKED))).is_new
        await lease.update(lambda job: setattr(job, "state", job_pb2.JOB_STATE_SUCCEEDED))

    assert (await records.create(new_job(TARGET))).is_new


async def test_a_single_flight_key_that_another_job_holds_is_not_taken(records: Records) -> None:
    first, _ = await claimed(records, TARGET)
    second, token = await claimed(records, ASKED)
    second.media.id = TARGET

    with pytest.raises(SingleFlightTaken) as taken:
        await records.change_identity(second, token)

    assert taken.value.job_id == first.id
    standing = await records.get(second.id)
    assert standing is not None
    assert standing.media.id == ASKED


async def test_a_job_that_waits_for_a_queued_one_lends_it_its_slot(
    records: Records, feed: Feed
) -> None:
    job = (await records.create(new_job(TARGET))).job
    ran = []

    async def run(job_id: str) -> None:
        claim = await records.claim(job_id)
        if claim is not None:
            ran.append(job_id)
            claim.job.state = job_pb2.JOB_STATE_SUCCEEDED
            await records.write(claim.job, claim.token)

    async with asyncio.timeout(TIMEOUT_SECONDS):
        media = await JobWaiter(records, feed, run).result(job.id)

    assert ran == [job.id]
    assert media is not None
    assert media.id == TARGET


async def test_following_a_cancelled_job_gives_nothing(records: Records, feed: Feed) -> None:
    job, _ = await claimed(records, TARGET)
    await records.cancel(job.id)

    async def run(_: str) -> None:
        raise AssertionError

    assert await JobWaiter(records, feed, run).result(job.id) is None
