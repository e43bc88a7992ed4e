"""Two URLs of one media, as their callers see it: one download, one media, whoever asks and when.

The extractor is yt-dlp's own; the server is a fake (tests/mediasite.py).
"""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import grpc
import pytest

from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED
from ingot.v1.media_pb2 import Selection
from ingot_server.library.identity import media_id
from tests.harness import Harness, running_harness
from tests.mediasite import PRESENTATION, presentation_path, serve_page, serve_presentation
from tests.origin import Origin, Page, running_origin
from tests.refusals import reason_name_of, refusal
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.slow

AUDIO = Selection(mode=Selection.MODE_AUDIO_ONLY)


@pytest.fixture
def pages(origin: Origin, clip: bytes) -> tuple[str, str]:
    """Two pages that embed the same presentation."""
    serve_presentation(origin, clip)
    return serve_page(origin, "/autumn"), serve_page(origin, "/bells")


def asked_id(url: str, selection: Selection | None = None) -> str:
    return media_id(f"http:{url}", selection or Selection())


async def test_two_pages_of_one_lecture_are_one_media(
    harness: Harness, origin: Origin, pages: tuple[str, str]
) -> None:
    first = await harness.ingest(pages[0])
    assert first.state == JOB_STATE_SUCCEEDED, first
    received = origin.bytes_sent("/lecture.mp4")

    second = await harness.ingest(pages[1])

    assert (second.state, second.cached) == (JOB_STATE_SUCCEEDED, True)
    assert second.media == first.media
    assert origin.bytes_sent("/lecture.mp4") == received
    assert first.media.title == "On Bells"
    assert first.media.source.key.endswith(PRESENTATION)
    assert first.media.source.page_url == origin.url(presentation_path())


async def test_asked_at_once_they_are_one_download(
    harness: Harness, origin: Origin, pages: tuple[str, str]
) -> None:
    origin.pages["/lecture.mp4"].gate = asyncio.Event()
    jobs = [await harness.ask(url) for url in pages]
    assert jobs[0].id != jobs[1].id

    running = asyncio.gather(*map(harness.end, jobs))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await origin.asked_for("/lecture.mp4")
    gate = origin.pages["/lecture.mp4"].gate
    assert gate is not None
    gate.set()
    ended = await running

    assert [job.state for job in ended] == [JOB_STATE_SUCCEEDED] * 2, ended
    assert ended[0].media == ended[1].media
    assert len(origin.gets("/lecture.mp4")) == 1
    assert len(await harness.keys("media/")) == 2  # the manifest and one file


async def test_the_asked_url_is_an_alias_that_outlives_redis(
    harness: Harness, pages: tuple[str, str]
) -> None:
    stored = (await harness.ingest(pages[0])).media
    await harness.ingest(pages[1])
    kept = await harness.blobs.get(f"alias/{asked_id(pages[0])}")
    assert kept is not None
    assert json.loads(kept[0]) == {"media_id": stored.id, "source_key": stored.source.key}

    await harness.redis.flushall()
    async with running_harness(harness.settings) as other:
        for url in pages:
            assert (await other.get(url=url)).id == stored.id
            assert (await other.ingest(url)).cached


async def test_an_alias_is_of_one_selection(
    harness: Harness, origin: Origin, pages: tuple[str, str]
) -> None:
    best = (await harness.ingest(pages[0])).media
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await harness.get(url=pages[0], selection=AUDIO)
    assert refusal(error.value).reason == "MEDIA_NOT_FOUND"

    sound = (await harness.ingest(pages[1], selection=AUDIO)).media

    assert sound.id != best.id
    assert not sound.video
    assert (await harness.get(url=pages[1], selection=AUDIO)).id == sound.id
    assert (await harness.get(url=pages[0])).id == best.id


async def test_what_the_lecture_is_refused_for_holds_for_its_pages(
    harness: Harness, origin: Origin, pages: tuple[str, str]
) -> None:
    stored = (await harness.ingest(pages[0])).media
    await harness.delete(stored.id)
    origin.pages["/lecture.mp4"] = Page(status=404)

    gone = await harness.ingest(pages[0])
    assert reason_name_of(gone) == "MEDIA_DOES_NOT_EXIST"
    asked = len(origin.log)

    for url in pages[:1]:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await harness.ask(url)
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        assert refusal(error.value).reason == "MEDIA_DOES_NOT_EXIST"
    assert len(origin.log) == asked
    fresh = await harness.ask(pages[0], max_age=timedelta(0))
    assert fresh.id


async def test_a_deleted_media_comes_back_by_any_of_its_urls(
    harness: Harness, origin: Origin, pages: tuple[str, str]
) -> None:
    stored = (await harness.ingest(pages[0])).media
    await harness.ingest(pages[1])
    await harness.delete(stored.id)
    for url in pages:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await harness.get(url=url)
        assert refusal(error.value).reason == "MEDIA_NOT_FOUND"

    again = await harness.ingest(pages[1])

    assert again.state == JOB_STATE_SUCCEEDED, again
    assert not again.cached
    assert again.media.id == stored.id
    assert (await harness.get(url=pages[0])).id == stored.id


async def test_a_page_that_shows_another_lecture_leads_there_once_its_old_one_is_gone(
    harness: Harness, origin: Origin, pages: tuple[str, str], clip: bytes
) -> None:
    stored = (await harness.ingest(pages[0])).media
    other = PRESENTATION.replace("2", "3")
    serve_presentation(origin, clip, presentation=other)
    serve_page(origin, "/autumn", other)
    await harness.delete(stored.id)

    job = await harness.ingest(pages[0])

    assert job.state == JOB_STATE_SUCCEEDED, job
    assert job.media.source.key.endswith(other)
    assert (await harness.get(url=pages[0])).id == job.media.id


async def test_a_server_that_anybody_can_run_names_only_its_own_media(
    harness: Harness, pages: tuple[str, str], other_clip: bytes
) -> None:
    stored = (await harness.ingest(pages[0])).media
    async with running_origin() as impostor:
        serve_presentation(impostor, other_clip, Title="Not on Bells")
        job = await harness.ingest(serve_page(impostor, "/autumn"))

    assert job.state == JOB_STATE_SUCCEEDED, job
    assert job.media.id != stored.id
    assert (await harness.get(url=pages[0])).title == "On Bells"
