"""Damaged media, 500 of them: an answer for each, and nothing else of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from ingot.v1.job_pb2 import JOB_STATE_FAILED, JOB_STATE_SUCCEEDED, Job
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.errors import Failure, reason_name
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.library.recipes import canonical_recipe
from ingot_server.probe.prober import Prober
from ingot_server.setting_values import ByteSize
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.plan import plan_conversion
from ingot_server.transcode.tags import tags_for
from ingot_server.transcode.transcoder import Transcoder
from tests.harness import Harness, running_harness
from tests.installation import descendants
from tests.media import media
from tests.mutations import INPUTS, VARIANTS, variants
from tests.origin import Origin, Page, running_origin
from tests.recipes import TRANSCODED, make_recipe
from tests.refusals import reason_name_of

pytestmark = pytest.mark.slow

RECIPES = [
    canonical_recipe(recipe)
    for recipe in (
        *map(make_recipe, TRANSCODED),
        make_recipe("mp3", normalize_loudness=True),
        make_recipe("mp4", quality=40, max_height=60),
    )
]
# What a damaged file may be refused for when it is looked into, and when it is converted.
REFUSED = {"NOT_MEDIA", "TRUNCATED", "TOO_LONG"}
UNMADE = {"CONVERSION_FAILED", "INVALID_REQUEST", "TOO_LARGE"}
# ffmpeg crashes or hangs on it: not the file's fault, and not ours; the worker outlives it.
CRASHED = {"CONVERTER_CRASHED", "STAGE_TIMEOUT"}
LIMITS = {
    "max_duration": timedelta(minutes=10),
    "max_media_size": ByteSize(64 << 20),
    "conversion_timeout": timedelta(seconds=30),
    "probe_timeout": timedelta(seconds=30),
}
JOBS_EACH = 3
UNVALIDATED = 4


@pytest.fixture
async def tools() -> AsyncIterator[tuple[Ffmpeg, Prober]]:
    limited = Settings().replace(**LIMITS)
    prober = Prober(limited)
    prober.start()
    yield Ffmpeg(limited), prober
    await prober.close()


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as running:
        yield running


@pytest.fixture
async def harness(settings: Settings) -> AsyncIterator[Harness]:
    async with running_harness(settings.replace(attempts=1, **LIMITS)) as running:
        yield running


@pytest.mark.parametrize("name", INPUTS)
async def test_any_damage_ends_in_media_or_a_reason(
    tools: tuple[Ffmpeg, Prober], tmp_path: Path, name: str
) -> None:
    """Some that validation refuses are converted too, as early conversions read them before it."""
    whole = await tools[1].probe(media(name))
    limit = asyncio.Semaphore(os.cpu_count() or 1)
    answers: list[str] = []

    async def answer(number: int, seed: int, data: bytes) -> None:
        directory = tmp_path / str(seed)
        async with limit:
            directory.mkdir()
            path = directory / "source"
            path.write_bytes(data)
            recipe = RECIPES[number % len(RECIPES)]
            instead = whole if number % UNVALIDATED == 0 else None
            try:
                answers.append(await _answer(tools, recipe, path, instead))
            except Exception as error:
                error.add_note(f"{name}, seed {seed}, {recipe}")
                raise

    async with asyncio.TaskGroup() as group:
        for number, (seed, data) in enumerate(variants(name)):
            group.create_task(answer(number, seed, data))

    assert len(answers) == VARIANTS
    assert set(answers) <= {"made"} | REFUSED | UNMADE | CRASHED
    assert set(answers) & ({"made"} | UNMADE)
    commands = map(_command, descendants(os.getpid()))
    # Extractions may run for other tests, and know the path of ffmpeg.
    assert not [each for each in commands if b"ffmpeg" in each and b"child_main.py" not in each]


async def _answer(
    tools: tuple[Ffmpeg, Prober], recipe: Recipe, path: Path, instead: Media | None
) -> str:
    """Return `made`, or the reason; `instead` replaces a probe that fails."""
    ffmpeg, prober = tools
    try:
        found = await prober.probe(path)
    except Failure as failure:
        if instead is None:
            return reason_name(failure.reason)
        found = instead
    try:
        plan = plan_conversion(recipe, found)
        transcoder = Transcoder(ffmpeg, prober)
        made = await transcoder.transcode(plan, path, path.parent, tags_for(plan))
    except Failure as failure:
        return reason_name(failure.reason)
    assert made.path.stat().st_size == made.media.blob.size_bytes > 0
    return "made"


@pytest.mark.any_stores
async def test_jobs_of_damaged_media_end_and_leave_nothing(
    harness: Harness, origin: Origin
) -> None:
    jobs = []
    for name in INPUTS:
        for number, (seed, data) in enumerate(variants(name, JOBS_EACH)):
            url = origin.serve(f"/{seed}-{name}", Page(data))
            recipes = [RECIPES[0], RECIPES[1 + number % (len(RECIPES) - 1)]]
            jobs.append(await harness.ask(url, recipes=recipes))
    limit = asyncio.Semaphore(4)

    async def end(job: Job) -> Job:
        async with limit:
            await _run(harness, job.id)
        return await harness.record(job.id)

    ended = await asyncio.gather(*map(end, jobs))

    assert {job.state for job in ended} == {JOB_STATE_SUCCEEDED, JOB_STATE_FAILED}
    failed = [job for job in ended if job.state == JOB_STATE_FAILED]
    assert {reason_name_of(job) for job in failed} <= REFUSED | UNMADE
    stored = {job.media.id: job for job in ended if job.state == JOB_STATE_SUCCEEDED}
    assert stored
    await _check_bucket(harness, ended)
    await harness.assert_idle()


async def _run(harness: Harness, job_id: str) -> None:
    """A job, and what it leaves to others."""
    if not has_ended(await harness.record(job_id)):
        await harness.worker.run_job(job_id)
    for child in (await harness.record(job_id)).child_job_ids:
        await _run(harness, child)


async def _check_bucket(harness: Harness, ended: list[Job]) -> None:
    """One blob and one manifest of each media that was made, and nothing of any other."""
    made = set[str]()
    for job in ended:
        for child_id in job.child_job_ids:
            child = await harness.record(child_id)
            if child.state == JOB_STATE_SUCCEEDED:
                made.add(child.media.id)
    keys = await harness.keys("media/")
    assert {key.split("/")[1] for key in keys} == made
    assert len(keys) == 2 * len(made)
    assert await harness.blobs._s3.calls.run(harness._unfinished) == []


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
