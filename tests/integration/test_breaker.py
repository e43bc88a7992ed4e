"""A source that takes us for a robot, and what happens to its jobs, with whole ingests.

YouTube is a fake, tests/youtube.py, which yt-dlp's own extractor uses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job, JobWaiting
from ingot.v1.source_service_pb2 import SourceStatus
from ingot_server.config import Settings
from tests import videos
from tests.harness import Harness, running_harness
from tests.integration.test_sources_api import listed
from tests.refusals import failed_attempt_of
from tests.videos import Video
from tests.youtube import FakeYouTube

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

WATCH = "https://www.youtube.com/watch?v="
IDS = ("dQw4-9Wg_cQ", "dQw4-9Wg_cR", "dQw4-9Wg_cS")
# Longer than a test lasts: `end_the_block` ends it.
BLOCK = "1h"


@pytest.fixture
async def site(tmp_path: Path, clip: bytes) -> AsyncIterator[FakeYouTube]:
    async with FakeYouTube().running(tmp_path) as site:
        for video_id in IDS:
            site.videos[video_id] = Video(clip, playability=videos.BOT_CHECK)
        yield site


def guarded(settings: Settings, site: FakeYouTube, path: Path) -> Settings:
    sources = path / "sources.toml"
    sources.write_text(f'[youtube]\nrate = 0\nblock = "{BLOCK}"\nlongest_block = "{BLOCK}"\n')
    return site.settings(settings).replace(sources_file=str(sources))


async def attempted(harness: Harness, video_id: str) -> Job:
    """Return the job of a video after a worker ran it once."""
    job = await harness.ask(WATCH + video_id)
    await harness.worker.run_job(job.id)
    return await harness.record(job.id)


def assert_waits_for_youtube(job: Job) -> None:
    """The source is blocked, which is not an error of the job."""
    waiting = job.waiting
    assert (waiting.cause, waiting.source) == (JobWaiting.CAUSE_SOURCE_BLOCKED, "youtube")
    assert waiting.reason == reason_pb2.REASON_BOT_CHECK
    assert not job.HasField("last_attempt_error")


async def end_the_block(harness: Harness, *jobs: Job) -> None:
    """Make the time come at which the jobs may try the source again."""
    await harness.redis.hset("ingot:source:youtube", "retry_at", "0")
    for job in jobs:
        await harness.redis.hset(f"ingot:job:{job.id}", "not_before", "0")
        job.ClearField("waiting")


async def test_a_bot_check_stops_all_jobs_until_one_succeeds(
    settings: Settings, site: FakeYouTube, tmp_path: Path
) -> None:
    async with running_harness(guarded(settings, site, tmp_path)) as harness:
        first = await attempted(harness, IDS[0])
        requests = len(site.log)
        second = await attempted(harness, IDS[1])
        assert len(site.log) == requests, "the source gets no request"
        for job, attempts in ((first, 1), (second, 0)):
            assert (job.state, job.attempt) == (job_pb2.JOB_STATE_QUEUED, attempts)
            assert not job.HasField("error")
            assert job.waiting.HasField("end_time")
        assert failed_attempt_of(first) == "BOT_CHECK"
        assert first.waiting.cause == JobWaiting.CAUSE_RETRY
        assert_waits_for_youtube(second)
        status = (await listed(harness.settings))["youtube"]
        assert status.health == SourceStatus.HEALTH_BLOCKED
        assert status.reason == reason_pb2.REASON_BOT_CHECK
        for video in site.videos.values():
            video.playability = {"status": "OK"}
        await end_the_block(harness, first, second)
        ended = [await harness.end(job) for job in (second, first)]
        assert [job.state for job in ended] == [job_pb2.JOB_STATE_SUCCEEDED] * 2
        assert (await listed(harness.settings))["youtube"].health == SourceStatus.HEALTH_HEALTHY


async def test_a_block_outlives_the_workers_but_not_redis(
    settings: Settings, site: FakeYouTube, tmp_path: Path
) -> None:
    long = guarded(settings, site, tmp_path)
    async with running_harness(long) as harness:
        first = await attempted(harness, IDS[0])
    async with running_harness(long) as harness:
        requests = len(site.log)
        assert_waits_for_youtube(await attempted(harness, IDS[1]))
        assert len(site.log) == requests
        await harness.redis.flushall()
        assert await harness.records.get(first.id) is None
        assert (await listed(long))["youtube"].health == SourceStatus.HEALTH_HEALTHY
        # The block is forgotten: the next job finds out, and the one after it waits again.
        assert (await attempted(harness, IDS[1])).attempt == 1
        assert len(site.log) > requests
        requests = len(site.log)
        assert (await attempted(harness, IDS[2])).attempt == 0
        assert len(site.log) == requests
