"""Conversions on the whole system: shared by all callers, watched live, during downloads."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing

import pytest

from ingot.v1 import job_pb2
from ingot_server.jobs.lifecycle import has_ended
from tests.conversions import (
    MP3,
    OPUS,
    WAV,
    Calls,
    CountedFfmpeg,
    calls,
    ffmpegs,
    long_sound,
    no_ffmpeg,
)
from tests.installation import Installation, installation
from tests.media import media
from tests.origin import Origin, Page
from tests.waiting import TIMEOUT_SECONDS, until

CALLERS = 100
CHANNELS = 5


@pytest.fixture(scope="module")
def ffmpeg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountedFfmpeg]:
    with closing(CountedFfmpeg(tmp_path_factory.mktemp("ffmpeg"))) as counted:
        yield counted


@pytest.fixture(scope="module")
def smithy(
    tmp_path_factory: pytest.TempPathFactory, ffmpeg: CountedFfmpeg
) -> Iterator[Installation]:
    """An Ingot of few slots, so that a test can fill them."""
    few = {"workers": "1", "worker_slots": "4", "conversions": "2", "ffmpeg": str(ffmpeg.program)}
    with installation(tmp_path_factory.mktemp("smithy"), lease="1m", **few) as running:
        yield running


@pytest.fixture
async def api(smithy: Installation, ffmpeg: CountedFfmpeg) -> AsyncIterator[Calls]:
    async with calls(smithy.grpc_address) as made:
        ffmpeg.runs()
        yield made


@pytest.fixture
async def callers(smithy: Installation) -> AsyncIterator[list[Calls]]:
    """A hundred, on several connections."""
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(calls(smithy.grpc_address)) for _ in range(CHANNELS)
        ]
        yield [made[number % CHANNELS] for number in range(CALLERS)]


@pytest.fixture
def path() -> str:
    """A path no other test has used: what is stored once stays stored."""
    return f"/{uuid.uuid4().hex}.mp4"


async def test_a_hundred_callers_of_one_recipe_are_one_run(
    api: Calls, callers: list[Calls], ffmpeg: CountedFfmpeg, origin: Origin, clip: bytes, path: str
) -> None:
    source = await api.end(await api.ingest(origin.serve(path, Page(clip))))
    assert ffmpeg.runs() == 0

    jobs = await asyncio.gather(*(one.convert(MP3, media_id=source.media.id) for one in callers))
    made = await asyncio.gather(*(one.end(job) for one, job in zip(callers, jobs, strict=True)))

    assert {job.state for job in made} == {job_pb2.JOB_STATE_SUCCEEDED}
    assert len({job.media.SerializeToString(deterministic=True) for job in made}) == 1
    assert ffmpeg.runs() == 1
    again = await asyncio.gather(*(one.convert(MP3, media_id=source.media.id) for one in callers))
    assert all(job.cached and job.media == made[0].media for job in again)
    assert ffmpeg.runs() == 0


@pytest.mark.parametrize("name", ["plain.mp4", "faststart.mp4", "vp9.webm", "clip.ts"])
async def test_a_hundred_callers_of_one_url_are_one_download_and_one_run(
    callers: list[Calls], ffmpeg: CountedFfmpeg, origin: Origin, path: str, name: str
) -> None:
    content = media(name).read_bytes()
    url = origin.serve(path, Page(content, rate=len(content)))
    ffmpeg.runs()

    jobs = await asyncio.gather(*(one.convert(MP3, url=url) for one in callers))
    made = await asyncio.gather(*(one.end(job) for one, job in zip(callers, jobs, strict=True)))

    assert {job.state for job in made} == {job_pb2.JOB_STATE_SUCCEEDED}
    assert len({job.media.SerializeToString(deterministic=True) for job in made}) == 1
    assert made[0].media.blob.content_type == "audio/mpeg"
    assert len(origin.gets(path)) == 1
    assert ffmpeg.runs() == 1


@pytest.mark.parametrize("by", ["ingest", "convert"])
async def test_progress_of_the_whole_grows_from_nothing_to_one(
    api: Calls, origin: Origin, path: str, by: str
) -> None:
    content = media("plain.mp4").read_bytes()
    url = origin.serve(path, Page(content, rate=len(content) / 2))
    job = await (api.ingest(url, MP3, WAV) if by == "ingest" else api.convert(MP3, url=url))

    fractions = [job.progress.fraction]
    fractions += [update.progress.fraction async for update in api.watch(job.id)]

    assert fractions[0] == 0
    assert fractions == sorted(fractions)
    assert any(0 < fraction < 1 for fraction in fractions)
    assert fractions[-1] == 1
    assert (await api.look(job.id)).state == job_pb2.JOB_STATE_SUCCEEDED


async def test_a_cancel_ends_ffmpeg(
    smithy: Installation, api: Calls, origin: Origin, clip: bytes, path: str
) -> None:
    url = origin.serve(path, Page(long_sound(hours=1)))
    source = await api.end(await api.ingest(url))
    job = await api.convert(OPUS, media_id=source.media.id)
    await api.until(job.id, job_pb2.JOB_STATE_RUNNING, fraction=1e-6)
    assert ffmpegs(smithy.process.pid)

    await api.cancel(job.id)
    await no_ffmpeg(smithy.process.pid, seconds=TIMEOUT_SECONDS)

    assert (await api.look(job.id)).state == job_pb2.JOB_STATE_CANCELLED
    # Nothing of it holds a slot: two more run.
    for number in range(2):
        next_url = origin.serve(f"{path}-{number}", Page(clip))
        ended = await api.end(await api.convert(MP3, url=next_url))
        assert ended.state == job_pb2.JOB_STATE_SUCCEEDED


async def test_a_cancel_ends_what_began_early(
    smithy: Installation, api: Calls, origin: Origin, path: str
) -> None:
    """One of two conversions first, and then the whole."""
    url = origin.serve(path, Page(long_sound(1, hours=1)))
    job = await api.ingest(url, OPUS, MP3)
    parent = await api.until(job.id, job_pb2.JOB_STATE_RUNNING, fraction=1 / 3)
    while len(parent.child_job_ids) < 3 or len(ffmpegs(smithy.process.pid)) < 2:
        await asyncio.sleep(0.05)
        parent = await api.look(job.id)
    opus, mp3 = parent.child_job_ids[1:]

    await api.cancel(opus)
    await no_ffmpeg(smithy.process.pid, seconds=TIMEOUT_SECONDS, of=".opus")
    assert ffmpegs(smithy.process.pid, of=".mp3")
    await api.cancel(job.id)
    await no_ffmpeg(smithy.process.pid, seconds=TIMEOUT_SECONDS)

    for job_id in (opus, mp3, job.id):
        assert (await api.look(job_id)).state == job_pb2.JOB_STATE_CANCELLED


async def test_an_ingest_does_not_wait_for_conversions(
    smithy: Installation, api: Calls, origin: Origin, clip: bytes, path: str
) -> None:
    """More long conversions than all workers have slots, some of them begun by ingests."""
    content = long_sound(hours=1)
    urls = [origin.serve(f"{path}-{number}", Page(content)) for number in range(8)]
    jobs = [await api.convert(OPUS, url=url) for url in urls]
    for job in jobs:
        # Ingested: what is left is the conversion.
        await api.until(job.id, job_pb2.JOB_STATE_RUNNING, fraction=0.5)
    await until(lambda: len(ffmpegs(smithy.process.pid)) >= 2)

    stored = await api.end(await api.ingest(origin.serve(path, Page(clip))))
    assert stored.state == job_pb2.JOB_STATE_SUCCEEDED
    left = [await api.look(job.id) for job in jobs]
    assert sum(not has_ended(job) for job in left) >= 6

    for job in jobs:
        await api.cancel(job.id)
    await no_ffmpeg(smithy.process.pid, seconds=30)
