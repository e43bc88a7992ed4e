"""The kind of each job, from its acceptance to its end, also after an attempt that failed."""

from __future__ import annotations

from typing import Any

import pytest

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.job_pb2 import IngestOptions, Job
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.jobs.changes import found_list
from ingot_server.jobs.lease import hold
from tests.conversions import WAV
from tests.harness import Harness, running_harness
from tests.mediasite import serve_page, serve_presentation
from tests.origin import Origin, Page

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

INGEST = job_pb2.JOB_KIND_INGEST
CONVERT = job_pb2.JOB_KIND_CONVERT
INGEST_AND_CONVERT = job_pb2.JOB_KIND_INGEST_AND_CONVERT
PLAYLIST = job_pb2.JOB_KIND_PLAYLIST
LIST = IngestOptions(playlist=True)


def serve_feed(origin: Origin, clip: bytes, **page: Any) -> str:
    urls = [origin.serve(f"/{number}.mp4", Page(clip)) for number in range(2)]
    items = "".join(f"<item><enclosure url='{url}' type='video/mp4'/></item>" for url in urls)
    feed = f"<?xml version='1.0'?><rss version='2.0'><channel>{items}</channel></rss>"
    content_type = "application/rss+xml"
    return origin.serve("/feed.xml", Page(feed.encode(), content_type=content_type, **page))


async def children_of(harness: Harness, job: Job) -> list[Job]:
    return [await harness.record(child_id) for child_id in job.child_job_ids]


async def test_an_ingest_and_a_conversion(harness: Harness, origin: Origin, clip: bytes) -> None:
    asked = await harness.ask(origin.serve("/clip.mp4", Page(clip)))
    ended = await harness.end(asked)
    assert (asked.kind, ended.kind) == (INGEST, INGEST)

    conversion = (
        await harness.api.Convert(ConvertRequest(media_id=ended.media.id, recipe=WAV))
    ).job
    assert (conversion.kind, (await harness.end(conversion)).kind) == (CONVERT, CONVERT)


async def test_an_ingest_with_conversions(harness: Harness, origin: Origin, clip: bytes) -> None:
    asked = await harness.ask(origin.serve("/clip.mp4", Page(clip)), recipes=[WAV])
    ended = await harness.end(asked)

    assert (asked.kind, ended.kind) == (INGEST_AND_CONVERT, INGEST_AND_CONVERT)
    assert [child.kind for child in await children_of(harness, ended)] == [INGEST, CONVERT]
    again = await harness.ask(asked.url, recipes=[WAV])
    assert (again.cached, again.kind) == (True, INGEST_AND_CONVERT)


async def test_a_conversion_of_what_is_not_stored_has_an_ingest(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    request = ConvertRequest(url=origin.serve("/clip.mp4", Page(clip)), recipe=WAV)
    asked = (await harness.api.Convert(request)).job
    ended = await harness.end(asked)

    assert (asked.kind, ended.kind) == (INGEST_AND_CONVERT, INGEST_AND_CONVERT)
    assert (asked.media.id, asked.media.derived_from_media_id) == (
        ended.media.id,
        ended.media.derived_from_media_id,
    )
    assert ended.media.blob.content_type == "audio/wav"
    assert not ended.conversions
    again = (await harness.api.Convert(request)).job
    assert (again.cached, again.kind, again.media) == (True, CONVERT, ended.media)


@pytest.mark.parametrize(
    ("recipes", "before", "entry"),
    [([], INGEST, INGEST), ([WAV], INGEST_AND_CONVERT, INGEST_AND_CONVERT)],
    ids=["plain", "with recipes"],
)
async def test_a_list_also_if_its_source_fails_at_first(
    settings: Settings,
    origin: Origin,
    clip: bytes,
    recipes: list[Recipe],
    before: int,
    entry: int,
) -> None:
    url = serve_feed(origin, clip, status=503)
    async with running_harness(settings.replace(attempts=2)) as harness:
        asked = await harness.ask(url, options=LIST, recipes=recipes)
        await harness.worker.run_job(asked.id)
        failed = await harness.record(asked.id)
        origin.pages["/feed.xml"].status = 200
        ended = await harness.end(failed)
        entries = await children_of(harness, ended)

    assert (asked.kind, failed.kind, failed.attempt) == (before, before, 1)
    assert (ended.kind, ended.state) == (PLAYLIST, job_pb2.JOB_STATE_SUCCEEDED)
    assert [child.kind for child in entries] == [entry] * 2


@pytest.mark.parametrize("recipes", [[], [WAV]], ids=["plain", "with recipes"])
async def test_a_list_whose_worker_was_lost_meanwhile(
    harness: Harness, origin: Origin, clip: bytes, recipes: list[Recipe]
) -> None:
    asked = await harness.ask(serve_feed(origin, clip), options=LIST, recipes=recipes)
    claim = await harness.records.claim(asked.id)
    assert claim is not None
    async with hold(harness.records, harness.worker._feed, claim) as lease:
        await lease.update(found_list("A list"))
        await lease.release()
    ended = await harness.end(await harness.record(asked.id))

    assert (ended.kind, ended.state) == (PLAYLIST, job_pb2.JOB_STATE_SUCCEEDED)
    assert ended.children.succeeded == 2


@pytest.mark.parametrize(
    ("recipes", "kind"),
    [([], INGEST), ([WAV], INGEST_AND_CONVERT)],
    ids=["plain", "with recipes"],
)
async def test_a_page_of_one_media_item_is_no_list(
    harness: Harness, origin: Origin, clip: bytes, recipes: list[Recipe], kind: int
) -> None:
    serve_presentation(origin, clip)
    asked = await harness.ask(serve_page(origin, "/page"), options=LIST, recipes=recipes)
    ended = await harness.end(asked)

    assert (asked.kind, ended.kind, ended.state) == (kind, kind, job_pb2.JOB_STATE_SUCCEEDED)
