"""An extraction that does not end well: what its caller is told, and that nothing is left of it.

Real yt-dlp against a web server of ours, through whole ingests.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from datetime import timedelta
from pathlib import Path

import imageio_ffmpeg
import pytest

from ingot.v1.job_pb2 import JOB_STATE_CANCELLED, JOB_STATE_QUEUED, JOB_STATE_SUCCEEDED, Job
from ingot.v1.media_pb2 import Selection
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.setting_values import ByteSize
from tests.harness import running_harness
from tests.installation import descendants
from tests.manifests import packed, serve_manifest
from tests.mediasite import serve_presentation
from tests.origin import Origin, Page
from tests.prepared_programs import DIRECTORY
from tests.refusals import failed_attempt_of, reason_name_of
from tests.waiting import TIMEOUT_SECONDS, until

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

SHARED = b"prepared_process.py"
HLS = "application/vnd.apple.mpegurl"


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    # These tests kill and stop processes to fork from, so they do not share one with others.
    monkeypatch.delenv(DIRECTORY)
    return settings.replace(attempts=1, retry_backoff=timedelta(milliseconds=10))


def running(what: bytes) -> list[int]:
    """The processes below this one whose command line has `what` in it, but for shared ones."""
    commands = {pid: command_line(pid) for pid in descendants(os.getpid())}
    return [pid for pid, command in commands.items() if what in command and SHARED not in command]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def signal_extractors(number: signal.Signals) -> None:
    for pid in running(b"child_main.py"):
        with contextlib.suppress(ProcessLookupError):  # One may be just ending.
            os.kill(pid, number)


async def failed(settings: Settings, url: str) -> Job:
    """The job of an ingest that leaves nothing."""
    async with running_harness(settings) as harness:
        job = await harness.ingest(url)
        await harness.assert_nothing_is_left()
        return job


async def test_a_page_that_never_answers_ends_resolving(settings: Settings, origin: Origin) -> None:
    url = origin.serve("/list.m3u8", Page(silent_after=-1))
    job = await failed(settings.replace(extraction_timeout=timedelta(seconds=2)), url)

    assert reason_name_of(job) == "STAGE_TIMEOUT"
    assert Failure.from_status(job.error).metadata["stage"] == "RESOLVING"
    assert "INGOT_EXTRACTION_TIMEOUT" in job.error.message


async def test_a_download_that_takes_too_long_is_ended(
    settings: Settings, origin: Origin, clip: bytes
) -> None:
    url = serve_presentation(origin, clip)
    origin.pages["/lecture.mp4"].rate = 5000
    job = await failed(settings.replace(download_timeout=timedelta(seconds=3)), url)

    assert reason_name_of(job) == "STAGE_TIMEOUT"
    assert Failure.from_status(job.error).metadata["stage"] == "DOWNLOADING"


async def test_a_source_that_falls_silent_is_stalled(
    settings: Settings, origin: Origin, clip: bytes
) -> None:
    url = serve_presentation(origin, clip)
    origin.pages["/lecture.mp4"].silent_after = 1000
    job = await failed(settings.replace(stall_timeout=timedelta(seconds=2)), url)

    assert reason_name_of(job) == "STALLED", job.error


@pytest.mark.parametrize(
    "page",
    [
        Page(size=5 << 20),
        Page(size=5 << 20, chunked=True),
        Page(endless=True, chunked=True),
    ],
)
async def test_a_file_over_the_limit_is_too_large(
    settings: Settings, origin: Origin, page: Page
) -> None:
    url = serve_presentation(origin, b"")
    origin.serve("/lecture.mp4", page)
    limit = ByteSize(1 << 20)
    job = await failed(settings.replace(max_media_size=limit), url)

    assert reason_name_of(job) == "TOO_LARGE", job.error
    assert origin.bytes_sent("/lecture.mp4") < 32 << 20


async def test_segments_over_the_limit_are_too_large(settings: Settings, origin: Origin) -> None:
    url = serve_manifest(origin, "hls")
    job = await failed(settings.replace(max_media_size=ByteSize(10_000)), url)

    assert reason_name_of(job) == "TOO_LARGE", job.error


async def test_what_is_announced_as_too_long_is_not_fetched(
    settings: Settings, origin: Origin, clip: bytes
) -> None:
    url = serve_presentation(origin, clip, seconds=7200)
    job = await failed(settings.replace(max_duration=timedelta(hours=1)), url)

    assert reason_name_of(job) == "TOO_LONG", job.error
    assert not origin.bytes_sent("/lecture.mp4")


async def test_what_turns_out_too_long_is_refused(
    settings: Settings, origin: Origin, clip: bytes
) -> None:
    url = serve_presentation(origin, clip, seconds=None)
    job = await failed(settings.replace(max_duration=timedelta(seconds=1)), url)

    assert reason_name_of(job) == "TOO_LONG", job.error


async def test_a_killed_extractor_is_started_again(
    settings: Settings, origin: Origin, clip: bytes
) -> None:
    url = serve_presentation(origin, clip)
    gate = origin.pages["/lecture.mp4"].gate = asyncio.Event()
    async with running_harness(settings.replace(attempts=2)) as harness:
        job = await harness.ask(url)
        first = asyncio.create_task(harness.worker.run_job(job.id))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await origin.asked_for("/lecture.mp4")
        signal_extractors(signal.SIGKILL)
        await first

        job = await harness.record(job.id)
        assert (job.state, failed_attempt_of(job)) == (JOB_STATE_QUEUED, "EXTRACTOR_CRASHED")
        await harness.assert_idle()
        gate.set()
        job = await harness.end(job)

        assert (job.state, job.attempt) == (JOB_STATE_SUCCEEDED, 2), job.error
        assert not job.HasField("error")
        await harness.assert_idle()
        assert len(await harness.keys("media/")) == 2


async def test_a_hanging_extractor_is_stalled(
    settings: Settings, origin: Origin, clip: bytes
) -> None:
    url = serve_presentation(origin, clip)
    gate = origin.pages["/lecture.mp4"].gate = asyncio.Event()
    # Within that time the extractor has to ask for it.
    async with running_harness(settings.replace(stall_timeout=timedelta(seconds=10))) as harness:
        job = await harness.ask(url)
        ending = asyncio.create_task(harness.end(job))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await origin.asked_for("/lecture.mp4")
        hanging = running(b"child_main.py")
        signal_extractors(signal.SIGSTOP)
        gate.set()
        job = await ending

        assert reason_name_of(job) == "STALLED", job.error
        await harness.assert_nothing_is_left()
        assert len([pid for pid in hanging if command_line(pid)]) <= 1


async def test_an_extractor_that_leaks_is_a_crash(settings: Settings, origin: Origin) -> None:
    manifest = b"#EXTM3U\n" + bytes(150 << 20)
    url = origin.serve("/list.m3u8", Page(manifest, content_type=HLS))
    job = await failed(settings.replace(extractor_memory=ByteSize(384 << 20)), url)

    assert reason_name_of(job) == "EXTRACTOR_CRASHED", job.error


@pytest.fixture
def hanging_ffmpeg(tmp_path: Path) -> Path:
    """Stands in for an ffmpeg that hangs while it merges: it runs `sleep 98765`."""
    packed("dash")  # by the real one
    program = tmp_path / "ffmpeg"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *-bsfs*) exec "{imageio_ffmpeg.get_ffmpeg_exe()}" "$@";; esac\n'
        "exec sleep 98765\n"
    )
    program.chmod(0o700)
    return program


async def test_cancel_ends_a_hanging_merge(
    settings: Settings, origin: Origin, hanging_ffmpeg: Path
) -> None:
    serve_manifest(origin, "dash")
    async with running_harness(settings.replace(ffmpeg=str(hanging_ffmpeg))) as harness:
        job = await harness.ask(origin.url("/list.mpd"))
        run = asyncio.create_task(harness.worker.run_job(job.id))
        await until(lambda: running(b"98765"))

        await harness.cancel(job)
        await run

        assert (await harness.record(job.id)).state == JOB_STATE_CANCELLED
        assert running(b"98765") == []
        await harness.assert_nothing_is_left()


async def test_a_hanging_merge_is_stalled(
    settings: Settings, origin: Origin, hanging_ffmpeg: Path, clip: bytes
) -> None:
    url = serve_presentation(origin, clip)
    async with running_harness(
        settings.replace(ffmpeg=str(hanging_ffmpeg), stall_timeout=timedelta(seconds=2))
    ) as harness:
        job = await harness.ingest(url, selection=Selection(mode=Selection.MODE_AUDIO_ONLY))

        assert reason_name_of(job) == "STALLED", job.error
        assert running(b"98765") == []
        await harness.assert_nothing_is_left()
