"""A disk that fills and an S3 that goes, in the middle of a conversion by a real worker."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.job_pb2 import JOB_STATE_FAILED, JOB_STATE_SUCCEEDED, Job
from ingot.v1.job_service_pb2 import WatchJobRequest
from ingot.v1.media_pb2 import Media
from ingot_server.config import Settings
from ingot_server.setting_values import ByteSize
from tests.conversions import long_sound
from tests.harness import Harness, running_harness
from tests.origin import Page, running_origin
from tests.recipes import make_recipe
from tests.refusals import reason_name_of
from tests.waiting import TIMEOUT_SECONDS, until

pytestmark = pytest.mark.slow

# Some seconds of work.
PART = make_recipe("opus", end=1200)


class Relay:
    """Hands connections on to a server, until `shut`."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        # Keeps the port while no process listens on it.
        self._bound = socket.socket()
        self._bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._bound.bind(("127.0.0.1", 0))
        self.port = int(self._bound.getsockname()[1])

    async def begin(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, reuse_port=True
        )

    async def shut(self) -> None:
        """Connections under way end at once, and no new one is taken."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await until(lambda: not self._open)

    def close(self) -> None:
        self._bound.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        ends = {writer}
        try:
            with contextlib.suppress(OSError):
                there = await asyncio.open_connection(self._host, self._port)
                ends.add(there[1])
                self._open.add(there[1])
                if not writer.is_closing():
                    await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
        finally:
            for end in ends:
                end.transport.abort()
            self._open -= ends


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError


@pytest.fixture
async def relay(settings: Settings) -> AsyncIterator[Relay]:
    running = Relay(settings.s3_endpoint)
    await running.begin()
    yield running
    await running.shut()
    running.close()


@pytest.fixture
async def harness(settings: Settings, relay: Relay) -> AsyncIterator[Harness]:
    through = settings.replace(
        s3_endpoint=f"127.0.0.1:{relay.port}",
        attempts=2,
        retry_backoff=timedelta(milliseconds=100),
        scratch_reserve=ByteSize(0),
    )
    async with running_harness(through) as running:
        yield running


@pytest.fixture
async def source(harness: Harness) -> Media:
    async with running_origin() as origin:
        job = await harness.ingest(origin.serve("/long.mp3", Page(long_sound())))
    assert job.state == JOB_STATE_SUCCEEDED, job
    return job.media


async def convert(harness: Harness, source: Media) -> Job:
    answer = await harness.api.Convert(ConvertRequest(media_id=source.id, recipe=PART))
    job: Job = answer.job
    return job


async def under_way(harness: Harness, job: Job) -> asyncio.Task[Job]:
    """The job's running, of which ffmpeg has done a part."""
    running = asyncio.create_task(harness.end(job))
    watch = harness.jobs.WatchJob(WatchJobRequest(job_id=job.id))
    async for answer in watch:
        if answer.job.progress.fraction > 0:
            break
    watch.cancel()
    return running


@pytest.mark.any_stores
async def test_a_disk_that_fills_in_the_middle(harness: Harness, source: Media) -> None:
    scratch = harness.worker._pipeline._context.scratch
    job = await convert(harness, source)
    running = await under_way(harness, job)
    scratch._spare_bytes = 1 << 60
    job = await running

    assert (job.state, reason_name_of(job), job.attempt) == (JOB_STATE_FAILED, "SCRATCH_FULL", 2)
    assert await harness.keys(f"media/{job.media.id}/") == []
    await harness.assert_idle()
    scratch._spare_bytes = 0
    job = await harness.end(await convert(harness, source))
    assert job.state == JOB_STATE_SUCCEEDED
    await harness.assert_idle()


@pytest.mark.any_stores
async def test_an_s3_that_goes_in_the_middle(harness: Harness, relay: Relay, source: Media) -> None:
    job = await convert(harness, source)
    running = await under_way(harness, job)
    await relay.shut()
    job = await running

    assert (job.state, reason_name_of(job), job.attempt) == (
        JOB_STATE_FAILED,
        "STORAGE_UNAVAILABLE",
        2,
    )
    await harness.assert_idle()
    await relay.begin()
    assert await harness.keys(f"media/{job.media.id}/") == []
    job = await harness.end(await convert(harness, source))
    assert job.state == JOB_STATE_SUCCEEDED
    assert len(await harness.keys(f"media/{job.media.id}/")) == 2
    await harness.assert_idle()


@pytest.mark.any_stores
async def test_a_cancel_in_the_middle(harness: Harness, source: Media) -> None:
    job = await convert(harness, source)
    running = await under_way(harness, job)
    await harness.cancel(job)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await running

    assert await harness.keys(f"media/{job.media.id}/") == []
    await harness.assert_idle()
