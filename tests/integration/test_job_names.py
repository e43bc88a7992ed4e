"""What people see of a job: a name at once, and its media as soon as the source has told it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import ConvertRequest, UploadChunk, UploadHeader, UploadRequest
from ingot.v1.job_pb2 import JOB_STAGE_DOWNLOADING, IngestOptions, Job
from ingot.v1.job_service_pb2 import WatchJobRequest
from ingot.v1.recipe_pb2 import Recipe
from tests.conversions import WAV
from tests.harness import Harness
from tests.mediasite import serve_page, serve_presentation
from tests.origin import Origin, Page
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores


async def downloading(harness: Harness, asked: Job) -> Job:
    """Return a job as it is while its source sends, after its title is known."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        async for response in harness.jobs.WatchJob(WatchJobRequest(job_id=asked.id)):
            job: Job = response.job
            if job.stage == JOB_STAGE_DOWNLOADING and job.media.title:
                return job
    raise AssertionError("the job ended without it")


@pytest.mark.parametrize("recipes", [[], [WAV]], ids=["plain", "with recipes"])
async def test_title_and_duration_are_known_before_the_download_ends(
    harness: Harness, origin: Origin, clip: bytes, recipes: list[Recipe]
) -> None:
    serve_presentation(origin, clip)
    gate = origin.pages["/lecture.mp4"].gate = asyncio.Event()
    url = serve_page(origin, "/autumn")
    asked = await harness.ask(url, recipes=recipes)
    running = asyncio.create_task(harness.end(asked))
    job = await downloading(harness, asked)
    gate.set()
    ended = await running

    assert asked.display_name == url.removeprefix("http://")
    assert (job.display_name, job.media.title) == ("On Bells", "On Bells")
    assert job.media.duration.seconds > 0
    assert not job.media.HasField("blob")
    assert ended.display_name == "On Bells"


async def test_a_conversion_of_a_url_shows_what_it_converts(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    serve_presentation(origin, clip)
    gate = origin.pages["/lecture.mp4"].gate = asyncio.Event()
    request = ConvertRequest(url=serve_page(origin, "/autumn"), recipe=WAV)
    asked = (await harness.api.Convert(request)).job
    running = asyncio.create_task(harness.end(asked))
    job = await downloading(harness, asked)
    gate.set()
    ended = await running

    assert (job.display_name, job.media.title) == ("On Bells", "On Bells")
    assert job.media.duration.seconds > 0
    assert ended.display_name == "On Bells"


async def test_a_plain_file_has_the_name_that_its_server_gives(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    gate = asyncio.Event()
    headers = {"Content-Disposition": 'attachment; filename="Autumn bells.mp4"'}
    asked = await harness.ask(
        origin.serve("/download/17.mp4", Page(clip, gate=gate, held_after=4096, headers=headers))
    )
    running = asyncio.create_task(harness.end(asked))
    job = await downloading(harness, asked)
    gate.set()
    ended = await running

    assert asked.display_name == "17.mp4"
    assert (job.display_name, job.media.title) == ("Autumn bells", "Autumn bells")
    assert ended.display_name == ended.media.title


async def test_an_upload_has_the_name_of_its_file(harness: Harness, clip: bytes) -> None:
    async def parts() -> AsyncIterator[UploadRequest]:
        yield UploadRequest(header=UploadHeader(filename="Autumn bells.mp4"))
        yield UploadRequest(chunk=UploadChunk(data=clip))

    asked = (await harness.api.Upload(parts())).job
    ended = await harness.end(asked)

    assert ended.state == job_pb2.JOB_STATE_SUCCEEDED, ended
    assert (asked.display_name, ended.display_name) == ("Autumn bells.mp4", "Autumn bells.mp4")


async def test_a_list_has_its_title(harness: Harness, origin: Origin, clip: bytes) -> None:
    url = origin.serve("/1.mp4", Page(clip))
    items = f"<item><enclosure url='{url}' type='video/mp4'/></item>"
    feed = (
        "<?xml version='1.0'?><rss version='2.0'><channel><title>Bells of autumn</title>"
        f"{items}</channel></rss>"
    )
    page = Page(feed.encode(), content_type="application/rss+xml")
    asked = await harness.ask(origin.serve("/feed.xml", page), options=IngestOptions(playlist=True))
    ended = await harness.end(asked)
    [entry] = [await harness.record(child_id) for child_id in ended.child_job_ids]

    assert (asked.display_name, ended.display_name) == ("feed.xml", "Bells of autumn")
    assert ended.media.title == "Bells of autumn"
    assert entry.display_name == entry.media.title == "Bell of the Day"
