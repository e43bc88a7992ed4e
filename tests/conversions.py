"""What tests of conversions share: calls, a count of ffmpeg processes, long audio, a decoder."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import os
import shutil
import struct
import subprocess
import termios
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import imageio_ffmpeg

from ingot.v1.ingest_service_pb2 import ConvertRequest, IngestRequest
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import CancelJobRequest, GetJobRequest, WatchJobRequest
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.jobs.lifecycle import has_ended
from tests.installation import descendants
from tests.media import folder
from tests.recipes import make_recipe

MP3, OPUS, WAV = map(make_recipe, ("mp3", "opus", "wav"))
WATCH_SECONDS = 120.0
_MOST_STARTS = 10_000


class Calls:
    """The services over one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.ingests: Any = IngestServiceStub(channel)
        self.jobs: Any = JobServiceStub(channel)

    async def convert(self, recipe: Recipe, **source: str) -> Job:
        request = ConvertRequest(recipe=recipe, **source)  # type: ignore[arg-type]
        answer = await self.ingests.Convert(request)
        job: Job = answer.job
        return job

    async def ingest(self, url: str, *recipes: Recipe, **fields: Any) -> Job:
        answer = await self.ingests.Ingest(IngestRequest(url=url, recipes=recipes, **fields))
        job: Job = answer.job
        return job

    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        """The job as it is, and whenever it has changed, until it has ended."""
        call = self.jobs.WatchJob(WatchJobRequest(job_id=job_id), timeout=WATCH_SECONDS)
        try:
            async for answer in call:
                if answer.HasField("job"):
                    yield answer.job
        finally:
            call.cancel()

    async def until(self, job_id: str, state: int, *, fraction: float = 0.0) -> Job:
        """The job once it is in that state, and that far."""
        async with aclosing(self.watch(job_id)) as changes:  # type: ignore[type-var]
            async for job in changes:
                if job.state == state and job.progress.fraction >= fraction:
                    return job
        raise AssertionError(f"it ended before: {job}")

    async def end(self, job: Job) -> Job:
        """The job when it has ended."""
        async for each in self.watch(job.id):
            job = each
        assert has_ended(job)
        return job

    async def look(self, job_id: str) -> Job:
        answer = await self.jobs.GetJob(GetJobRequest(job_id=job_id))
        job: Job = answer.job
        return job

    async def cancel(self, job_id: str) -> None:
        await self.jobs.CancelJob(CancelJobRequest(job_id=job_id))


@asynccontextmanager
async def calls(address: str) -> AsyncIterator[Calls]:
    # A channel of its own connection: grpc shares one between equal channels.
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Calls(channel)


class CountedFfmpeg:
    """The real ffmpeg, started by a script that takes a line out of a pipe at each start.

    It may read only the directory that it is in, and write nowhere near it.

    It reads its input at 40 times the speed of playing it. So a long conversion costs the tests
    that it is long for little processor time.
    """

    def __init__(self, directory: Path) -> None:
        self.program = directory / "ffmpeg"
        real, pipe = directory / "real-ffmpeg", directory / "starts"
        shutil.copy(imageio_ffmpeg.get_ffmpeg_exe(), real)
        os.mkfifo(pipe)
        self._lines = os.open(pipe, os.O_RDWR)
        self._left = os.write(self._lines, b"\n" * _MOST_STARTS)
        self.program.write_text(
            f'#!/bin/sh\nread -r line <"{pipe}"\nexec "{real}" -readrate 40 "$@"\n'
        )
        self.program.chmod(0o700)

    def runs(self) -> int:
        """The number of starts since the last look."""
        left: int = struct.unpack("i", fcntl.ioctl(self._lines, termios.FIONREAD, bytes(4)))[0]
        runs, self._left = self._left - left, left
        return runs

    def close(self) -> None:
        os.close(self._lines)


@functools.cache
def long_sound(number: int = 0, *, hours: int = 6) -> bytes:
    """Hours of speech-like sound, of 3.6 MB each; any other `number` gives other bytes."""
    minute, path = folder() / f"minute-{number}.mp3", folder() / f"long-{number}-{hours}.mp3"
    ffmpeg = (imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-y")
    noise = f"anoisesrc=duration=60:sample_rate=8000:seed={number + 1}"
    subprocess.run([*ffmpeg, "-f", "lavfi", "-i", noise, "-b:a", "8k", str(minute)], check=True)
    loops = str(60 * hours - 1)
    looped = ("-stream_loop", loops, "-i", str(minute), "-c", "copy", str(path))
    subprocess.run([*ffmpeg, *looped], check=True)
    return path.read_bytes()


def assert_mp3_plays(path: Path) -> None:
    """Decode an MP3 file to its end, without a word of ffmpeg."""
    decoded = subprocess.run(
        [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "mp3", "-i", path),
            *("-map", "0:a", "-f", "null", "-"),
        ],
        check=True,
        capture_output=True,
    )
    assert decoded.stderr == b""


def ffmpegs(pid: int, *, of: str = "") -> list[int]:
    """The ffmpegs below a process that run, those with `of` in their arguments."""
    return [child for child in descendants(pid) if _is_ffmpeg(child, of)]


async def no_ffmpeg(pid: int, *, seconds: float, of: str = "") -> None:
    """Waits until none runs. Raises TimeoutError when one still does after `seconds`."""
    async with asyncio.timeout(seconds):
        while ffmpegs(pid, of=of):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def _is_ffmpeg(pid: int, of: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    # Empty for a zombie, which is none that runs.
    return b"ffmpeg" in words[0].rpartition(b"/")[2] and of.encode() in b" ".join(words)
