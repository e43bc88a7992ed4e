"""YouTube videos with SponsorBlock's segments as chapters. The site and the API are stand-ins."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.config import Settings
from tests.harness import running_harness
from tests.videos import Video
from tests.youtube import FakeYouTube

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

ID = "dQw4-9Wg_cQ"
API = "https://sponsor.youtube.com/"
# The first two come from a version of the video with another length, and of the whole video.
SEGMENTS = [
    {"category": "intro", "segment": [0, 2], "videoDuration": 90},
    {"category": "filler", "segment": [0, 0], "videoDuration": 2},
    {"category": "sponsor", "segment": [0.3, 1.9], "videoDuration": 2},
]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FakeYouTube]:
    async with FakeYouTube().running(tmp_path) as site:
        yield site


async def ingested(settings: Settings, site: FakeYouTube, **changes: Any) -> Job:
    settings = site.settings(settings).replace(sponsorblock_api=API, **changes)
    async with running_harness(settings) as harness:
        return await harness.ingest(f"https://youtu.be/{ID}")


async def test_segments_become_chapters_and_nothing_is_cut(
    settings: Settings, site: FakeYouTube, clip: bytes
) -> None:
    site.videos[ID] = Video(clip)
    site.segments = [{"description": "", "actionType": "skip", **each} for each in SEGMENTS]
    job = await ingested(settings, site, sponsorblock="sponsor,intro")

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert [
        (each.title, each.start_offset.ToSeconds(), each.end_offset.ToSeconds())
        for each in job.media.chapters
    ] == [("[SponsorBlock]: Sponsor", 0, 2)]
    assert job.media.blob.sha256 == hashlib.sha256(clip).hexdigest()
    (asked,) = site.asked("/api/skipSegments/")
    prefix = hashlib.sha256(ID.encode()).hexdigest()[:4]
    assert asked.startswith(f"GET sponsor.youtube.com/api/skipSegments/{prefix}?")
    assert "sponsor%22%2C+%22intro" in asked
    assert ID not in asked


@pytest.mark.parametrize("segments", [None, [{"category": "sponsor"}], "nonsense"])
async def test_an_api_that_fails_does_not_fail_the_ingest(
    settings: Settings, site: FakeYouTube, clip: bytes, segments: object
) -> None:
    site.videos[ID] = Video(clip)
    site.segments = segments
    job = await ingested(settings, site, sponsorblock="all")

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert not job.media.chapters
    assert len(site.asked("/api/skipSegments/")) == 1


async def test_the_api_is_not_asked_unless_a_setting_says_so(
    settings: Settings, site: FakeYouTube, clip: bytes
) -> None:
    site.videos[ID] = Video(clip)
    job = await ingested(settings, site)

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert not site.asked("/api/skipSegments/")
