"""Ingests of URLs that are not plain files, by a real worker: pages by the generic extractor, HLS.

The site is a real web server on this machine, its media made by ffmpeg.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import imageio_ffmpeg
import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.config import Settings
from ingot_server.jobs.records import Records
from ingot_server.library.identity import canonical_selection, media_id
from ingot_server.redis import connect
from ingot_server.sources import pick
from ingot_server.worker import Worker
from tests.media import media
from tests.origin import Origin, Page
from tests.refusals import reason_of

pytestmark = pytest.mark.any_stores


class Harness:
    """A worker, and the records that its jobs are made in."""

    def __init__(self, settings: Settings) -> None:
        self.worker = Worker(settings)
        self.redis = connect(settings)
        self.records = Records(self.redis, settings)

    async def create(self, url: str) -> Job:
        _, identity = pick(url)
        job = Job(kind=job_pb2.JOB_KIND_INGEST, url=identity.url)
        job.selection.CopyFrom(canonical_selection(job.selection))
        job.media.id = media_id(identity.key, job.selection)
        return (await self.records.create(job)).job

    async def run(self, url: str) -> Job:
        job = await self.create(url)
        await self.worker.run_job(job.id)
        ended = await self.records.get(job.id)
        assert ended is not None
        return ended


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Harness]:
    harness = Harness(settings.replace(attempts=1))
    await harness.worker.start()
    try:
        yield harness
    finally:
        await harness.redis.aclose()
        await harness.worker.stop()


@pytest.fixture
async def harness(settings: Settings) -> AsyncIterator[Harness]:
    async with opened(settings) as running:
        yield running


def hls(directory: Path) -> dict[str, bytes]:
    """A VOD playlist and its segments, by name."""
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-nostdin", "-loglevel", "error", "-i", str(media("plain.mp4")), "-c", "copy"),
            *("-f", "hls", "-hls_time", "1", "-hls_playlist_type", "vod"),
            str(directory / "list.m3u8"),
        ],
        check=True,
    )
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def serve_hls(origin: Origin, directory: Path, *, at: str, content_type: str) -> str:
    files = hls(directory)
    for name, content in files.items():
        if name.endswith(".ts"):
            origin.serve(f"/{name}", Page(content, content_type="video/mp2t"))
    return origin.serve(at, Page(files["list.m3u8"], content_type=content_type))


async def test_a_page_with_a_video_is_that_video(harness: Harness, origin: Origin) -> None:
    clip = media("plain.mp4").read_bytes()
    origin.serve("/clip.mp4", Page(clip))
    page = b"<html><head><title>A Bell</title></head><video src='/clip.mp4'></video></html>"
    url = origin.serve("/page", Page(page, content_type="text/html; charset=utf-8"))

    job = await harness.run(url)

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert job.media.source.key == f"http:{url}"
    assert [stream.codec for stream in job.media.video] == ["h264"]
    assert job.extraction.extractor == "HTML5MediaEmbed"
    assert job.media.extraction == job.extraction
    assert (await harness.run(url)).cached


async def test_a_page_without_media_is_not_media(harness: Harness, origin: Origin) -> None:
    url = origin.serve(
        "/news", Page(b"<html><p>Nothing here.</p></html>", content_type="text/html")
    )

    job = await harness.run(url)

    assert job.state == job_pb2.JOB_STATE_FAILED
    assert reason_of(job) == reason_pb2.REASON_NOT_MEDIA


async def test_hls_by_its_extension_is_asked_for_by_the_extractor_alone(
    harness: Harness, origin: Origin, tmp_path: Path
) -> None:
    url = serve_hls(origin, tmp_path, at="/list.m3u8", content_type="application/vnd.apple.mpegurl")

    job = await harness.run(url)

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert job.media.source.name == "web"
    assert abs(job.media.duration.ToTimedelta().total_seconds() - 2) < 0.5
    assert all("Ingot" not in asked.headers["User-Agent"] for asked in origin.log)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/octet-stream", "audio/mpegurl"]
)
async def test_a_manifest_is_known_by_its_type_or_its_first_bytes(
    harness: Harness, origin: Origin, tmp_path: Path, content_type: str
) -> None:
    url = serve_hls(origin, tmp_path, at="/watch", content_type=content_type)

    job = await harness.run(url)

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert job.media.source.key == f"http:{url}"
    assert [stream.codec for stream in job.media.audio] == ["aac"]


async def test_nothing_is_left_of_an_extraction_that_fails(
    harness: Harness, origin: Origin, settings: Settings
) -> None:
    origin.serve("/clip.mp4", Page(b"<!-- no video -->" * 100, content_type="video/mp4"))
    page = b"<html><video src='/clip.mp4'></video></html>"
    url = origin.serve("/page", Page(page, content_type="text/html"))

    job = await harness.run(url)

    assert job.state == job_pb2.JOB_STATE_FAILED
    assert not list(settings.scratch_dir.rglob(f"*{job.id}*"))
    stored = await asyncio.to_thread(_objects, harness, f"media/{job.media.id}/")
    assert stored == []


def _objects(harness: Harness, prefix: str) -> list[str]:
    blobs = harness.worker._blobs
    found = blobs._s3.calls.client.list_objects(blobs.bucket, prefix, recursive=True)
    return [str(each.object_name) for each in found]
