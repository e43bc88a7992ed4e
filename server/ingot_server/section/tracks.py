"""The tracks of a file, on the clock of the media that it is a part of.

Tracks that are files of their own share a clock if their manifest says the same within a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, Self

import av
import av.error
from av.stream import Disposition

from ingot_server.probe.plausibility import Allowance, Implausible
from ingot_server.probe.probe_main import OPTIONS
from ingot_server.section.remote_file import NotIndexed

_READ_BYTES: Final = 32 << 10
_GENERATE_TIMES: Final = 1  # AVFMT_FLAG_GENPTS: PyAV sets it, and it may hold all packets in memory
_MICROSECONDS: Final = 1_000_000
# Clocks that differ by more are not the same.
_CLOCK_AGREEMENT: Final = Fraction(1)
# An index says in these where each key frame is, so what is before need not be read.
_INDEXED: Final = ("mov,", "matroska,")


class Uncuttable(Exception):
    """A file cannot be read as media, or no container can hold its streams."""


@dataclass(frozen=True, slots=True)
class Input:
    """A file of the media, which may have only a stretch of it."""

    file: Any
    """Readable and seekable, without a name that FFmpeg could see."""
    begins_at: float = 0.0
    """Where the file begins in the media, in seconds."""
    clock: float | None = None
    """The timestamp of the beginning of the media, in seconds. None: as `begins_at` has it."""
    needs_index: bool = False
    """Whether it is refused as NotIndexed if an index does not say where its packets are."""
    shares_clock: bool = True
    """Whether its timestamps may be on the clock of the other inputs."""
    language: str = ""
    """The language of the audio, if the file is audio alone and does not say it."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet of a stream. Times are seconds."""

    time: Fraction
    """When it is shown, on the clock of the media."""
    decoding_time: Fraction
    length: Fraction
    stream: Any
    packet: Any


@dataclass(eq=False)
class Tracks:
    """The audio and video of one input, between `__enter__` and `__exit__`."""

    given: Input
    leading_clock: Fraction | None
    audio_only: bool
    container: Any = None
    streams: list[Any] = field(default_factory=list)
    video: Any = None
    clock: Fraction = Fraction(0)
    """The timestamp of the beginning of the media."""
    _demuxed: Iterator[Any] | None = None
    _allowance: Allowance = field(init=False)

    def __enter__(self) -> Self:
        try:
            self.container = av.open(self.given.file, "r", options=OPTIONS, buffer_size=_READ_BYTES)
        except (av.error.FFmpegError, ValueError) as error:
            raise Uncuttable("The file cannot be read as audio or video.") from error
        if self.given.needs_index and not self.is_indexed:
            self.container.close()
            raise NotIndexed("The file has no index that says where its packets are.")
        self._allowance = Allowance.of(self.given.file)
        try:
            self._allowance.check_announced(self.container)
        except Implausible as error:
            self.container.close()
            raise Uncuttable(str(error)) from error
        self.container.flags &= ~_GENERATE_TIMES
        found = self.container.streams
        pictures = [each for each in found.video if not _is_cover(each)]
        self.video = pictures[0] if pictures and not self.audio_only else None
        self.streams = [*([] if self.video is None else [self.video]), *found.audio]
        # Segments are divided at key frames; audio next to these may begin much earlier.
        self.clock = self._clock((pictures or self.streams)[:1])
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @property
    def is_whole(self) -> bool:
        """Whether the file has the media from its beginning."""
        return self.given.begins_at <= 0

    @property
    def is_indexed(self) -> bool:
        """Whether the file can be read from a moment on."""
        return self.is_whole and self.container.format.name.startswith(_INDEXED)

    @property
    def indexed_seconds(self) -> float | None:
        """The length according to the index of the file; None if it has none."""
        if not self.is_indexed or not self.container.duration:
            return None
        return float(Fraction(self.container.duration, _MICROSECONDS))

    def seek(self, moment: Fraction) -> None:
        """Go on with the last key frame at or before a moment of the media, if there is an index.

        Otherwise the file is read from where it is.
        """
        if not self.is_indexed:
            return
        stream = self.streams[0]
        try:
            self.container.seek(round((moment + self.clock) / stream.time_base), stream=stream)
        except av.error.FFmpegError:
            self.container.seek(0)
        self._demuxed = None

    def packets(self) -> Iterator[Packet]:
        """Yield the packets from here on. Raises Uncuttable."""
        if self._demuxed is None:
            self._demuxed = self.container.demux(self.streams)
        while True:
            try:
                packet = next(self._demuxed, None)
                if packet is not None:
                    self._allowance.take(packet.size)
            except Implausible as error:
                raise Uncuttable(str(error)) from error
            except av.error.FFmpegError as error:
                raise Uncuttable(f"Reading the file stops with an error: {error}") from error
            if packet is None:
                return
            if packet.dts is None and packet.pts is None:
                continue
            unit = packet.time_base
            packet.pts = packet.dts if packet.pts is None else packet.pts
            packet.dts = packet.pts if packet.dts is None else packet.dts
            yield Packet(
                packet.pts * unit - self.clock,
                packet.dts * unit - self.clock,
                (packet.duration or 0) * unit,
                packet.stream,
                packet,
            )

    def _clock(self, leading: Sequence[Any]) -> Fraction:
        first = Fraction(self.container.start_time or 0, _MICROSECONDS)
        for stream in leading:
            if not self.is_whole and stream.start_time is not None:
                first = stream.start_time * stream.time_base
        found = first - fraction(self.given.begins_at)
        said = None if self.given.clock is None else fraction(self.given.clock)
        for known in (said, self.leading_clock):
            if known is not None and abs(known - found) <= _CLOCK_AGREEMENT:
                return known
        return found


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def fraction(seconds: float) -> Fraction:
    """Return seconds as a fraction, exact to a microsecond."""
    return Fraction(seconds).limit_denominator(_MICROSECONDS)
