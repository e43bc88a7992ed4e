"""What a job says while it waits, and after an attempt that failed. Waiting is not an error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, timedelta
from itertools import chain
from pathlib import Path

import pytest

from ingot.v1.job_pb2 import (
    JOB_STATE_QUEUED,
    JOB_STATE_RUNNING,
    JOB_STATE_SUCCEEDED,
    Job,
    JobWaiting,
)
from ingot.v1.job_service_pb2 import WatchJobRequest
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.jobs import throttle
from tests.harness import Harness, running_harness
from tests.mediasite import serve_page, serve_presentation
from tests.origin import Origin, Page
from tests.refusals import failed_attempt_of
from tests.videos import Video
from tests.waiting import TIMEOUT_SECONDS
from tests.youtube import FakeYouTube

pytestmark = pytest.mark.any_stores

WATCH = "https://www.youtube.com/watch?v="
IDS = ("dQw4-9Wg_cQ", "dQw4-9Wg_cR")


async def changed(harness: Harness, job: Job, condition: Callable[[Job], bool]) -> list[Job]:
    """Return the changes of a job, the last of which is the first to fulfil the condition."""
    changes = []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        async for response in harness.jobs.WatchJob(WatchJobRequest(job_id=job.id)):
            if response.HasField("job"):
                changes.append(response.job)
                if condition(response.job):
                    break
    return changes


def waits_for(cause: JobWaiting.Cause.ValueType) -> Callable[[Job], bool]:
    return lambda job: job.waiting.cause == cause


def is_stored(job: Job) -> bool:
    return bool(job.media.blob.url)


@pytest.mark.slow
async def test_a_job_that_waits_for_a_permit_has_no_error(
    settings: Settings, tmp_path: Path, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "ACQUIRE_TIMEOUT", timedelta(milliseconds=50))
    sources = tmp_path / "sources.toml"
    # Both jobs try within these six seconds, even on a busy machine.
    sources.write_text('[youtube]\nrate = "10/m"\nburst = 1\n')
    async with FakeYouTube().running(tmp_path) as site:
        site.videos |= {video_id: Video(clip) for video_id in IDS}
        limited = site.settings(settings).replace(sources_file=str(sources))
        async with running_harness(limited) as harness:
            jobs = [await harness.ask(WATCH + video_id) for video_id in IDS]
            watches = [asyncio.create_task(changed(harness, job, is_stored)) for job in jobs]
            await asyncio.gather(*map(harness.end, jobs))
            changes_of_each = await asyncio.gather(*watches)

    for changes in changes_of_each:
        assert changes[-1].state == JOB_STATE_SUCCEEDED
        assert changes[-1].attempt == 1
    changes = list(chain.from_iterable(changes_of_each))
    assert not any(job.HasField("error") or job.HasField("last_attempt_error") for job in changes)
    # Either of them gets the permit first, and the other one waits.
    waiting = [job.waiting for job in changes if job.waiting.source == "youtube"]
    assert {each.cause for each in waiting} == {JobWaiting.CAUSE_SOURCE_RATE_LIMIT}
    assert all(each.HasField("end_time") and each.HasField("jobs_ahead") for each in waiting)


async def test_an_attempt_that_failed_is_shown_and_what_the_job_waits_for_now(
    settings: Settings, origin: Origin, clip: bytes
) -> None:
    page = Page(clip, status=503)
    url = origin.serve("/talk.mp4", page)
    async with running_harness(settings.replace(attempts=2)) as harness:
        job = await harness.ask(url)
        assert job.waiting == JobWaiting(cause=JobWaiting.CAUSE_WORKER)
        await harness.worker.run_job(job.id)
        job = await harness.record(job.id)
        assert job.state == JOB_STATE_QUEUED
        assert failed_attempt_of(job) == "SOURCE_FAILED"
        assert job.waiting.cause == JobWaiting.CAUSE_RETRY
        assert job.waiting.end_time.ToDatetime(UTC) > job.start_time.ToDatetime(UTC)
        assert not job.HasField("error")

        page.status = 200
        ended = asyncio.create_task(changed(harness, job, is_stored))
        job = await harness.end(job)

        assert (job.state, job.attempt) == (JOB_STATE_SUCCEEDED, 2)
        assert failed_attempt_of(job) == "SOURCE_FAILED"
        running = [each for each in await ended if each.state != JOB_STATE_QUEUED]
        assert not any(each.HasField("error") or each.HasField("waiting") for each in running)


async def test_a_workflow_whose_ingest_waits_holds_no_slot(
    settings: Settings, origin: Origin, clip: bytes
) -> None:
    page = Page(clip, status=503)
    url = origin.serve("/talk.mp4", page)
    # Not due before the test has looked at what waits for it.
    backoff = timedelta(seconds=8)
    async with running_harness(settings.replace(attempts=2, retry_backoff=backoff)) as harness:
        job = await harness.ask(url, recipes=[Recipe(wav=Recipe.Wav())])
        await harness.worker.run_dispatched(job.id)
        job = await harness.record(job.id)
        assert job.state == JOB_STATE_RUNNING
        assert job.waiting.cause == JobWaiting.CAUSE_RETRY
        assert failed_attempt_of(job) == "SOURCE_FAILED"
        assert await harness.redis.hlen("ingot:held:fetch") == 0

        page.status = 200
        job = await harness.end(job)

    assert (job.state, job.attempt, len(job.conversions)) == (JOB_STATE_SUCCEEDED, 1, 1)
    assert not job.HasField("waiting")
    assert len(origin.gets("/talk.mp4")) == 2


async def test_a_job_waits_for_another_at_its_host(
    settings: Settings, origin: Origin, clip: bytes
) -> None:
    gate = asyncio.Event()
    urls = [origin.serve(f"/{name}.mp4", Page(clip, gate=gate)) for name in ("one", "two")]
    async with running_harness(settings.replace(jobs_per_host=1)) as harness:
        first, second = [await harness.ask(url) for url in urls]
        running = [asyncio.create_task(harness.end(first))]
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await origin.asked_for("/one.mp4")
        running.append(asyncio.create_task(harness.end(second)))
        waiting = (await changed(harness, second, waits_for(JobWaiting.CAUSE_HOST_LIMIT)))[-1]
        gate.set()
        ended = await asyncio.gather(*running)

    assert waiting.state == JOB_STATE_RUNNING
    assert waiting.waiting.host == "127.0.0.1"
    assert waiting.waiting.jobs_ahead == 0
    for job in ended:
        assert job.state == JOB_STATE_SUCCEEDED, job
        assert not job.HasField("waiting")
        assert not job.HasField("last_attempt_error")


async def test_a_job_waits_for_the_one_that_makes_the_same_media_item(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    serve_presentation(origin, clip)
    gate = origin.pages["/lecture.mp4"].gate = asyncio.Event()
    first, second = [await harness.ask(serve_page(origin, path)) for path in ("/one", "/two")]
    running = [asyncio.create_task(harness.end(first))]
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await origin.asked_for("/lecture.mp4")
    running.append(asyncio.create_task(harness.end(second)))
    waiting = (await changed(harness, second, waits_for(JobWaiting.CAUSE_SAME_MEDIA)))[-1]
    gate.set()
    ended = await asyncio.gather(*running)

    assert waiting.waiting.job_id == first.id
    assert [job.state for job in ended] == [JOB_STATE_SUCCEEDED] * 2
    assert not ended[1].HasField("waiting")
