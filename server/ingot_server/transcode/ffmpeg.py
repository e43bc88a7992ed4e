"""Runs one ffmpeg as a child: it opens files and pipes, and ends when it hangs or takes too much.

What follows from the ways in which it can end (`_failure`):

- killed, or out of the memory it may have: CONVERTER_CRASHED, and so is one without any movement
  for stall_timeout;
- no room on the disk: SCRATCH_FULL; a result past max_media_size: TOO_LARGE;
- past conversion_timeout, or as much CPU time on every processor: STAGE_TIMEOUT;
- anything else that it complains about: CONVERSION_FAILED with its last words.

It has two ways in, a file or its standard input, and two ways out, a file or its standard output.
Whatever it wrote is the caller's to remove.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Final

import imageio_ffmpeg

from ingot.v1 import reason_pb2
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.process.child import ChildError, ChildProcess, describe_exit
from ingot_server.process.limits import Limits

logger = logging.getLogger(__name__)

# Containers alone: no playlist and no list of other files can be opened as one of these.
FORMATS: Final = (
    "3gp,aac,ac3,aea,aiff,amr,ape,asf,asf_o,au,avi,caf,dhav,dsf,dts,dtshd,dv,eac3,flac,flv,gxf,"
    "iff,ivf,kux,live_flv,loas,matroska,mlp,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,mxf,nsv,nut,nuv,ogg,"
    "oma,pva,qcp,rm,shn,tak,truehd,tta,ty,voc,w64,wav,webm,wtv,wv,xwma"
)
STANDARD_INPUT: Final = "pipe:0"
STANDARD_OUTPUT: Final = "pipe:1"

_GENERAL: Final = ("-nostdin", "-hide_banner", "-nostats", "-y")
_READ_BYTES: Final = 256 << 10
_LOOKS: Final = 8
_REPORT_SECONDS: Final = "0.25"
_MESSAGE_CHARACTERS: Final = 300
_PREFIX: Final = re.compile(r"^(\[[^\]]*\] )+")
_EMPTY_WORDS: Final = ("Conversion failed", "Terminating thread", "Nothing was written")
_FULL: Final = ("No space left on device", "Disk quota exceeded")
# It leaves out the pictures that it says this of, and ends as if all were well.
_LEFT_OUT: Final = (
    "Cannot allocate memory",
    "Failed initializing scaling graph (Resource temporarily unavailable)",
)
_MEMORY: Final = (
    *("Cannot allocate memory", "Out of memory", "bad_alloc", "malloc", "pthread_create"),
    *("Resource temporarily unavailable", "insufficient memory"),
)
# All that is heard of x264 when it gets no memory; what we ask of encoders they can do.
_UNOPENED: Final = ("Error while opening encoder", "Generic error in an external library")


@dataclass(frozen=True, slots=True)
class Moment:
    """How far a run is: seconds of play in the result, and how many are made in one."""

    seconds: float
    speed: float


@dataclass(frozen=True, slots=True)
class Ran:
    """A run that ended well: seconds of play it wrote, 0 when not told, and what it logged."""

    seconds: float
    log: str


def _unheard(_moment: Moment) -> None: ...


class Ffmpeg:
    """Runs ffmpeg with what `conversion/commands.py` writes. Holds nothing between two runs."""

    def __init__(self, settings: Settings, *, program: str = "") -> None:
        self._settings = settings
        self._program = program or imageio_ffmpeg.get_ffmpeg_exe()

    @property
    def threads(self) -> int:
        """Of each decoder and encoder; 0 is one for each processor."""
        return self._settings.conversion_threads

    async def run(
        self,
        arguments: Sequence[str],
        *,
        output: Path | None = None,
        source: BinaryIO | None = None,
        level: str = "error",
        moments: Callable[[Moment], None] = _unheard,
        take: Callable[[bytes], None] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Ran:
        """Runs it to its end. Safe to repeat, and to cancel: its whole group is then gone.

        `output` is the file that it writes, watched for movement. `source` is a blocking reader
        that it is fed from, and that is closed in any case; what that raises comes out here. `take`
        gets what is written to standard output; without one `moments` is told how far it is, four
        times a second. `check` is called as often as the watchdog looks, and may raise.
        """
        options = [*_GENERAL, "-loglevel", level]
        if take is None:
            options += ["-progress", STANDARD_OUTPUT, "-stats_period", _REPORT_SECONDS]
        limit = self._settings.conversion_timeout
        try:
            async with asyncio.timeout(limit.total_seconds()):
                try:
                    child = await ChildProcess.start(
                        self._program, *options, *arguments, limits=self._limits()
                    )
                except ChildError as error:
                    raise _crashed(str(error)) from error
                async with child:
                    ran = await self._attend(child, output, source, moments, take, check)
        except TimeoutError as error:
            raise self._overdue() from error
        finally:
            if source is not None:
                source.close()
        if level == "error" and any(words in ran.log for words in _LEFT_OUT):
            raise _starved()
        return ran

    def _limits(self) -> Limits:
        settings = self._settings
        return Limits(
            memory_bytes=int(settings.conversion_memory),
            cpu=settings.conversion_timeout * (os.cpu_count() or 1) + timedelta(seconds=1),
            file_bytes=int(settings.max_media_size),
        )

    async def _attend(
        self,
        child: ChildProcess,
        output: Path | None,
        source: BinaryIO | None,
        moments: Callable[[Moment], None],
        take: Callable[[bytes], None] | None,
        check: Callable[[], None],
    ) -> Ran:
        feed = _Feed(child, source)
        watch = _Watch(self._settings, feed, output)
        if take is None:
            hearing = asyncio.create_task(_hear(child, watch, moments))
        else:
            hearing = asyncio.create_task(_take(child, watch, take))
        feeding = asyncio.create_task(feed.run())
        try:
            while not hearing.done():
                await asyncio.wait([hearing], timeout=watch.interval)
                if feeding.done():
                    feeding.result()
                watch.look()
                check()
            seconds = hearing.result()
            code = await child.wait()
        finally:
            if source is not None:
                source.close()
            await cancel_and_wait(hearing, feeding)
        log = await child.final_stderr()
        if code:
            raise self._failure(code, log)
        return Ran(seconds, log)

    def _failure(self, code: int, log: str) -> Failure:
        logger.info("ffmpeg %s: %s", describe_exit(code), log[-2000:])
        if code == -signal.SIGXCPU:
            return self._overdue()
        if code == -signal.SIGXFSZ or "File too large" in log:
            limit = int(self._settings.max_media_size)
            return Failure(
                reason_pb2.REASON_TOO_LARGE,
                f"What is made has more than the {limit} bytes that INGOT_MAX_MEDIA_SIZE allows.",
                metadata={"limit_bytes": str(limit)},
            )
        if code < 0:
            return _crashed(f"it was {describe_exit(code)}")
        if any(words in log for words in _FULL):
            return Failure(
                reason_pb2.REASON_SCRATCH_FULL,
                "The worker's scratch space has no room for what is made.",
            )
        if any(words in log for words in _MEMORY) or all(words in log for words in _UNOPENED):
            return _starved()
        return Failure(
            reason_pb2.REASON_CONVERSION_FAILED, f"ffmpeg cannot make this: {_last_words(log)}."
        )

    def _overdue(self) -> Failure:
        limit = self._settings.conversion_timeout
        return Failure(
            reason_pb2.REASON_STAGE_TIMEOUT,
            f"Converting took longer than the limit of {limit.total_seconds():g} s. "
            "INGOT_CONVERSION_TIMEOUT sets it.",
            metadata={"stage": "CONVERTING"},
        )


class _Feed:
    """Hands a reader's bytes to a child; `waiting` while the reader has none yet."""

    def __init__(self, child: ChildProcess, source: BinaryIO | None) -> None:
        self._child = child
        self._source = source
        self.done = 0
        self.waiting = False

    async def run(self) -> None:
        if self._source is None:
            return
        while True:
            self.waiting = True
            data = await asyncio.to_thread(self._source.read, _READ_BYTES)
            self.waiting = False
            if not data:
                self._child.close_input()
                return
            if not await self._child.write_input(data):
                return  # It has all it wants, or has ended; its exit code tells.
            self.done += len(data)


class _Watch:
    """Whether anything moves: what it reports, what it is fed, and the file it writes.

    The file counts by its time too: an index is put before gigabytes without a report. Waiting for
    a source that has nothing yet is no hang.
    """

    def __init__(self, settings: Settings, feed: _Feed, output: Path | None) -> None:
        self.reported: object = None
        self._feed = feed
        self._output = output
        self._timeout = settings.stall_timeout.total_seconds()
        self._clock = asyncio.get_running_loop().time
        self.interval = min(0.5, self._timeout / _LOOKS)
        self._mark: object = None
        self._since = self._clock()

    def look(self) -> None:
        """Raises Failure CONVERTER_CRASHED when nothing moved for stall_timeout."""
        mark = (self.reported, self._feed.done, self._written())
        if mark != self._mark or self._feed.waiting:
            self._mark, self._since = mark, self._clock()
        elif self._clock() - self._since >= self._timeout:
            raise _crashed(f"it did nothing for {self._timeout:g} s")

    def _written(self) -> tuple[int, int]:
        try:
            found = self._output.stat() if self._output is not None else None
        except OSError:
            found = None
        return (found.st_size, found.st_mtime_ns) if found is not None else (0, 0)


async def _hear(child: ChildProcess, watch: _Watch, moments: Callable[[Moment], None]) -> float:
    """Reads `-progress` reports to the end; the seconds that the last one names."""
    seconds, report = 0.0, dict[str, str]()
    while line := await _line(child):
        name, _, value = line.decode(errors="replace").strip().partition("=")
        report[name] = value.strip()
        if name != "progress":
            continue
        done = _number(report.get("out_time_us", "")) / 1e6
        watch.reported = (done, report.get("frame"), report.get("total_size"))
        # It begins below zero where an encoder has to be filled first.
        seconds = max(seconds, done)
        moments(Moment(seconds, _number(report.get("speed", "").removesuffix("x"))))
    return seconds


async def _take(child: ChildProcess, watch: _Watch, take: Callable[[bytes], None]) -> float:
    size = 0
    while data := await child.read_output(_READ_BYTES):
        size += len(data)
        watch.reported = size
        take(data)
    return 0.0


async def _line(child: ChildProcess) -> bytes:
    try:
        return await child.read_line()
    except ChildError as error:
        raise _crashed(str(error)) from error


def _number(text: str) -> float:
    """0 for `N/A` and for what is no finite number."""
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def _last_words(log: str) -> str:
    """The first and the last line that say something, without addresses, pointers and paths."""
    lines = [
        re.sub(r"(file:)?/\S*/", "", _PREFIX.sub("", line)).strip(" .:")
        for line in log.splitlines()
        if line.strip() and not any(words in line for words in _EMPTY_WORDS)
    ]
    told = list(dict.fromkeys([*lines[:1], *lines[-1:]]))
    return "; ".join(told)[:_MESSAGE_CHARACTERS] or "it does not say why"


def _starved() -> Failure:
    return _crashed("it needs more than INGOT_CONVERSION_MEMORY allows")


def _crashed(what: str) -> Failure:
    return Failure(reason_pb2.REASON_CONVERTER_CRASHED, f"The converter's process failed: {what}.")
