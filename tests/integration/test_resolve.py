"""Resolve says what is behind a URL, asks its source once for all callers, and stores nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from ingot.v1.ingest_service_pb2 import ResolveRequest, ResolveResponse
from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED, IngestOptions
from ingot.v1.job_service_pb2 import ListJobsRequest
from ingot.v1.media_pb2 import Selection
from ingot.v1.media_service_pb2 import GetMediaRequest
from ingot_server.config import Settings
from ingot_server.jobs.backlog import Backlog
from tests.broadcast import Broadcast
from tests.harness import Harness, running_harness
from tests.manifests import LANGUAGES, serve_manifest
from tests.mediasite import serve_presentation
from tests.origin import Origin, Page
from tests.refusals import refusal, refused
from tests.videos import REFUSALS
from tests.waiting import JOB_SECONDS
from tests.youtube import FakeYouTube

pytestmark = pytest.mark.any_stores

# See transition.lua: the active jobs of previews.
ACTIVE = "ingot:active:preview:*"
VIDEO = "dQw4-9Wg_cQ"
FEED = b"<?xml version='1.0'?><rss><channel><title>Bells</title>%s</channel></rss>"


async def waiting_job(harness: Harness) -> str:
    """Wait for a job that has not ended, and return its id."""
    found: Any = []
    async with asyncio.timeout(JOB_SECONDS):
        while not found:
            found = await harness.redis.keys(ACTIVE)
    (key,) = found
    job_id: Any = await harness.redis.get(key)
    return str(job_id.decode())


def begin(harness: Harness, url: str, **fields: Any) -> asyncio.Task[ResolveResponse]:
    async def call() -> ResolveResponse:
        response: ResolveResponse = await harness.api.Resolve(ResolveRequest(url=url, **fields))
        return response

    return asyncio.create_task(call())


async def resolve(harness: Harness, url: str, **fields: Any) -> ResolveResponse:
    """Return what Resolve returns. Its job runs as the queue would run it."""
    call = begin(harness, url, **fields)
    job_id = await waiting_job(harness)
    async with asyncio.timeout(JOB_SECONDS):
        await harness.worker.run_job(job_id)
        return await call


async def test_a_media_item_is_what_an_ingest_would_store(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    url = serve_presentation(origin, clip)

    found = await resolve(harness, url)

    assert (found.kind, found.stored) == (ResolveResponse.KIND_MEDIA, False)
    assert found.media.title == "On Bells"
    assert found.media.duration.ToTimedelta().total_seconds() == 2
    assert [each.extension for each in found.formats] == ["mp4"]
    assert found.extraction.format_id == found.formats[-1].format_id
    assert not origin.gets("/lecture.mp4")
    await harness.assert_nothing_is_left()

    job = await harness.ingest(url)
    again = await harness.api.Resolve(ResolveRequest(url=url))
    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert again.stored
    assert found.media.id == again.media.id == job.media.id


async def test_the_formats_are_all_that_the_source_offers(harness: Harness, origin: Origin) -> None:
    url = serve_manifest(origin, "dash")

    found = await resolve(harness, url, selection=Selection(max_height=60))

    video, audio = [each for each in found.formats if each.height], found.formats[0]
    assert [each.height for each in video] == [60, 120]
    assert {each.video_codec for each in video} == {"h264"}
    assert (audio.audio_codec, audio.video_codec, audio.height) == ("aac", "", 0)
    assert all(each.bitrate_bps for each in found.formats)
    assert found.extraction.format_id == f"{video[0].format_id}+{audio.format_id}"
    assert not found.HasField("selection_error")


async def test_a_selection_that_is_not_offered_is_an_error_next_to_what_is(
    harness: Harness, origin: Origin
) -> None:
    url = serve_manifest(origin, next(iter(LANGUAGES)))

    found = await resolve(harness, url, selection=Selection(audio_language="fr"))

    assert sorted(each.language for each in found.formats if each.language) == ["de", "en"]
    assert "audio in de and en, and audio_language is fr" in found.selection_error.message
    assert not found.HasField("extraction")


async def test_a_file_is_known_by_its_head(harness: Harness, origin: Origin) -> None:
    page = Page(size=64 << 20, headers={"Content-Disposition": 'attachment; filename="Bell.mp4"'})
    url = origin.serve("/file", page)

    found = await resolve(harness, url)

    assert (found.kind, found.media.title) == (ResolveResponse.KIND_MEDIA, "Bell")
    assert (found.size_bytes, found.content_type) == (64 << 20, "video/mp4")
    await origin.idle()
    assert origin.bytes_sent("/file") < 8 << 20
    await harness.assert_nothing_is_left()


async def test_a_list_has_its_first_entries(harness: Harness, origin: Origin) -> None:
    items = b"".join(
        b"<item><title>Episode %d</title><enclosure url='%s' type='video/mp4'/></item>"
        % (number, origin.url(f"/{number}.mp4").encode())
        for number in range(250)
    )
    url = origin.serve("/feed", Page(FEED % items, content_type="application/rss+xml"))

    found = await resolve(harness, url)

    assert (found.kind, found.media.title) == (ResolveResponse.KIND_LIST, "Bells")
    assert len(found.entries) == 200
    first = found.entries[0]
    assert (first.url, first.title) == (origin.url("/0.mp4"), "Episode 0")
    assert not found.HasField("entry_count") or found.entry_count == 250
    assert {asked.path for asked in origin.log} == {"/feed"}


async def test_a_short_list_is_counted(harness: Harness, origin: Origin) -> None:
    videos = "".join(f"<video src='/{name}.mp4'></video>" for name in "abc")
    page = Page(f"<html>{videos}</html>".encode(), content_type="text/html")

    found = await resolve(
        harness, origin.serve("/page", page), options=IngestOptions(playlist=True)
    )

    assert found.kind == ResolveResponse.KIND_LIST
    assert found.entry_count == len(found.entries) == 3


async def test_what_is_live_says_so(harness: Harness, broadcast: Broadcast) -> None:
    found = await resolve(harness, broadcast.url)

    assert found.kind == ResolveResponse.KIND_LIVE
    await harness.assert_nothing_is_left()


@pytest.mark.slow
async def test_what_is_announced_says_so(settings: Settings, tmp_path: Path) -> None:
    async with FakeYouTube().running(tmp_path) as site:
        site.videos[VIDEO], _ = REFUSALS["upcoming"]
        async with running_harness(site.settings(settings)) as harness:
            found = await resolve(harness, f"https://youtu.be/{VIDEO}")

    assert (found.kind, found.stored) == (ResolveResponse.KIND_UPCOMING, False)
    assert found.media.source.key == f"youtube:{VIDEO}"


async def test_what_does_not_exist_is_remembered(harness: Harness, origin: Origin) -> None:
    url = origin.url("/gone.mp4")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await resolve(harness, url)
    requests = len(origin.log)
    again = await refused(harness.api.Resolve(ResolveRequest(url=url)))

    for each in refusal(caught.value), again:
        assert (each.code, each.reason) == (
            grpc.StatusCode.NOT_FOUND,
            "MEDIA_DOES_NOT_EXIST",
        )
    assert len(origin.log) == requests
    assert (
        await refused(harness.media.GetMedia(GetMediaRequest(url=url)))
    ).reason == "MEDIA_DOES_NOT_EXIST"


async def test_callers_share_one_request_and_later_ones_get_its_result(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    url = origin.serve("/clip.mp4", Page(clip))
    calls = [begin(harness, each) for each in (url, url + "#t=3", url)]
    async with asyncio.timeout(JOB_SECONDS):
        job_id = await waiting_job(harness)
        await harness.worker.run_job(job_id)
        results = await asyncio.gather(*calls)
    requests = len(origin.gets("/clip.mp4"))

    again = await harness.api.Resolve(ResolveRequest(url=url))

    assert requests == len(origin.gets("/clip.mp4")) == 1
    assert results == [again] * 3


async def test_the_source_is_asked_although_the_caller_has_left(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    url = origin.serve("/clip.mp4", Page(clip))
    left = begin(harness, url)
    job_id = await waiting_job(harness)
    left.cancel()

    await harness.worker.run_job(job_id)
    found = await harness.api.Resolve(ResolveRequest(url=url))

    assert found.size_bytes == len(clip)
    assert len(origin.gets("/clip.mp4")) == 1


async def test_no_list_and_no_count_has_its_job(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    call = begin(harness, origin.serve("/clip.mp4", Page(clip)))
    job_id = await waiting_job(harness)
    before = await harness.jobs.ListJobs(ListJobsRequest())
    backlog = await Backlog(harness.redis, harness.records).read()
    await harness.worker.run_job(job_id)
    await call
    after = await harness.jobs.ListJobs(ListJobsRequest())

    for each in before, after:
        assert (list(each.jobs), list(each.state_counts)) == ([], [])
    assert backlog == []


async def test_without_a_lifetime_the_source_is_asked_every_time(
    settings: Settings, origin: Origin, clip: bytes
) -> None:
    url = origin.serve("/clip.mp4", Page(clip))
    async with running_harness(settings.replace(resolve_ttl=timedelta(0))) as harness:
        await resolve(harness, url)
        await resolve(harness, url)
    assert len(origin.gets("/clip.mp4")) == 2


async def test_a_stored_object_needs_no_worker(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    job = await harness.ingest(origin.serve("/clip.mp4", Page(clip)))

    found = await harness.api.Resolve(ResolveRequest(url=job.media.blob.url))

    assert (found.stored, found.media.id) == (True, job.media.id)
    assert found.size_bytes == len(clip)


async def test_a_forbidden_address_is_refused_at_once(harness: Harness) -> None:
    assert (
        await refused(harness.api.Resolve(ResolveRequest(url="http://10.0.0.1/clip.mp4")))
    ).reason == "ADDRESS_FORBIDDEN"
