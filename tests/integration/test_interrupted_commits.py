"""What a job leaves in the bucket when its commit fails, is lost on the way, or comes second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any, BinaryIO

import grpc
import pytest

from ingot.v1.ingest_service_pb2 import UploadChunk, UploadHeader, UploadRequest
from ingot.v1.job_pb2 import JOB_STATE_FAILED, JOB_STATE_SUCCEEDED, Job
from ingot.v1.media_pb2 import Media
from ingot.v1.media_service_pb2 import DeleteMediaRequest, GetMediaRequest
from ingot.v1.recipe_pb2 import Recipe
from ingot_server import garbage_collection
from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.multipart import Content, StoredBlob
from ingot_server.redis import connect
from tests.bucket_proxy import BucketProxy, bucket_behind_proxy, is_manifest_put
from tests.harness import Harness, running_harness
from tests.mediasite import serve_presentation
from tests.origin import Origin, Page
from tests.refusals import reason_name_of
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores


@pytest.fixture
async def bucket(settings: Settings) -> AsyncIterator[tuple[BucketProxy, Settings]]:
    async with bucket_behind_proxy(settings) as found:
        yield found


@pytest.fixture
def proxy(bucket: tuple[BucketProxy, Settings]) -> BucketProxy:
    return bucket[0]


@pytest.fixture
async def harness(bucket: tuple[BucketProxy, Settings]) -> AsyncIterator[Harness]:
    """An Ingot that reaches its bucket through `proxy` and tries a job once."""
    async with running_harness(bucket[1].replace(attempts=1)) as running:
        yield running


def a_file(origin: Origin, clip: bytes) -> str:
    return origin.serve("/clip.mp4", Page(clip))


def a_page(origin: Origin, clip: bytes) -> str:
    return serve_presentation(origin, clip)


async def upload(harness: Harness, content: bytes) -> Job:
    """The job of a file that is sent without its SHA-256."""
    answer = await harness.api.Upload(
        [
            UploadRequest(header=UploadHeader(filename="clip.mp4")),
            UploadRequest(chunk=UploadChunk(data=content)),
        ]
    )
    job: Job = answer.job
    return job


SOURCES = pytest.mark.parametrize("serve", [a_file, a_page])


async def collect_garbage(harness: Harness) -> None:
    """Run gc when everything in the bucket is old enough."""
    settings = harness.settings.replace(gc_grace=timedelta(0))
    await garbage_collection.collect_garbage(settings, delete=True, say=lambda _line: None)


@SOURCES
async def test_what_a_commit_with_an_unknown_outcome_leaves_is_removed_as_garbage(
    harness: Harness,
    proxy: BucketProxy,
    origin: Origin,
    clip: bytes,
    serve: Callable[[Origin, bytes], str],
) -> None:
    proxy.refuses = is_manifest_put

    async with asyncio.timeout(TIMEOUT_SECONDS):
        job = await harness.ingest(serve(origin, clip))

    assert (job.state, reason_name_of(job)) == (JOB_STATE_FAILED, "STORAGE_UNAVAILABLE")
    assert await harness.keys("media/") == [f"media/{job.media.id}/{job.id}-1.mp4"]
    await collect_garbage(harness)
    await harness.assert_nothing_is_left()


async def test_a_manifest_that_arrives_late_names_a_file_that_is_still_there(
    bucket: tuple[BucketProxy, Settings], origin: Origin, clip: bytes
) -> None:
    proxy, settings = bucket
    proxy.delivers_late = is_manifest_put
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        running_harness(settings.replace(attempts=2)) as harness,
    ):
        job = await harness.ask(a_file(origin, clip))
        await harness.worker.run_job(job.id)
        proxy.delivers_late = lambda _method, _path: False
        await proxy.deliver()

        job = await harness.end(job)

        assert (job.state, job.attempt) == (JOB_STATE_SUCCEEDED, 2)
        assert await harness.download(media_id=job.media.id) == clip


async def test_a_manifest_that_arrives_after_a_later_attempt_or_a_deletion_changes_nothing(
    bucket: tuple[BucketProxy, Settings], origin: Origin, clip: bytes
) -> None:
    proxy, settings = bucket
    proxy.delivers_late = is_manifest_put
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        running_harness(settings.replace(attempts=3, lease=timedelta(minutes=1))) as harness,
    ):
        job = await harness.ask(a_file(origin, clip))
        await harness.worker.run_job(job.id)
        kept = list(proxy._undelivered)
        proxy.delivers_late = lambda _method, _path: False
        job = await harness.end(job)
        assert (job.state, job.attempt) == (JOB_STATE_SUCCEEDED, 2)

        assert await proxy.deliver() == [HTTPStatus.PRECONDITION_FAILED]
        assert await harness.download(media_id=job.media.id) == clip

        await harness.media.DeleteMedia(DeleteMediaRequest(media_id=job.media.id))
        proxy._undelivered = kept
        assert await proxy.deliver() == [HTTPStatus.PRECONDITION_FAILED]
        assert await harness.keys("media/") == [f"media/{job.media.id}/media.json"]
        with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
            await harness.media.GetMedia(GetMediaRequest(media_id=job.media.id))
        await collect_garbage(harness)
        await harness.assert_nothing_is_left()


async def test_the_bucket_refuses_a_manifest_that_arrives_after_the_lease_of_its_job(
    bucket: tuple[BucketProxy, Settings], origin: Origin, clip: bytes
) -> None:
    proxy, settings = bucket
    lease = timedelta(seconds=5)
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        running_harness(settings.replace(lease=lease)) as harness,
    ):
        job = await harness.ask(a_file(origin, clip))
        proxy.hold(is_manifest_put)
        running = asyncio.create_task(harness.worker.run_job(job.id))
        await proxy.held()
        await harness.redis.flushall()
        # The signature expires by the clock of the S3 server, in whole seconds.
        await asyncio.sleep(lease.total_seconds() + 1)
        proxy.release()
        await running

        assert f"media/{job.media.id}/media.json" not in await harness.keys("media/")


@pytest.mark.parametrize("left", ["nothing", "half of it"])
async def test_media_whose_blob_is_gone_or_cut_is_not_stored_and_is_ingested_again(
    harness: Harness, origin: Origin, clip: bytes, left: str
) -> None:
    url = a_file(origin, clip)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        first = await harness.ingest(url)
        key = harness.blobs.key(first.media.blob.url)
        if left == "nothing":
            await harness.blobs.remove(key)
        else:
            half = clip[: len(clip) // 2]
            await harness.blobs.put(key, half, content_type="video/mp4")

        again = await harness.ingest(url)

        assert (again.state, again.cached) == (JOB_STATE_SUCCEEDED, False)
        assert again.media.blob.url != first.media.blob.url
        assert await harness.download(media_id=first.media.id) == clip
        assert len(await harness.keys("media/")) == 2


async def test_a_conversion_whose_commit_fails_leaves_its_parent_alone(
    harness: Harness, proxy: BucketProxy, origin: Origin, clip: bytes
) -> None:
    parent = await harness.ingest(a_file(origin, clip))
    before = await harness.keys("media/")
    proxy.refuses = is_manifest_put

    async with asyncio.timeout(TIMEOUT_SECONDS):
        job = await harness.ingest(parent.url, recipes=[Recipe(wav=Recipe.Wav())])

    assert job.state == JOB_STATE_FAILED
    assert await harness.download(media_id=parent.media.id) == clip
    await harness.assert_idle()
    await collect_garbage(harness)
    assert await harness.keys("media/") == before


async def test_an_upload_whose_commit_fails_keeps_its_bytes_for_another_try(
    harness: Harness, proxy: BucketProxy, clip: bytes
) -> None:
    proxy.refuses = is_manifest_put
    async with asyncio.timeout(TIMEOUT_SECONDS):
        job = await harness.end(await upload(harness, clip))
    assert (job.state, reason_name_of(job)) == (JOB_STATE_FAILED, "STORAGE_UNAVAILABLE")
    await collect_garbage(harness)
    await harness.assert_nothing_is_left()
    assert await harness.keys("uploads/")


@SOURCES
async def test_a_commit_whose_answer_is_lost_keeps_the_file_that_its_manifest_names(
    harness: Harness,
    proxy: BucketProxy,
    origin: Origin,
    clip: bytes,
    serve: Callable[[Origin, bytes], str],
) -> None:
    proxy.denies_answer = is_manifest_put

    async with asyncio.timeout(TIMEOUT_SECONDS):
        job = await harness.ingest(serve(origin, clip))

    assert job.state == JOB_STATE_FAILED
    assert await harness.download(media_id=job.media.id) == clip


@SOURCES
async def test_a_job_that_commits_second_returns_the_first_and_removes_its_own_file(
    harness: Harness,
    origin: Origin,
    clip: bytes,
    other_clip: bytes,
    serve: Callable[[Origin, bytes], str],
) -> None:
    url = serve(origin, clip)
    gate = origin.pages[f"/{'clip' if serve is a_file else 'lecture'}.mp4"].gate = asyncio.Event()
    job = await harness.ask(url)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        ending = asyncio.create_task(harness.end(job))
        await origin.asked_for("/clip.mp4" if serve is a_file else "/lecture.mp4")
        # As a worker does that began the same before Redis was lost.
        media_id = (await harness.record(job.id)).media.id
        first = await commit(harness, media_id, other_clip)
        gate.set()
        job = await ending

    assert job.state == JOB_STATE_SUCCEEDED
    assert job.media.blob.url == first.blob.url
    assert await harness.keys("media/") == [
        f"media/{media_id}/first.mp4",
        f"media/{media_id}/media.json",
    ]
    assert await harness.download(media_id=media_id) == other_clip


async def commit(harness: Harness, media_id: str, content: bytes) -> Media:
    """Store media as another worker does."""
    key = f"media/{media_id}/first.mp4"
    await harness.blobs.put(key, content, content_type="video/mp4")
    media = Media(id=media_id)
    media.blob.url = harness.blobs.url(key)
    media.blob.size_bytes = len(content)
    media.blob.content_type = "video/mp4"
    async with connect(harness.settings) as redis:
        catalog = Catalog(harness.blobs, redis, harness.settings)
        return (await catalog.commit(Manifest(media=media))).media


class OneByteLess:
    """Content whose last byte is lost on its way into the bucket."""

    def __init__(self, content: Content) -> None:
        self._content = content

    @property
    def expected_bytes(self) -> int | None:
        return self._content.expected_bytes

    def wait(self, end: int) -> int:
        return max(0, self._content.wait(end + 1) - 1)

    def part(self, begin: int, end: int) -> BinaryIO:
        return self._content.part(begin, end)

    def close(self) -> None:
        self._content.close()


@pytest.fixture
def upload_less(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes every upload from now on lose its last byte."""
    whole_upload = Blobs.upload

    async def upload(
        blobs: Blobs, key: str, content: Content, *, size_bytes: int | None, **fields: Any
    ) -> StoredBlob:
        size_bytes = None if size_bytes is None else size_bytes - 1
        return await whole_upload(blobs, key, OneByteLess(content), size_bytes=size_bytes, **fields)

    return lambda: monkeypatch.setattr(Blobs, "upload", upload)


@pytest.mark.parametrize("arrives_as", ["a file", "a page", "an upload"])
async def test_a_blob_that_lacks_bytes_is_never_committed(
    harness: Harness, origin: Origin, clip: bytes, upload_less: Callable[[], None], arrives_as: str
) -> None:
    upload_less()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        if arrives_as == "an upload":
            job = await upload(harness, clip)
        else:
            serve = a_file if arrives_as == "a file" else a_page
            job = await harness.ask(serve(origin, clip))
        job = await harness.end(job)

    assert (job.state, reason_name_of(job)) == (JOB_STATE_FAILED, "STORAGE_UNAVAILABLE")
    await harness.assert_nothing_is_left()


async def test_a_result_of_a_conversion_that_lacks_bytes_is_never_committed(
    harness: Harness, origin: Origin, clip: bytes, upload_less: Callable[[], None]
) -> None:
    parent = await harness.ingest(a_file(origin, clip))
    before = await harness.keys("media/")
    upload_less()

    async with asyncio.timeout(TIMEOUT_SECONDS):
        job = await harness.ingest(parent.url, recipes=[Recipe(wav=Recipe.Wav())])

    assert (job.state, reason_name_of(job)) == (JOB_STATE_FAILED, "STORAGE_UNAVAILABLE")
    assert await harness.keys("media/") == before
