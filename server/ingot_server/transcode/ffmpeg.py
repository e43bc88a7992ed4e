"""ffmpeg as a child process, which is ended when it hangs or uses too much.

How it ends decides about the failure (`_failure`):

- it was killed, needed more memory than it may have, or made no progress for stall_timeout:
  CONVERTER_CRASHED;
- the disk is full: SCRATCH_FULL; the result is larger than max_media_size: TOO_LARGE;
- it ran longer than conversion_timeout, or used that much CPU time on every processor:
  STAGE_TIMEOUT;
- it reported anything else: CONVERSION_FAILED, with its last output.

It reads a file or its standard input, and writes a file or its standard output. The caller removes
what it wrote.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final

from ingot.v1 import reason_pb2
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.errors import Failure, too_large
from ingot_server.event_log import EventLogger
from ingot_server.log_events import Event
from ingot_server.process.child import ChildError, ChildProcess, describe_exit
from ingot_server.process.confinement import Confinement
from ingot_server.process.ffmpeg_program import ffmpeg_program
from ingot_server.process.limits import MAX_PIXELS, Limits
from ingot_server.process.machine_memory import machine_memory_bytes
from ingot_server.transcode.memory_limit import conversion_memory_bytes

logger = EventLogger(__name__)

# Containers only: no playlist and no list of other files can be opened as one of these.
DEMUXERS: Final = (
    "3gp,aac,ac3,aea,aiff,amr,ape,asf,asf_o,au,avi,caf,dhav,dsf,dts,dtshd,dv,eac3,flac,flv,gxf,"
    "iff,ivf,kux,live_flv,loas,matroska,mlp,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,mxf,nsv,nut,nuv,ogg,"
    "oma,pva,qcp,rm,shn,tak,truehd,tta,ty,voc,w64,wav,webm,wtv,wv,xwma"
)
STANDARD_INPUT: Final = "pipe:0"
STANDARD_OUTPUT: Final = "pipe:1"

_GENERAL: Final = ("-nostdin", "-hide_banner", "-nostats", "-y")
_READ_BYTES: Final = 256 << 10
_CHECKS_PER_TIMEOUT: Final = 8
_REPORT_SECONDS: Final = "0.25"
_MESSAGE_CHARACTERS: Final = 300
_PREFIX: Final = re.compile(r"^(\[[^\]]*\] )+")
_UNINFORMATIVE: Final = ("Conversion failed", "Terminating thread", "Nothing was written")
_DISK_FULL: Final = ("No space left on device", "Disk quota exceeded")
# ffmpeg leaves out the frames that it reports this about, and then ends successfully.
_FRAMES_LEFT_OUT: Final = (
    "Cannot allocate memory",
    "Failed initializing scaling graph (Resource temporarily unavailable)",
)
_MEMORY: Final = (
    *("Cannot allocate memory", "Out of memory", "bad_alloc", "malloc", "pthread_create"),
    *("Resource temporarily unavailable", "insufficient memory"),
    # What the parser of filters says when it cannot copy an option. Our filters have names for all.
    "No option name near",
)
# All that x264 reports without memory. Our options are valid, so nothing else makes it fail.
_ENCODER_NOT_OPENED: Final = ("Error while opening encoder", "Generic error in an external library")


@dataclass(frozen=True, slots=True)
class FfmpegProgress:
    """How many seconds of the result are written, and how many are written per second."""

    seconds: float
    speed: float


@dataclass(frozen=True, slots=True)
class FfmpegResult:
    """A successful command: the seconds that it wrote, 0 if it did not report them, and its log."""

    seconds: float
    log: str


class Ffmpeg:
    """Executes the commands that `commands.py` writes. Keeps nothing from one to the next."""

    def __init__(self, settings: Settings, *, program: str = "") -> None:
        self._settings = settings
        self._program = program or ffmpeg_program(settings)

    @property
    def threads(self) -> int:
        """The threads of each decoder and encoder; 0 means one for each processor."""
        return self._settings.conversion_threads

    @property
    def processor_time(self) -> timedelta:
        """How long one command may take, of all processors together."""
        return self._settings.conversion_timeout * (os.cpu_count() or 1)

    async def run_command(
        self,
        arguments: Sequence[str],
        *,
        source: Path | None = None,
        output: Path | None = None,
        stdin: BinaryIO | None = None,
        log_level: str = "error",
        on_progress: Callable[[FfmpegProgress], None] = lambda _: None,
        on_stdout: Callable[[bytes], None] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> FfmpegResult:
        """Run ffmpeg until it ends. Safe to repeat and to cancel: then no process is left.

        `source` is the only file that it can read, and the directory of `output` the only one that
        it can read and write; `output` is watched for growth. `stdin` is a blocking
        reader that feeds its standard input, and is closed in any case; what it raises is raised
        here. `on_stdout` gets what ffmpeg writes to standard output; without it, `on_progress` is
        called four times a second. `check` is called regularly, and may raise.
        """
        options = [*_GENERAL, "-loglevel", log_level]
        if "-i" in arguments:
            options += ["-max_pixels", str(MAX_PIXELS)]  # of the first input
        if on_stdout is None:
            options += ["-progress", STANDARD_OUTPUT, "-stats_period", _REPORT_SECONDS]
        limit = self._settings.conversion_timeout
        try:
            async with asyncio.timeout(limit.total_seconds()):
                try:
                    child = await ChildProcess.start(
                        *(self._program, *options, *arguments),
                        limits=self._limits(),
                        confinement=self._confinement(source, output),
                        name="ffmpeg",
                    )
                except ChildError as error:
                    raise _crashed(str(error)) from error
                async with child:
                    feeder = _Feeder(child, stdin)
                    watchdog = _Watchdog(self._settings, feeder, output)
                    if on_stdout is None:
                        reading = _read_progress(child, watchdog, on_progress)
                    else:
                        reading = _read_stdout(child, watchdog, on_stdout)
                    result = await self._supervise(child, feeder, watchdog, reading, check)
        except TimeoutError as error:
            raise self._timed_out() from error
        finally:
            if stdin is not None:
                stdin.close()
        if log_level == "error" and any(words in result.log for words in _FRAMES_LEFT_OUT):
            raise _out_of_memory()
        return result

    def _limits(self) -> Limits:
        settings = self._settings
        return Limits(
            memory_bytes=conversion_memory_bytes(settings, machine_memory_bytes()),
            cpu=self.processor_time + timedelta(seconds=1),
            file_bytes=int(settings.max_media_size),
        )

    def _confinement(self, source: Path | None, output: Path | None) -> Confinement:
        return Confinement(
            reads=[] if source is None else [str(source.absolute())],
            writes=[] if output is None else [str(output.parent.absolute())],
            programs=[self._program],
        )

    async def _supervise(
        self,
        child: ChildProcess,
        feeder: _Feeder,
        watchdog: _Watchdog,
        reading: Coroutine[Any, Any, float],
        check: Callable[[], None],
    ) -> FfmpegResult:
        reader = asyncio.create_task(reading)
        feeding = asyncio.create_task(feeder.feed_input())
        try:
            while not reader.done():
                await asyncio.wait([reader], timeout=watchdog.interval)
                if feeding.done():
                    feeding.result()
                watchdog.check_progress()
                check()
            seconds = reader.result()
            code = await child.wait()
        finally:
            feeder.close()
            await cancel_and_wait(reader, feeding)
        log = await child.final_stderr()
        if code:
            raise self._failure(code, log)
        return FfmpegResult(seconds, log)

    def _failure(self, code: int, log: str) -> Failure:
        logger.info(Event.FFMPEG_FAILED, "ffmpeg %s: %s", describe_exit(code), log[-2000:])
        if code == -signal.SIGXCPU:
            return self._timed_out()
        if code == -signal.SIGXFSZ or "File too large" in log:
            return too_large(int(self._settings.max_media_size))
        if code < 0:
            return _crashed(f"it was {describe_exit(code)}")
        if any(words in log for words in _DISK_FULL):
            return Failure(
                reason_pb2.REASON_SCRATCH_FULL,
                "The worker's scratch space is full. Free some of it, or try again later.",
            )
        if any(words in log for words in _MEMORY) or all(
            words in log for words in _ENCODER_NOT_OPENED
        ):
            return _out_of_memory()
        return Failure(
            reason_pb2.REASON_CONVERSION_FAILED,
            f"ffmpeg could not convert the file: {_summary(log)}.",
        )

    def _timed_out(self) -> Failure:
        limit = self._settings.conversion_timeout
        return Failure(
            reason_pb2.REASON_STAGE_TIMEOUT,
            f"The conversion took longer than the {limit.total_seconds():g} s "
            "that INGOT_CONVERSION_TIMEOUT allows.",
            metadata={"stage": "CONVERTING"},
        )


class _Feeder:
    """Writes a reader's bytes to ffmpeg; `waiting` while the reader has none yet."""

    def __init__(self, child: ChildProcess, stdin: BinaryIO | None) -> None:
        self._child = child
        self._stdin = stdin
        self.fed_bytes = 0
        self.waiting = False

    async def feed_input(self) -> None:
        if self._stdin is None:
            return
        while True:
            self.waiting = True
            data = await asyncio.to_thread(self._stdin.read, _READ_BYTES)
            self.waiting = False
            if not data:
                self._child.close_input()
                return
            if not await self._child.write_input(data):
                return  # It has read enough, or has ended; its exit code tells which.
            self.fed_bytes += len(data)

    def close(self) -> None:
        if self._stdin is not None:
            self._stdin.close()


class _Watchdog:
    """Notices when nothing changes: the reports, the bytes of the input, and the output file.

    The time of the file counts too: ffmpeg moves an index to the front of gigabytes without a
    report. Waiting for a reader that has no bytes yet is not a stall.
    """

    def __init__(self, settings: Settings, feeder: _Feeder, output: Path | None) -> None:
        self.reported: object = None
        self._feeder = feeder
        self._output = output
        self._timeout = settings.stall_timeout.total_seconds()
        self._clock = asyncio.get_running_loop().time
        self.interval = min(0.5, self._timeout / _CHECKS_PER_TIMEOUT)
        self._state: object = None
        self._since = self._clock()

    def check_progress(self) -> None:
        """Raise Failure CONVERTER_CRASHED if nothing changed for stall_timeout."""
        state = (self.reported, self._feeder.fed_bytes, self._output_state())
        if state != self._state or self._feeder.waiting:
            self._state, self._since = state, self._clock()
        elif self._clock() - self._since >= self._timeout:
            raise _crashed(f"it made no progress for {self._timeout:g} s")

    def _output_state(self) -> object:
        try:
            found = self._output.stat() if self._output is not None else None
        except OSError:
            found = None
        return (found.st_size, found.st_mtime_ns) if found is not None else None


async def _read_progress(
    child: ChildProcess, watchdog: _Watchdog, on_progress: Callable[[FfmpegProgress], None]
) -> float:
    """Read the reports of `-progress` to the end; return the seconds that the last one names."""
    seconds, report = 0.0, dict[str, str]()
    while line := await _read_line(child):
        name, _, value = line.decode(errors="replace").strip().partition("=")
        report[name] = value.strip()
        if name != "progress":
            continue
        done = _number(report.get("out_time_us", "")) / 1e6
        watchdog.reported = (done, report.get("frame"), report.get("total_size"))
        # It begins below zero if an encoder has to be filled first.
        seconds = max(seconds, done)
        on_progress(FfmpegProgress(seconds, _number(report.get("speed", "").removesuffix("x"))))
    return seconds


async def _read_stdout(
    child: ChildProcess, watchdog: _Watchdog, on_stdout: Callable[[bytes], None]
) -> float:
    size = 0
    while data := await child.read_output(_READ_BYTES):
        size += len(data)
        watchdog.reported = size
        on_stdout(data)
    return 0.0


async def _read_line(child: ChildProcess) -> bytes:
    try:
        return await child.read_line()
    except ChildError as error:
        raise _crashed(str(error)) from error


def _number(text: str) -> float:
    """Return 0 for `N/A` and for everything else that is not a finite number."""
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def _summary(log: str) -> str:
    """Return the first and the last informative line, without addresses, pointers and paths."""
    lines = [
        re.sub(r"(file:)?/\S*/", "", _PREFIX.sub("", line)).strip(" .:")
        for line in log.splitlines()
        if line.strip() and not any(words in line for words in _UNINFORMATIVE)
    ]
    shown = list(dict.fromkeys([*lines[:1], *lines[-1:]]))
    return "; ".join(shown)[:_MESSAGE_CHARACTERS] or "it does not say why"


def _out_of_memory() -> Failure:
    return _crashed("it needs more memory than INGOT_CONVERSION_MEMORY allows")


def _crashed(what: str) -> Failure:
    return Failure(reason_pb2.REASON_CONVERTER_CRASHED, f"The converter's process failed: {what}.")
