"""What is asked of a list, or of an ingest with conversions, holds for each part of the job."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

import pytest
from google.protobuf.duration_pb2 import Duration

from ingot.v1.job_pb2 import JOB_STATE_FAILED, JOB_STATE_SUCCEEDED, IngestOptions, Job
from ingot.v1.media_pb2 import Selection
from ingot.v1.recipe_pb2 import Recipe
from tests.harness import Harness
from tests.origin import Origin, Page
from tests.refusals import reason_name_of
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores

ALL = IngestOptions(playlist=True)
NOW = Duration()
LABELS = {"team": "news"}
WAV = Recipe(wav=Recipe.Wav())


def serve_feed(origin: Origin, urls: Sequence[str]) -> str:
    """Publish a podcast whose episodes are `urls`, and return its URL."""
    items = "".join(
        f"<item><title>{number}</title><enclosure url='{url}' type='video/mp4'/></item>"
        for number, url in enumerate(urls)
    )
    feed = f"<?xml version='1.0'?><rss version='2.0'><channel><title>Bells</title>{items}"
    content = f"{feed}</channel></rss>".encode()
    return origin.serve("/feed.xml", Page(content, content_type="application/rss+xml"))


async def parts(harness: Harness, job: Job) -> list[Job]:
    return [await harness.record(child_id) for child_id in job.child_job_ids]


async def test_the_entries_of_a_list_have_its_labels_and_are_no_older_than_it_may_be(
    harness: Harness, origin: Origin, clip: bytes, other_clip: bytes
) -> None:
    urls = [origin.serve(f"/{name}.mp4", Page(clip)) for name in ("first", "second")]
    feed = serve_feed(origin, urls)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await harness.ingest(urls[0])
        origin.serve("/first.mp4", Page(other_clip))
        job = await harness.ingest(feed, options=ALL, labels=LABELS, max_age=NOW)
        entries = await parts(harness, job)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert [dict(entry.labels) for entry in entries] == [LABELS, LABELS]
    assert [dict(entry.media.labels) for entry in entries] == [LABELS, LABELS]
    assert entries[0].media.blob.sha256 == hashlib.sha256(other_clip).hexdigest()


async def test_an_entry_that_is_known_to_be_gone_is_not_asked_for_again(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    urls = [origin.serve("/clip.mp4", Page(clip)), origin.serve("/gone.mp4", Page(status=404))]
    feed = serve_feed(origin, urls)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await harness.ingest(feed, options=ALL)
        asked = len(origin.gets("/gone.mp4"))
        job = await harness.ingest(feed, options=ALL)
        entries = await parts(harness, job)

    assert (job.children.succeeded, job.children.failed) == (1, 1)
    assert reason_name_of(entries[1]) == "MEDIA_DOES_NOT_EXIST"
    assert len(origin.gets("/gone.mp4")) == asked == 1


async def test_the_parts_of_an_ingest_with_conversions_have_its_labels(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    url = origin.serve("/clip.mp4", Page(clip))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        job = await harness.ingest(url, recipes=[WAV], labels=LABELS)
        ingest, conversion = await parts(harness, job)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert (dict(ingest.labels), dict(ingest.media.labels)) == (LABELS, LABELS)
    assert (dict(conversion.labels), dict(conversion.media.labels)) == (LABELS, LABELS)


async def test_an_ingest_with_conversions_takes_what_is_no_older_than_it_may_be(
    harness: Harness, origin: Origin, clip: bytes, other_clip: bytes
) -> None:
    url = origin.serve("/clip.mp4", Page(clip))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await harness.ingest(url, recipes=[WAV])
        origin.serve("/clip.mp4", Page(other_clip))
        job = await harness.ingest(url, recipes=[WAV], max_age=NOW)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    sha256 = hashlib.sha256(other_clip).hexdigest()
    assert job.media.blob.sha256 == sha256
    assert [made.derived_from_sha256 for made in job.conversions] == [sha256]


async def test_an_ingest_with_conversions_takes_no_other_form_than_was_selected(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    url = origin.serve("/clip.mp4", Page(clip))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        job = await harness.ingest(url, recipes=[WAV], selection=Selection(max_height=16))

    assert (job.state, reason_name_of(job)) == (JOB_STATE_FAILED, "SELECTION_UNAVAILABLE")
    await harness.assert_nothing_is_left()
