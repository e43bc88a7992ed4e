"""What ends in the middle of a conversion is said and tried again, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from tests.conversions import MP3, OPUS, Calls, calls, ffmpegs, long_sound, no_ffmpeg
from tests.installation import (
    Installation,
    descendants,
    files_below,
    installation,
    kill_tree,
)
from tests.origin import Origin, Page
from tests.recipes import make_recipe
from tests.refusals import failed_attempt_of, reason_name_of
from tests.waiting import TIMEOUT_SECONDS, until

pytestmark = pytest.mark.timeout(300)

# Some seconds of work.
PART = make_recipe("opus", end=1200)
HEALTHY = {"workers": "1"}


@asynccontextmanager
async def running(directory: Path, **settings: str) -> AsyncIterator[tuple[Installation, Calls]]:
    with installation(directory, **{**HEALTHY, **settings}) as up:
        async with calls(up.grpc_address) as api:
            yield up, api


async def stored(api: Calls, origin: Origin) -> Media:
    job = await api.end(await api.ingest(origin.serve("/long.mp3", Page(long_sound()))))
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    return job.media


async def converting(up: Installation, api: Calls, media: Media, recipe: Recipe) -> Job:
    """A conversion whose ffmpeg is at work."""
    job = await api.convert(recipe, media_id=media.id)
    return await under_way(up, api, job, attempt=1)


async def under_way(up: Installation, api: Calls, job: Job, *, attempt: int) -> Job:
    async for update in api.watch(job.id):
        if update.attempt == attempt and update.progress.fraction > 0 and ffmpegs(up.process.pid):
            return update
    raise AssertionError("it ended before it could be disturbed")


async def check_stored_once(up: Installation, made: Media) -> None:
    """Its blob and its manifest are in the bucket, and nothing is left of the work."""
    assert len(up.bucket_keys(f"media/{made.id}/")) == 2
    await check_nothing_left(up)


async def check_nothing_left(up: Installation) -> None:
    """No ffmpeg, and no file in scratch: what a killed worker left goes when its successor starts.

    Raises TimeoutError.
    """
    await no_ffmpeg(up.process.pid, seconds=TIMEOUT_SECONDS)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while left_in_scratch(up) - {"lock", "sweep.lock", "authorities.pem"}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def left_in_scratch(up: Installation) -> set[str]:
    return {path.name for path in files_below(up.data_dir / "scratch")}


async def test_a_killed_ffmpeg_is_said_and_tried_again(tmp_path: Path, origin: Origin) -> None:
    async with running(tmp_path, attempts="2") as (up, api):
        source = await stored(api, origin)
        job = await converting(up, api, source, PART)
        os.kill(ffmpegs(up.process.pid)[0], signal.SIGKILL)
        reasons = set()
        async for update in api.watch(job.id):
            if update.HasField("last_attempt_error"):
                reasons.add(failed_attempt_of(update))
            job = update

        assert reasons == {"CONVERTER_CRASHED"}
        assert (job.state, job.attempt) == (job_pb2.JOB_STATE_SUCCEEDED, 2)
        await check_stored_once(up, job.media)

        job = await converting(up, api, source, OPUS)
        os.kill(ffmpegs(up.process.pid)[0], signal.SIGKILL)
        await under_way(up, api, job, attempt=2)
        os.kill(ffmpegs(up.process.pid)[0], signal.SIGKILL)
        job = await api.end(job)

        assert (job.state, reason_name_of(job)) == (job_pb2.JOB_STATE_FAILED, "CONVERTER_CRASHED")
        assert "SIGKILL" in job.error.message
        assert up.bucket_keys(f"media/{job.media.id}/") == []
        await check_nothing_left(up)


async def test_another_worker_takes_over_the_conversion_of_a_killed_one(
    tmp_path: Path, origin: Origin
) -> None:
    async with running(tmp_path, convert_workers="2") as (up, api):
        source = await stored(api, origin)
        job = await converting(up, api, source, PART)
        (ffmpeg,) = ffmpegs(up.process.pid)
        (worker,) = (pid for pid in up.children("worker --convert") if ffmpeg in descendants(pid))
        kill_tree(worker)
        job = await api.end(job)

        assert (job.state, job.attempt) == (job_pb2.JOB_STATE_SUCCEEDED, 2)
        await check_stored_once(up, job.media)


async def test_a_worker_alone_is_killed_and_its_ffmpeg_goes_with_it(
    tmp_path: Path, origin: Origin
) -> None:
    async with running(tmp_path) as (up, api):
        source = await stored(api, origin)
        job = await converting(up, api, source, PART)
        (ffmpeg,) = ffmpegs(up.process.pid)
        os.kill(up.children("worker --convert")[0], signal.SIGKILL)
        await until(lambda: not Path(f"/proc/{ffmpeg}").exists())
        job = await api.end(job)

        assert (job.state, job.attempt) == (job_pb2.JOB_STATE_SUCCEEDED, 2)
        await check_stored_once(up, job.media)


async def test_a_killed_worker_of_ingests_loses_no_conversion_that_began_early(
    tmp_path: Path, origin: Origin
) -> None:
    content = long_sound()
    url = origin.serve("/long.mp3", Page(content, rate=len(content) / 6))
    async with running(tmp_path) as (up, api):
        job = await api.convert(PART, url=url)
        async for update in api.watch(job.id):
            if update.progress.fraction > 0.1 and ffmpegs(up.process.pid):
                break
        kill_tree(up.children("worker")[0])
        job = await api.end(job)

        assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
        await check_stored_once(up, job.media)
        fractions = [update.progress.fraction async for update in api.watch(job.id)]
        assert fractions == [1]


async def test_past_its_memory_it_says_so(tmp_path: Path, origin: Origin) -> None:
    async with running(tmp_path, conversion_memory="64MiB", attempts="2") as (up, api):
        source = await stored(api, origin)
        job = await api.end(await api.convert(MP3, media_id=source.id))

        assert (job.state, reason_name_of(job)) == (job_pb2.JOB_STATE_FAILED, "CONVERTER_CRASHED")
        assert job.attempt == 2
        assert up.bucket_keys(f"media/{job.media.id}/") == []
        await check_nothing_left(up)


async def test_a_full_disk_is_reported_and_passes(tmp_path: Path, origin: Origin) -> None:
    async with running(tmp_path) as (_, api):
        source = await stored(api, origin)
    async with running(tmp_path, scratch_reserve="100TiB", attempts="2") as (up, api):
        job = await api.end(await api.convert(PART, media_id=source.id))
        assert (job.state, reason_name_of(job), job.attempt) == (
            job_pb2.JOB_STATE_FAILED,
            "SCRATCH_FULL",
            2,
        )
        assert up.bucket_keys(f"media/{job.media.id}/") == []
        await check_nothing_left(up)
    async with running(tmp_path) as (up, api):
        job = await api.end(await api.convert(PART, media_id=source.id))
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED
        await check_stored_once(up, job.media)


async def test_a_killed_s3_comes_back_and_has_the_result_once(
    tmp_path: Path, origin: Origin
) -> None:
    async with running(tmp_path, retry_backoff="2s") as (up, api):
        source = await stored(api, origin)
        job = await converting(up, api, source, PART)
        os.kill(up.children("weed")[0], signal.SIGKILL)
        job = await api.end(job)

        assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
        await check_stored_once(up, job.media)


async def until_stage(
    api: Calls, job: Job, stage: job_pb2.JobStage.ValueType
) -> AsyncIterator[Job]:
    async with aclosing(api.watch(job.id)) as changes:  # type: ignore[type-var]
        async for update in changes:
            yield update
            if update.stage == stage:
                return


@pytest.mark.parametrize("stage", [job_pb2.JOB_STAGE_STORING, job_pb2.JOB_STAGE_COMMITTING])
async def test_s3_that_is_gone_when_the_result_is_stored(
    tmp_path: Path, origin: Origin, stage: job_pb2.JobStage.ValueType
) -> None:
    async with running(tmp_path, retry_backoff="2s") as (up, api):
        source = await stored(api, origin)
        job = await api.convert(PART, media_id=source.id)
        seen = [update.stage async for update in until_stage(api, job, stage)]
        os.kill(up.children("weed")[0], signal.SIGKILL)
        job = await api.end(job)

        assert seen[-1] == stage

        assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
        await check_stored_once(up, job.media)
