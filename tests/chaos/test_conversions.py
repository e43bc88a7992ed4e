"""What ends in the middle of a conversion is said and tried again, and leaves nothing behind.

Most tests disturb the same Ingot, which has to recover from each of them.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Iterator
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
from tests.origin import Origin, Page, running_origin
from tests.recipes import make_recipe
from tests.refusals import failed_attempt_of, reason_name_of
from tests.waiting import TIMEOUT_SECONDS, until

HEALTHY = {"workers": "1"}
ATTEMPTS = 3
_lengths = itertools.count(1200)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The Ingot that most tests disturb."""
    settings = {"convert_workers": "2", "attempts": str(ATTEMPTS), "retry_backoff": "2s"}
    with installation(tmp_path_factory.mktemp("ingot"), **HEALTHY, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def source(up: Installation) -> Media:
    """A long sound that `up` has stored."""

    async def store() -> Media:
        async with running_origin() as origin, calls(up.grpc_address) as api:
            return await stored(api, origin)

    return asyncio.run(store())


@pytest.fixture
async def api(up: Installation) -> AsyncIterator[Calls]:
    async with calls(up.grpc_address) as opened:
        yield opened


@pytest.fixture
def part() -> Recipe:
    """Some seconds of work, which no other test has done."""
    return make_recipe("opus", end=next(_lengths))


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


async def test_a_killed_ffmpeg_is_said_and_tried_again(
    up: Installation, api: Calls, source: Media, part: Recipe
) -> None:
    job = await converting(up, api, source, part)
    os.kill(ffmpegs(up.process.pid)[0], signal.SIGKILL)
    reasons = set()
    async for update in api.watch(job.id):
        if update.HasField("last_attempt_error"):
            reasons.add(failed_attempt_of(update))
        job = update

    assert reasons == {"CONVERTER_CRASHED"}
    assert (job.state, job.attempt) == (job_pb2.JOB_STATE_SUCCEEDED, 2)
    await check_stored_once(up, job.media)


async def test_an_ffmpeg_that_is_killed_in_each_attempt_fails_the_job(
    up: Installation, api: Calls, source: Media
) -> None:
    job = await api.convert(OPUS, media_id=source.id)
    for attempt in range(1, ATTEMPTS + 1):
        await under_way(up, api, job, attempt=attempt)
        os.kill(ffmpegs(up.process.pid)[0], signal.SIGKILL)
    job = await api.end(job)

    assert (job.state, reason_name_of(job)) == (job_pb2.JOB_STATE_FAILED, "CONVERTER_CRASHED")
    assert "SIGKILL" in job.error.message
    assert up.bucket_keys(f"media/{job.media.id}/") == []
    await check_nothing_left(up)


def converter_of(up: Installation, ffmpeg: int) -> int:
    """The conversion worker that runs it."""
    (worker,) = (pid for pid in up.children("worker --convert") if ffmpeg in descendants(pid))
    return worker


async def test_another_worker_takes_over_the_conversion_of_a_killed_one(
    up: Installation, api: Calls, source: Media, part: Recipe
) -> None:
    job = await converting(up, api, source, part)
    (ffmpeg,) = ffmpegs(up.process.pid)
    kill_tree(converter_of(up, ffmpeg))
    job = await api.end(job)

    assert (job.state, job.attempt) == (job_pb2.JOB_STATE_SUCCEEDED, 2)
    await check_stored_once(up, job.media)


async def test_a_worker_alone_is_killed_and_its_ffmpeg_goes_with_it(
    up: Installation, api: Calls, source: Media, part: Recipe
) -> None:
    job = await converting(up, api, source, part)
    (ffmpeg,) = ffmpegs(up.process.pid)
    os.kill(converter_of(up, ffmpeg), signal.SIGKILL)
    await until(lambda: not Path(f"/proc/{ffmpeg}").exists())
    job = await api.end(job)

    assert (job.state, job.attempt) == (job_pb2.JOB_STATE_SUCCEEDED, 2)
    await check_stored_once(up, job.media)


async def test_a_killed_worker_of_ingests_loses_no_conversion_that_began_early(
    up: Installation, api: Calls, origin: Origin, part: Recipe
) -> None:
    content = long_sound()
    url = origin.serve("/long.mp3", Page(content, rate=len(content) / 6))
    job = await api.convert(part, url=url)
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


async def test_a_full_disk_is_reported_and_passes(
    tmp_path: Path, origin: Origin, part: Recipe
) -> None:
    async with running(tmp_path, convert_workers="0") as (_, api):
        source = await stored(api, origin)
    async with running(
        tmp_path, workers="0", convert_workers="1", scratch_reserve="100TiB", attempts="2"
    ) as (up, api):
        job = await api.end(await api.convert(part, media_id=source.id))
        assert (job.state, reason_name_of(job), job.attempt) == (
            job_pb2.JOB_STATE_FAILED,
            "SCRATCH_FULL",
            2,
        )
        assert up.bucket_keys(f"media/{job.media.id}/") == []
        await check_nothing_left(up)
    async with running(tmp_path, workers="0", convert_workers="1") as (up, api):
        job = await api.end(await api.convert(part, media_id=source.id))
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED
        await check_stored_once(up, job.media)


async def test_a_killed_s3_comes_back_and_has_the_result_once(
    up: Installation, api: Calls, source: Media, part: Recipe
) -> None:
    job = await converting(up, api, source, part)
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
    up: Installation,
    api: Calls,
    source: Media,
    part: Recipe,
    stage: job_pb2.JobStage.ValueType,
) -> None:
    job = await api.convert(part, media_id=source.id)
    seen = [update.stage async for update in until_stage(api, job, stage)]
    os.kill(up.children("weed")[0], signal.SIGKILL)
    job = await api.end(job)

    assert seen[-1] == stage
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    await check_stored_once(up, job.media)
