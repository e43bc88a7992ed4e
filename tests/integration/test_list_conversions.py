"""Lists whose entries are converted, by whole ingests: each entry is an ingest with conversions.

A real API server, a worker of ingests and one of conversions; yt-dlp's generic extractor finds the
entries on a real web server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mutagen.id3 import ID3

from ingot.client import Client
from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import ChildSummary
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.app import running
from ingot_server.library.blobs import Blobs
from tests.integration.test_real_lists import ALL, children_of, end_of, serve_feed, serve_page
from tests.media import media
from tests.origin import Page
from tests.playlist_harness import PlaylistHarness, ingot, worker
from tests.refusals import reason_of
from tests.waiting import JOB_SECONDS

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

__all__ = ["ingot"]

MP3 = Recipe(mp3=Recipe.Mp3())
WAV = Recipe(wav=Recipe.Wav())
SUCCEEDED = job_pb2.JOB_STATE_SUCCEEDED
CANCELLED = job_pb2.JOB_STATE_CANCELLED


@asynccontextmanager
async def served(ingot: PlaylistHarness) -> AsyncIterator[Client]:
    """A caller of an Ingot with one worker of each kind."""
    async with running(ingot.settings) as addresses, Client(addresses.grpc) as client:
        with worker(ingot), worker(ingot, "--convert"):
            yield client


async def album(client: Client, made: Media, path: Path) -> list[str]:
    await client.download(made.id, path)
    return [str(text) for frame in ID3(path).getall("TALB") for text in frame.text]


async def test_every_entry_is_converted_and_tagged_with_the_title_of_its_list(
    ingot: PlaylistHarness, tmp_path: Path
) -> None:
    urls = ingot.entries(3)
    silent = ingot.origin.serve("/silent.mp4", Page(media("silent.mp4").read_bytes()))
    gone = ingot.origin.url("/gone.mp4")
    feed = serve_feed(ingot, "feed.xml", [*urls, silent, gone])
    async with served(ingot) as client:
        updates = [
            job async for job in await client.ingest_video(feed, options=ALL, recipes=[MP3, WAV])
        ]
        parent = updates[-1]
        children = await children_of(client, parent)
        parts = await children_of(client, children[0])
        asked = len(ingot.origin.log)
        again = await end_of(await client.ingest_video(feed, options=ALL, recipes=[MP3, WAV]))
        alone = await end_of(await client.convert(children[0].media.id, MP3))
        assert [child.state for child in children[:3]] == [SUCCEEDED] * 3, children
        albums = [
            await album(client, child.conversions[0], tmp_path / child.id) for child in children[:3]
        ]

    assert parent.state == SUCCEEDED
    assert parent.children == ChildSummary(total=5, succeeded=3, failed=2)
    fractions = [job.progress.fraction for job in updates]
    assert (fractions, fractions[-1]) == (sorted(fractions), 1)
    for child, url in zip(children, urls, strict=False):
        assert (child.state, child.list_title, child.media.url) == (SUCCEEDED, "Bells", url)
        assert child.children == ChildSummary(total=3, succeeded=3)
        kinds = [made.blob.content_type for made in child.conversions]
        assert kinds == ["audio/mpeg", "audio/wav"]
    assert [reason_of(child) for child in children[3:]] == [
        reason_pb2.REASON_INVALID_REQUEST,
        reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
    ]
    assert [part.kind for part in parts] == [
        job_pb2.JOB_KIND_INGEST,
        *[job_pb2.JOB_KIND_CONVERT] * 2,
    ]
    assert albums == [["Bells"]] * 3
    # What is stored is neither fetched nor made again, and the album is not part of its name.
    assert again.children == ChildSummary(total=5, succeeded=3, failed=2, cached=3)
    assert not [line for line in ingot.origin.log[asked:] if "/entry-" in str(line)]
    assert (alone.cached, alone.media) == (True, children[0].conversions[0])


async def test_an_entry_that_turns_out_to_be_a_list_has_all_of_its_own_converted(
    ingot: PlaylistHarness,
) -> None:
    urls = ingot.entries(4)
    inner = serve_page(ingot, "inner", urls[:2])
    deepest = serve_page(ingot, "deepest", urls[2:])
    deep = serve_feed(ingot, "deep.xml", [deepest, urls[0]])
    outer = serve_feed(ingot, "outer.xml", [inner, deep, urls[1]])
    async with served(ingot) as client:
        parent = await end_of(await client.ingest_video(outer, options=ALL, recipes=[MP3]))
        lists = await children_of(client, parent)
        entries = await children_of(client, lists[0])
        deep_entries = await children_of(client, lists[1])
        jobs = [job async for job in client.jobs()]

    assert (parent.state, parent.children.succeeded, parent.children.total) == (SUCCEEDED, 3, 3)
    assert (lists[0].children.succeeded, lists[0].children.total) == (2, 2)
    assert [entry.url for entry in entries] == urls[:2]
    for entry in [*entries, lists[2]]:
        assert [made.blob.content_type for made in entry.conversions] == ["audio/mpeg"], entry
    # A list in a list in a list is as far as it goes without recipes, too.
    assert (lists[1].children.succeeded, lists[1].children.failed) == (1, 1)
    assert reason_of(deep_entries[0]) == reason_pb2.REASON_TOO_MANY_ENTRIES
    assert not ingot.origin.gets("/entry-3.mp4")
    assert all(job.end_time.seconds for job in jobs)


async def test_a_page_of_one_video_is_converted_though_a_list_was_asked_for(
    ingot: PlaylistHarness,
) -> None:
    [url] = ingot.entries(1)
    page = serve_page(ingot, "page", [url])
    async with served(ingot) as client:
        job = await end_of(await client.ingest_video(page, options=ALL, recipes=[MP3]))

    assert job.state == SUCCEEDED, job
    assert [made.blob.content_type for made in job.conversions] == ["audio/mpeg"]


async def test_a_list_that_was_not_requested_is_refused_with_recipes_too(
    ingot: PlaylistHarness,
) -> None:
    page = serve_page(ingot, "page", ingot.entries(2))
    async with served(ingot) as client:
        job = await end_of(await client.ingest_video(page, recipes=[MP3]))

    assert reason_of(job) == reason_pb2.REASON_INVALID_REQUEST
    assert not ingot.origin.gets("/entry-0.mp4")


async def test_cancelling_the_list_ends_all_that_was_begun_for_it(ingot: PlaylistHarness) -> None:
    urls = ingot.entries(3)
    for number in range(3):
        ingot.origin.pages[f"/entry-{number}.mp4"].gate = asyncio.Event()
    feed = serve_feed(ingot, "feed.xml", urls)
    async with served(ingot) as client:
        parent = await client.ingest_video(feed, options=ALL, recipes=[MP3])
        async with asyncio.timeout(JOB_SECONDS):
            while not ingot.origin.gets("/entry-0.mp4"):
                await ingot.origin.arrived(len(ingot.origin.log) + 1)
        assert (await parent.cancel()).state == CANCELLED
        async with asyncio.timeout(JOB_SECONDS):
            await ingot.origin.gets("/entry-0.mp4")[0].ended.wait()
        jobs = [await end_of(await client.job(job.id)) async for job in client.jobs()]

    assert {job.state for job in jobs} == {CANCELLED}
    assert not await Blobs(ingot.settings).list_objects("media/")
