"""Lists as yt-dlp itself reads them, by whole ingests: a podcast's feed, and a page of videos.

A real API server, a real worker, and a real web server with what the lists name; yt-dlp's generic
extractor finds the entries.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from ingot.client import Client
from ingot.job import IngestJob
from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import ChildSummary, IngestOptions, Job
from ingot.v1.reason_pb2 import Reason
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.errors import Failure
from tests.ingot_command import run_command
from tests.origin import Page
from tests.playlist_harness import PlaylistHarness, ingot, worker
from tests.refusals import reason_of
from tests.waiting import JOB_SECONDS, TIMEOUT_SECONDS

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

__all__ = ["ingot"]

ALL = IngestOptions(playlist=True)
MP3 = Recipe(mp3=Recipe.Mp3())
ITEM = "<item><title>{0}</title><link>{1}</link><enclosure url='{1}' type='video/mp4'/></item>"
CANCELLED = job_pb2.JOB_STATE_CANCELLED


def serve_feed(
    ingot: PlaylistHarness, name: str, urls: Sequence[str], *, kind: str = "application/rss+xml"
) -> str:
    items = "".join(ITEM.format(f"Episode {number}", url) for number, url in enumerate(urls))
    feed = f"<?xml version='1.0'?><rss version='2.0'><channel><title>Bells</title>{items}"
    return ingot.origin.serve(
        f"/{name}", Page(f"{feed}</channel></rss>".encode(), content_type=kind)
    )


def serve_page(ingot: PlaylistHarness, name: str, urls: Sequence[str]) -> str:
    videos = "".join(f"<video src='{url}'></video>" for url in urls)
    page = f"<html><head><title>Bells</title></head><body>{videos}</body></html>"
    return ingot.origin.serve(f"/{name}", Page(page.encode(), content_type="text/html"))


@asynccontextmanager
async def served(ingot: PlaylistHarness, **changes: object) -> AsyncIterator[Client]:
    """A caller of an Ingot with one worker."""
    async with running(ingot.settings) as addresses, Client(addresses.grpc) as client:
        with worker(ingot, **changes):
            yield client


async def end_of(job: IngestJob) -> Job:
    async with asyncio.timeout(JOB_SECONDS):
        async for _ in job:
            pass
    return job.latest


async def children_of(client: Client, parent: Job) -> list[Job]:
    return [(await client.job(job_id)).latest for job_id in parent.child_job_ids]


@pytest.mark.parametrize("kind", ["application/rss+xml", "text/xml"])
async def test_a_feed_is_all_of_its_episodes(ingot: PlaylistHarness, kind: str) -> None:
    good = ingot.entries(4)
    gone = ingot.origin.url("/gone.mp4")
    feed = serve_feed(ingot, "feed.xml", [*good[:2], gone, *good[2:], good[1]], kind=kind)
    async with served(ingot) as client:
        await client.ingest_video(good[0])
        updates = [job async for job in await client.ingest_video(feed, options=ALL)]
        parent = updates[-1]
        children = await children_of(client, parent)
        again = await end_of(await client.ingest_video(feed, options=ALL))
        jobs = [job async for job in client.jobs()]

    assert [update.state for update in updates[-2:]] == [
        job_pb2.JOB_STATE_RUNNING,
        job_pb2.JOB_STATE_SUCCEEDED,
    ]
    assert (parent.children.total, parent.children.succeeded, parent.children.failed) == (5, 4, 1)
    assert parent.progress.fraction == 1
    assert parent.media.title == "Bells"
    assert [child.url for child in children] == [*good[:2], gone, *good[2:]]
    assert {reason_of(each) for each in children if each.HasField("error")} == {
        reason_pb2.REASON_MEDIA_DOES_NOT_EXIST
    }
    assert {job.id for job in jobs if job.parent_job_id == parent.id} >= {
        child.id for child in children[1:]
    }
    # Asked again: a new list of what is stored, and of what is known to be gone.
    assert again.id != parent.id
    assert again.children == ChildSummary(total=5, succeeded=4, failed=1, cached=4)
    for url in good:
        assert len(ingot.origin.gets(url.removeprefix(ingot.origin.base))) == 1


async def test_a_page_of_videos_is_a_list_only_when_one_was_asked_for(
    ingot: PlaylistHarness,
) -> None:
    urls = ingot.entries(3)
    page = serve_page(ingot, "page", urls)
    async with served(ingot) as client:
        refused = await end_of(await client.ingest_video(page))
        taken = await end_of(await client.ingest_video(page, options=ALL))

    assert reason_of(refused) == reason_pb2.REASON_INVALID_REQUEST
    assert "3 entries" in refused.error.message
    assert "options.playlist" in refused.error.message
    assert refused.attempt == 1
    assert taken.children == ChildSummary(total=3, succeeded=3)


@pytest.mark.parametrize(
    ("first", "recipes"),
    [(True, [MP3]), (False, [])],
    ids=["the list first, converted", "the media first, as it is"],
)
async def test_requests_for_a_list_and_for_one_media_item_each_get_what_they_asked_for(
    ingot: PlaylistHarness, first: bool, recipes: list[Recipe]
) -> None:
    urls = ingot.entries(2)
    page, clip = serve_page(ingot, "page", urls), urls[0]
    async with running(ingot.settings) as addresses, Client(addresses.grpc) as client:
        jobs: dict[tuple[str, bool], IngestJob] = {}
        for playlist in (first, not first):
            for url in (page, clip):
                options = IngestOptions(playlist=playlist)
                job = await client.ingest_video(url, options=options, recipes=recipes)
                again = await client.ingest_video(url, options=options, recipes=recipes)
                assert again.id == job.id
                jobs[url, playlist] = job
        with worker(ingot), worker(ingot, "--convert"):
            ended = {asked: await end_of(job) for asked, job in jobs.items()}

    assert len({job.id for job in jobs.values()}) == 4
    assert reason_of(ended[page, False]) == reason_pb2.REASON_INVALID_REQUEST
    entries = ended[page, True].children
    assert (entries.total, entries.succeeded) == (2, 2)
    assert ended[clip, True].media == ended[clip, False].media
    assert ended[clip, True].media.blob.sha256
    # One media, one download, whoever asked for it and in which way.
    gets = ingot.origin.gets("/entry-0.mp4")
    assert (
        len([asked for asked in gets if asked.headers["User-Agent"] == Settings().user_agent]) == 1
    )


@pytest.mark.parametrize(
    ("names", "most", "reason"),
    [
        (["entry-0.mp4", "entry-1.mp4"], 1, reason_pb2.REASON_TOO_MANY_ENTRIES),
        (["gone-0.mp4", "gone-1.mp4"], 2, reason_pb2.REASON_ENTRIES_FAILED),
    ],
)
async def test_a_list_that_cannot_be_had_says_why(
    ingot: PlaylistHarness, names: list[str], most: int, reason: Reason.ValueType
) -> None:
    ingot.entries(2)
    feed = serve_feed(ingot, "feed.xml", [ingot.origin.url(f"/{name}") for name in names])
    async with served(ingot) as client:
        options = IngestOptions(playlist=True, max_entries=most)
        parent = await end_of(await client.ingest_video(feed, options=options))

    assert parent.state == job_pb2.JOB_STATE_FAILED
    assert reason_of(parent) == reason
    assert len(parent.child_job_ids) == (2 if reason == reason_pb2.REASON_ENTRIES_FAILED else 0)
    if not parent.child_job_ids:
        assert Failure.from_status(parent.error).metadata["limit"] == "1"


async def test_lists_of_lists_are_followed_once(ingot: PlaylistHarness) -> None:
    urls = ingot.entries(4)
    deepest = serve_feed(ingot, "deepest.xml", urls[2:])
    inner = serve_page(ingot, "inner", urls[:2])
    deep = serve_feed(ingot, "deep.xml", [deepest, urls[0]])
    outer = serve_feed(ingot, "outer.xml", [inner, deep, urls[1]])
    async with served(ingot) as client:
        parent = await end_of(await client.ingest_video(outer, options=ALL))
        children = await children_of(client, parent)
        grandchildren = await children_of(client, children[1])

    assert (parent.children.succeeded, parent.children.failed) == (3, 0)
    assert children[0].children.succeeded == 2
    assert (children[1].children.succeeded, children[1].children.failed) == (1, 1)
    assert reason_of(grandchildren[0]) == reason_pb2.REASON_TOO_MANY_ENTRIES
    assert not ingot.origin.gets("/entry-3.mp4")


async def test_cancelling_a_list_stops_what_runs_and_what_waits(ingot: PlaylistHarness) -> None:
    urls = ingot.entries(6)
    gates = [asyncio.Event() for _ in range(3)]
    for number, gate in enumerate(gates):
        ingot.origin.pages[f"/entry-{number}.mp4"].gate = gate
    feed = serve_feed(ingot, "feed.xml", urls)
    async with served(ingot, worker_slots=3, jobs_per_host=8) as client:
        theirs = await client.ingest_video(urls[5])
        await end_of(theirs)
        parent = await client.ingest_video(feed, options=ALL)
        async with asyncio.timeout(60):
            await ingot.origin.asked_for(*(f"/entry-{number}.mp4" for number in range(3)))
        shared = await client.ingest_video(urls[1])
        asked = len(ingot.origin.log)
        cancelled = await parent.cancel()
        stopped = [ingot.origin.gets(f"/entry-{number}.mp4")[0].ended for number in (0, 2)]
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await asyncio.gather(*(each.wait() for each in stopped))
        children = await children_of(client, (await client.job(parent.id)).latest)
        gates[1].set()
        kept = await end_of(shared)

    assert cancelled.state == CANCELLED
    assert [child.state for child in children if child.id != shared.id] == [
        *[CANCELLED] * 4,
        job_pb2.JOB_STATE_SUCCEEDED,
    ]
    assert children[1].id == shared.id
    assert kept.state == job_pb2.JOB_STATE_SUCCEEDED
    assert len(ingot.origin.log) == asked, "what waited was begun"


async def test_the_command_line_prints_a_list_with_its_entries(ingot: PlaylistHarness) -> None:
    urls = ingot.entries(2)
    feed = serve_feed(ingot, "feed.xml", urls)
    async with running(ingot.settings) as addresses:
        with worker(ingot):
            code, *_ = await run_command(addresses.grpc, "--json", "ingest", feed)
            assert code == 2, "--playlist is missing"
            code, shown, _ = await run_command(
                addresses.grpc, "--json", "ingest", "--playlist", feed
            )
        parent = json.loads(shown.splitlines()[-1])
        _, lines, _ = await run_command(addresses.grpc, "--json", "job", parent["id"])

    assert code == 0
    assert parent["children"]["succeeded"] == 2
    printed = [json.loads(line) for line in lines.splitlines()]
    assert [job["url"] for job in printed] == [feed, *urls]
    assert {job["parentJobId"] for job in printed[1:]} == {parent["id"]}
