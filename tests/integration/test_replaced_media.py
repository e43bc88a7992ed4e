"""A stored media that is replaced or completed: what stays of it, and what goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.job_pb2 import JOB_STATE_FAILED, JOB_STATE_SUCCEEDED, IngestOptions, JobWaiting
from ingot.v1.media_pb2 import Media, SideFile
from ingot.v1.media_service_pb2 import UpdateMediaRequest
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest import files_of
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.redis import connect
from tests.bucket_proxy import BucketProxy, bucket_behind_proxy, is_manifest_put
from tests.harness import Harness, running_harness
from tests.media import media
from tests.mediasite import PRESENTATION, serve_page, serve_presentation
from tests.origin import Origin, Page
from tests.refusals import reason_name_of
from tests.waiting import TIMEOUT_SECONDS

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

NOW = Duration()
CONVERSION_LIMIT = JobWaiting.CAUSE_CONVERSION_LIMIT
THUMBNAIL = IngestOptions(thumbnail=True)


@pytest.fixture
async def bucket(settings: Settings) -> AsyncIterator[tuple[BucketProxy, Settings]]:
    async with bucket_behind_proxy(settings) as found:
        yield found


def serve_with_thumbnail(origin: Origin, clip: bytes) -> str:
    """Publish a presentation that has a thumbnail, and return its URL."""
    origin.serve("/picture.jpg", Page(media("picture.jpg").read_bytes(), content_type="image/jpeg"))
    stream = {
        "StreamType": 0,
        "VideoUrls": [{"Location": origin.url("/lecture.mp4"), "MimeType": "video/mp4"}],
        "ThumbnailUrl": origin.url("/picture.jpg"),
    }
    return serve_presentation(origin, clip, Streams=[stream])


async def assert_holds_only(harness: Harness, stored: Media) -> None:
    """The bucket has the manifest and the files that it names, whole, and nothing else."""
    files = {harness.blobs.key(url) for url in files_of(stored)}
    assert set(await harness.keys("media/")) == {f"media/{stored.id}/media.json", *files}
    assert await harness.blobs._s3.calls.run(harness._unfinished) == []
    for side in stored.side_files:
        assert len(await harness.download(url=side.url)) == side.size_bytes


async def test_a_replaced_file_keeps_its_age_and_its_pin_and_leaves_no_old_bytes(
    harness: Harness, origin: Origin, clip: bytes, other_clip: bytes
) -> None:
    url = origin.serve("/clip.mp4", Page(clip, etag='"1"'))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        first = (await harness.ingest(url)).media
        pin = FieldMask(paths=["pinned"])
        await harness.media.UpdateMedia(
            UpdateMediaRequest(media_id=first.id, media=Media(pinned=True), update_mask=pin)
        )
        origin.pages["/clip.mp4"] = Page(other_clip, etag='"2"')
        job = await harness.ingest(url, max_age=NOW)

    assert (job.state, job.cached) == (JOB_STATE_SUCCEEDED, False)
    assert job.media.pinned
    assert job.media.id == first.id
    assert job.media.create_time == first.create_time
    assert await harness.download(media_id=first.id) == other_clip
    await assert_holds_only(harness, job.media)


async def test_a_conversion_that_waited_converts_the_version_that_replaced_its_parent(
    harness: Harness, origin: Origin, clip: bytes, other_clip: bytes
) -> None:
    url = origin.serve("/clip.mp4", Page(clip, etag='"1"'))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        first = (await harness.ingest(url)).media
        request = ConvertRequest(media_id=first.id, recipe=Recipe(wav=Recipe.Wav()))
        job = (await harness.api.Convert(request)).job
        slots = harness.worker._pipeline._context.slots
        assert slots is not None
        async with slots.acquire(1 << 16):
            converting = asyncio.create_task(harness.end(job))
            while (await harness.record(job.id)).waiting.cause != CONVERSION_LIMIT:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            origin.pages["/clip.mp4"] = Page(other_clip, etag='"2"')
            second = (await harness.ingest(url, max_age=NOW)).media
        job = await converting

    assert (job.state, job.attempt) == (JOB_STATE_SUCCEEDED, 1)
    assert job.media.derived_from_sha256 == second.blob.sha256 != first.blob.sha256


async def test_a_file_that_is_unchanged_at_its_source_counts_as_fresh_again(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    url = origin.serve("/clip.mp4", Page(clip, etag='"1"'))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        first = (await harness.ingest(url)).media
        before = await confirm_time(harness, first)
        job = await harness.ingest(url, max_age=NOW)
        asked = len(origin.log)
        age = Duration()
        age.FromTimedelta(timedelta(minutes=5))
        again = await harness.ask(url, max_age=age)

    assert job.cached
    assert job.media.blob == first.blob
    assert job.media.create_time == first.create_time
    assert await confirm_time(harness, first) > before
    assert again.cached
    assert len(origin.log) == asked


async def test_a_second_try_keeps_all_its_files_and_removes_those_of_the_first(
    bucket: tuple[BucketProxy, Settings], origin: Origin, clip: bytes
) -> None:
    proxy, settings = bucket
    url = serve_with_thumbnail(origin, clip)
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        running_harness(settings.replace(attempts=2)) as harness,
    ):
        job = await harness.ask(url, options=THUMBNAIL)
        proxy.refuses = is_manifest_put
        await harness.worker.run_job(job.id)
        job = await harness.record(job.id)
        # What a worker leaves that is killed there.
        folder = f"media/{job.media.id}"
        await harness.blobs.put(f"{folder}/{job.id}-1.mp4", clip, content_type="video/mp4")
        create = harness.blobs._s3.calls.client._create_multipart_upload
        bucket_name, unfinished = harness.blobs.bucket, f"{folder}/{job.id}-1.1.jpg"
        await harness.blobs._s3.calls.run(lambda: create(bucket_name, unfinished, {}))
        proxy.refuses = lambda _method, _path: False
        job = await harness.end(job)

        assert (job.state, job.attempt) == (JOB_STATE_SUCCEEDED, 2)
        assert [side.kind for side in job.media.side_files] == [SideFile.KIND_THUMBNAIL]
        await assert_holds_only(harness, job.media)


async def test_an_object_that_is_replaced_while_it_is_read_is_not_adopted(
    bucket: tuple[BucketProxy, Settings], clip: bytes
) -> None:
    proxy, settings = bucket
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        running_harness(settings.replace(attempts=1)) as harness,
    ):
        await harness.blobs.put("drop/clip.mp4", clip, content_type="video/mp4")
        job = await harness.ask(f"s3://{settings.s3_bucket}/drop/clip.mp4")
        proxy.hold(lambda method, path: method == "GET" and "drop/clip.mp4" in path)
        ending = asyncio.create_task(harness.end(job))
        await proxy.held()
        other = clip[:-8] + bytes(8)
        await harness.blobs.put("drop/clip.mp4", other, content_type="video/mp4")
        proxy.release()
        job = await ending
        keys = await harness.keys("media/")

    assert (job.state, reason_name_of(job)) == (JOB_STATE_FAILED, "TRUNCATED")
    assert keys == []


async def confirm_time(harness: Harness, stored: Media) -> int:
    return (await harness.manifest(stored.id)).source_version.confirm_time.ToNanoseconds()


async def commit(harness: Harness, changed: Media) -> Media:
    """Replaces a stored media as another worker does."""
    async with connect(harness.settings) as redis:
        catalog = Catalog(harness.blobs, redis, harness.settings)
        stored = await catalog.get(changed.id)
        assert stored is not None
        manifest = Manifest()
        manifest.CopyFrom(stored)
        manifest.media.CopyFrom(changed)
        return (await catalog.commit(manifest, replacing=changed.etag)).media


async def test_a_file_is_replaced_although_its_description_changes_meanwhile(
    bucket: tuple[BucketProxy, Settings], origin: Origin, clip: bytes, other_clip: bytes
) -> None:
    proxy, settings = bucket
    url = origin.serve("/clip.mp4", Page(clip, etag='"1"'))
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        running_harness(settings.replace(attempts=1)) as harness,
    ):
        stored = (await harness.ingest(url)).media
        origin.pages["/clip.mp4"] = Page(other_clip, etag='"2"')
        job = await harness.ask(url, max_age=NOW)
        proxy.hold(is_manifest_put)
        ending = asyncio.create_task(harness.end(job))
        await proxy.held()
        proxy.holds = lambda _method, _path: False
        changed = Media()
        changed.CopyFrom(stored)
        changed.description = "Described meanwhile"
        await commit(harness, changed)
        proxy.release()
        job = await ending

        assert (job.state, job.cached) == (JOB_STATE_SUCCEEDED, False)
        assert await harness.download(media_id=stored.id) == other_clip
        await assert_holds_only(harness, job.media)


async def test_side_files_that_come_later_are_dropped_when_the_media_changes_meanwhile(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    url = serve_with_thumbnail(origin, clip)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        stored = (await harness.ingest(url)).media
        gate = origin.pages["/picture.jpg"].gate = asyncio.Event()
        ending = asyncio.create_task(harness.ingest(url, options=THUMBNAIL))
        await origin.asked_for("/picture.jpg")
        changed = Media()
        changed.CopyFrom(stored)
        changed.title = "Another title"
        winner = await commit(harness, changed)
        gate.set()
        job = await ending

    assert job.state == JOB_STATE_SUCCEEDED
    assert (job.media.title, job.media.etag) == ("Another title", winner.etag)
    await assert_holds_only(harness, winner)


async def test_side_files_of_what_a_page_shows_by_now_are_not_put_to_what_it_showed(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    serve_with_thumbnail(origin, clip)
    page = serve_page(origin, "/page")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        stored = (await harness.ingest(page)).media
        other = PRESENTATION[:-3] + "0" + PRESENTATION[-2:]
        origin.serve(f"/Mediasite/Play/{other}", origin.pages[f"/Mediasite/Play/{PRESENTATION}"])
        serve_page(origin, "/page", other)
        job = await harness.ingest(page, options=THUMBNAIL)

    assert job.media.id == stored.id
    assert not job.media.side_files
    await assert_holds_only(harness, stored)
