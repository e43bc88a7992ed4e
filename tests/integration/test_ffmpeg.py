"""One ffmpeg: what it may do, and every way in which it can end."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import struct
import threading
from collections.abc import Awaitable, Iterator
from datetime import timedelta
from pathlib import Path
from zlib import compress, crc32

import pytest

from ingot_server.config import Settings
from ingot_server.errors import Failure, reason_name
from ingot_server.setting_values import ByteSize
from ingot_server.transcode.ffmpeg import STANDARD_INPUT, STANDARD_OUTPUT, Ffmpeg, FfmpegProgress
from tests.installation import descendants
from tests.media import media
from tests.waiting import TIMEOUT_SECONDS, until

# Lasts until it is ended: sound at the speed of play.
ENDLESS_SECONDS = 240
ENDLESS = [
    *("-re", "-f", "lavfi", "-i", f"sine=duration={ENDLESS_SECONDS}"),
    *("-c:a", "pcm_s16le", "-f", "wav"),
]
SOUND = ["-f", "lavfi", "-i", "sine=duration=20", "-c:a", "pcm_s16le", "-f", "wav"]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = descendants(os.getpid())
    yield
    assert set(descendants(os.getpid())) <= set(before)


class ProgressLog:
    """Takes moments; `begun` is set by the first."""

    def __init__(self) -> None:
        self.moments: list[FfmpegProgress] = []
        self.begun = asyncio.Event()

    def __call__(self, moment: FfmpegProgress) -> None:
        self.moments.append(moment)
        self.begun.set()


def ffmpeg(**settings: object) -> Ffmpeg:
    return Ffmpeg(Settings().replace(**settings))


async def reason(running: Awaitable[object]) -> tuple[str, str]:
    with pytest.raises(Failure) as caught:
        await running
    return reason_name(caught.value.reason), caught.value.message


async def begun(
    tmp_path: Path, progress_log: ProgressLog, **settings: object
) -> tuple[asyncio.Task[object], int]:
    """An endless run that has begun, and the number of its process."""
    before = set(descendants(os.getpid()))
    output = tmp_path / "out.wav"
    running: asyncio.Task[object] = asyncio.create_task(
        ffmpeg(**settings).run_command(
            [*ENDLESS, str(output)], output=output, on_progress=progress_log
        )
    )
    await progress_log.begun.wait()
    (pid,) = set(descendants(os.getpid())) - before
    return running, pid


def black_png(width: int, height: int) -> bytes:
    """A PNG of one bit for each pixel (ISO/IEC 15948)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = compress(bytes(1 + (width + 7) // 8) * height)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


async def test_it_tells_how_far_it_is(tmp_path: Path) -> None:
    progress_log, output = ProgressLog(), tmp_path / "out.mp3"
    arguments = ["-i", str(media("plain.mp4")), "-vn", "-b:a", "64k", str(output)]
    ran = await ffmpeg().run_command(
        arguments, source=media("plain.mp4"), output=output, on_progress=progress_log
    )

    assert ran.seconds == pytest.approx(2, abs=0.06)
    assert progress_log.moments[-1].seconds == ran.seconds
    assert progress_log.moments[-1].speed > 0
    assert progress_log.moments == sorted(progress_log.moments, key=lambda moment: moment.seconds)


async def test_it_is_fed_from_a_reader_and_closes_it(tmp_path: Path) -> None:
    output, source = tmp_path / "out.wav", media("variable.mp3").open("rb")
    await ffmpeg().run_command(["-i", STANDARD_INPUT, str(output)], output=output, stdin=source)

    assert output.stat().st_size == pytest.approx(2 * 44100 * 2, rel=0.01)
    assert source.closed


async def test_a_reader_need_not_be_read_to_its_end(tmp_path: Path) -> None:
    output, source = tmp_path / "out.wav", io.BytesIO(media("sound.wav").read_bytes() * 100)
    arguments = ["-i", STANDARD_INPUT, "-t", "0.1", str(output)]
    ran = await ffmpeg().run_command(arguments, output=output, stdin=source)

    assert ran.seconds == pytest.approx(0.1, abs=0.01)


async def test_what_a_reader_raises_comes_out(tmp_path: Path) -> None:
    class Torn(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            raise OSError("torn")

    with pytest.raises(OSError, match="torn"):
        await ffmpeg().run_command(["-i", STANDARD_INPUT, str(tmp_path / "out.wav")], stdin=Torn())  # type: ignore[arg-type]


async def test_waiting_for_a_reader_does_not_count_as_a_hang(tmp_path: Path) -> None:
    first, second = (
        media("sound.wav").read_bytes()[:80_000],
        media("sound.wav").read_bytes()[80_000:],
    )
    late = threading.Event()

    class Slow(io.RawIOBase):
        parts = iter((first, second, b""))

        def read(self, size: int = -1, /) -> bytes:
            part = next(self.parts)
            if part is second:
                late.wait(5)
            return part

    impatient = ffmpeg(stall_timeout=timedelta(seconds=3))
    arguments = ["-i", STANDARD_INPUT, str(tmp_path / "out.wav")]
    ran = await impatient.run_command(
        arguments,
        output=tmp_path / "out.wav",
        stdin=Slow(),  # type: ignore[arg-type]
    )
    assert ran.seconds == pytest.approx(2, abs=0.01)


async def test_its_output_can_be_taken() -> None:
    taken: list[bytes] = []
    arguments = ["-i", str(media("sound.wav")), "-f", "u8", STANDARD_OUTPUT]
    await ffmpeg().run_command(arguments, source=media("sound.wav"), on_stdout=taken.append)

    assert sum(map(len, taken)) == 2 * 44100


async def test_it_sees_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_S3_SECRET_KEY", "secret")
    progress_log = ProgressLog()
    running, pid = await begun(tmp_path, progress_log)
    assert Path(f"/proc/{pid}/environ").read_bytes() == b"LANG=C.UTF-8\0"
    running.cancel()
    await asyncio.wait([running])


async def test_what_it_cannot_read_fails_with_its_words(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no media")
    reason_name_of, message = await reason(
        ffmpeg().run_command(
            ["-i", str(tmp_path / "text.mp4"), str(tmp_path / "out.mp3")],
            source=tmp_path / "text.mp4",
        )
    )
    assert reason_name_of == "CONVERSION_FAILED"
    assert "Invalid data" in message
    assert str(tmp_path) not in message


async def test_killed_from_outside_it_crashed(tmp_path: Path) -> None:
    running, pid = await begun(tmp_path, ProgressLog())
    os.kill(pid, signal.SIGKILL)
    reason_name_of, message = await reason(running)
    assert reason_name_of == "CONVERTER_CRASHED"
    assert "SIGKILL" in message


async def test_hanging_it_is_ended(tmp_path: Path) -> None:
    running, pid = await begun(tmp_path, ProgressLog(), stall_timeout=timedelta(seconds=3))
    os.kill(pid, signal.SIGSTOP)
    reason_name_of, message = await reason(running)
    assert reason_name_of == "CONVERTER_CRASHED"
    assert "made no progress for 3 s" in message


async def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    """However small the file is, and whatever its container announces."""
    source, output = tmp_path / "large.png", tmp_path / "out.png"
    source.write_bytes(black_png(16_000, 16_000))
    assert source.stat().st_size < 100_000
    reason_name_of, message = await reason(
        ffmpeg().run_command(["-i", str(source), str(output)], source=source, output=output)
    )
    assert reason_name_of == "CONVERSION_FAILED", message
    assert not output.exists()


async def test_past_its_memory_it_crashed(tmp_path: Path) -> None:
    # One picture of this size and form is more than it may have.
    picture = "color=size=9000x9000:duration=1,format=gbrpf32le"
    arguments = ["-f", "lavfi", "-i", picture, str(tmp_path / "o.mp4")]
    small = ffmpeg(conversion_memory=ByteSize(400 << 20))
    reason_name_of, message = await reason(small.run_command(arguments, output=tmp_path / "o.mp4"))
    assert reason_name_of == "CONVERTER_CRASHED", message


@pytest.mark.parametrize(
    "words",
    [
        "[h264 @ 0x1] get_buffer() failed: Cannot allocate memory",
        "[swscaler @ 0x1] Failed initializing scaling graph (Resource temporarily unavailable): x",
    ],
)
async def test_what_leaves_something_out_for_want_of_memory_crashed(
    tmp_path: Path, words: str
) -> None:
    # The real one does it by chance only.
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/sh\necho "{words}" >&2\n')
    program.chmod(0o700)
    starved = Ffmpeg(Settings(), program=str(program))
    reason_name_of, message = await reason(starved.run_command([str(tmp_path / "out.png")]))
    assert (reason_name_of, "INGOT_CONVERSION_MEMORY" in message) == ("CONVERTER_CRASHED", True)


async def test_an_option_that_it_cannot_copy_for_want_of_memory_crashed(tmp_path: Path) -> None:
    # The real one does it by chance only.
    program = tmp_path / "ffmpeg"
    words = "[format @ 0x1] No option name near 'alpha_modes=straight:'"
    program.write_text(f'#!/bin/sh\necho "{words}" >&2\nexit 1\n')
    program.chmod(0o700)
    starved = Ffmpeg(Settings(), program=str(program))
    reason_name_of, message = await reason(starved.run_command([str(tmp_path / "out.png")]))
    assert (reason_name_of, "INGOT_CONVERSION_MEMORY" in message) == ("CONVERTER_CRASHED", True)


async def test_past_the_largest_media_it_is_too_large(tmp_path: Path) -> None:
    small = ffmpeg(max_media_size=ByteSize(100_000))
    output = tmp_path / "out.wav"
    reason_name_of, _ = await reason(small.run_command([*SOUND, str(output)], output=output))
    assert reason_name_of == "TOO_LARGE"
    assert (tmp_path / "out.wav").stat().st_size <= 100_000


async def test_a_full_disk_is_reported() -> None:
    full = Path("/dev/full")
    reason_name_of, _ = await reason(
        ffmpeg().run_command([*SOUND, "-f", "wav", str(full)], output=full)
    )
    assert reason_name_of == "SCRATCH_FULL"


async def test_it_takes_no_longer_than_allowed(tmp_path: Path) -> None:
    hasty = ffmpeg(conversion_timeout=timedelta(seconds=1))
    output = tmp_path / "out.wav"
    reason_name_of, _ = await reason(hasty.run_command([*ENDLESS, str(output)], output=output))
    assert reason_name_of == "STAGE_TIMEOUT"


async def test_cancelled_it_is_gone_at_once(tmp_path: Path) -> None:
    running, pid = await begun(tmp_path, ProgressLog())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(ENDLESS_SECONDS / 4):
            await running
    assert not Path(f"/proc/{pid}").exists()


async def test_cancelled_while_it_waits_for_a_reader(tmp_path: Path) -> None:
    begun, ended = threading.Event(), threading.Event()

    class Silent(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            begun.set()
            ended.wait(TIMEOUT_SECONDS)
            return b""

        def close(self) -> None:
            ended.set()
            super().close()

    arguments = ["-i", STANDARD_INPUT, str(tmp_path / "out.wav")]
    running = asyncio.create_task(
        ffmpeg().run_command(
            arguments,
            output=tmp_path / "out.wav",
            stdin=Silent(),  # type: ignore[arg-type]
        )
    )
    await until(begun.is_set)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()


async def test_what_a_look_raises_ends_it(tmp_path: Path) -> None:
    progress_log = ProgressLog()

    def check() -> None:
        if progress_log.begun.is_set():
            raise Failure(1, "enough")  # type: ignore[arg-type]

    with pytest.raises(Failure, match="enough"):
        await ffmpeg().run_command(
            [*ENDLESS, str(tmp_path / "out.wav")],
            output=tmp_path / "out.wav",
            on_progress=progress_log,
            check=check,
        )
