"""Joins the parts of a track, each with a clock of its own, into one file. Nothing is encoded.

Each part begins where the manifest says that the one before ends, as long as the packets agree. So
audio and video that are tracks of their own stay together however many parts they have. Audio that
overlaps with the part before is dropped, as players do.

H.264 and HEVC whose parameters change from part to part get them within the stream (`avc3`, `hev1`:
ISO/IEC 14496-15, section 5.4.2), which players of MP4 support. Other changes cannot be joined.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
from av.bitstream import BitStreamFilterContext

from ingot_server.extractor.presentation import Part, Unjoinable

# What segments of HLS and DASH are.
_FORMATS: Final = "aac,ac3,eac3,flac,matroska,mov,mp3,mpegts,ogg,webm"
_SAFE: Final = {"protocol_whitelist": "none", "format_whitelist": _FORMATS}
_GENERATE_TIMES: Final = 1  # AVFMT_FLAG_GENPTS: PyAV sets it, and it may hold all packets in memory
_MICROSECONDS: Final = 1_000_000
# Where the manifest and the packets differ by more, the packets are right.
_AGREEMENT: Final = Fraction(1, 10)
# A manifest that gives another beginning than the packets by more than this is wrong.
_CLOCK_AGREEMENT: Final = Fraction(1)
_STEP: Final = Fraction(1, 1000)
# The bitstream filter that puts a codec's parameters into the stream, and what MP4 calls that.
_IN_STREAM: Final = {
    "h264": ("h264_mp4toannexb", "avc3"),
    "hevc": ("hevc_mp4toannexb", "hev1"),
}
# Codecs whose parameters are repeated in the stream anyway, or do not matter to the decoder.
_SELF_CONTAINED: Final = ("ac3", "av1", "eac3", "mp3", "opus", "vp8", "vp9")


@dataclass(frozen=True, slots=True)
class _Look:
    """What has to be the same in all parts."""

    codec: str
    measure: str
    """`320x180`, or `44100 Hz in 2 channels`; empty if it is unknown."""
    parameters: bytes

    @classmethod
    def of(cls, stream: Any) -> _Look:
        codec = stream.codec_context
        if stream.type == "video":
            measure = f"{codec.width}x{codec.height}" if codec.width else ""
        else:
            channels = codec.layout.nb_channels
            measure = f"{codec.sample_rate} Hz in {channels} channels" if codec.sample_rate else ""
        return cls(codec.name, measure, bytes(codec.extradata or b""))

    def can_follow(self, before: _Look) -> bool:
        """Return whether one stream can hold both."""
        alike = self.codec == before.codec
        if self.measure and before.measure:
            alike = alike and self.measure == before.measure
        if self.codec in _IN_STREAM or self.codec in _SELF_CONTAINED:
            return alike
        # The first two bytes of AAC's parameters say profile, rate and channels.
        end = 2 if self.codec == "aac" else None
        one, other = self.parameters[:end], before.parameters[:end]
        return alike and (one == other or not (one and other))

    def __str__(self) -> str:
        return f"{self.codec} {self.measure}".strip()


class _Slice(io.RawIOBase):
    """A stretch of a file, as FFmpeg gets it: without a name."""

    def __init__(self, path: str, begin: int, size: int) -> None:
        self._file = Path(path).open("rb")  # noqa: SIM115 - `close` closes it
        self._begin, self._size, self._at = begin, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        self._file.seek(self._begin + self._at)
        content = self._file.read(left if size < 0 else min(size, left))
        self._at += len(content)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()


class _Output:
    """One stream of the joined file."""

    def __init__(self, container: Any, source: Any, *, in_stream: bool) -> None:
        self.stream = container.add_stream_from_template(source)
        self.is_audio = source.type == "audio"
        self._filter, tag = _IN_STREAM.get(source.codec_context.name, ("", ""))
        if not in_stream:
            self._filter = ""
        elif self._filter and container.format.name == "mp4":
            # This also gives the stream its parameters in the form that the filter writes.
            BitStreamFilterContext(self._filter, source, self.stream)
            self.stream.codec_context.codec_tag = tag
        self.end = Fraction(0)
        self._last = Fraction(-(10**9))

    def filtered(self, source: Any) -> Any:
        """Return a function from a packet to those that are written."""
        if not self._filter:
            return lambda packet: [packet]
        return BitStreamFilterContext(self._filter, source).filter

    def write(self, container: Any, packet: Any) -> None:
        unit = packet.time_base
        begin, length = packet.pts * unit, (packet.duration or 0) * unit
        if self.is_audio and begin < self.end - length / 2:
            return
        if packet.dts * unit <= self._last:
            packet.dts = -(-(self._last + _STEP) // unit)
            packet.pts = max(packet.pts, packet.dts)
        self._last = packet.dts * unit
        self.end = max(self.end, packet.pts * unit + length)
        packet.stream = self.stream
        container.mux(packet)


def join(path: str, parts: Sequence[Part], sizes: Sequence[int], *, begins_at: float = 0.0) -> None:
    """Replace the file at `path`, in which each part has one of `sizes`, by the joined one.

    Its first timestamp is `begins_at` seconds. Raises Unjoinable.
    """
    begins = [sum(sizes[:number]) for number in range(len(sizes))]
    slices = [
        (part, (path, begin, size)) for part, begin, size in zip(parts, begins, sizes, strict=True)
    ]
    looks = _looks([place for _, place in slices if place[2]])
    in_stream = {
        kind: any(each.parameters != found[0].parameters for each in found)
        for kind, found in looks.items()
    }
    target = f"{path}.joined"
    kind = "webm" if path.endswith(".webm") else "mp4"
    with av.open(target, "w", format=kind) as output:
        _write(output, slices, in_stream, Fraction(begins_at).limit_denominator(_MICROSECONDS))
    Path(target).replace(path)


def _looks(places: Sequence[tuple[str, int, int]]) -> dict[str, list[_Look]]:
    """Return what each part has, by kind of stream. Raises Unjoinable."""
    looks: dict[str, list[_Look]] = {}
    for number, place in enumerate(places, 1):
        with _Slice(*place) as file, _opened(file, number) as source:
            for stream in _streams(source):
                look = _Look.of(stream)
                known = looks.setdefault(stream.type, [])
                if known and not look.can_follow(known[0]):
                    raise Unjoinable(
                        f"Part {number} of the presentation has {stream.type} in {look}, and those "
                        f"before it in {known[0]}. They cannot be one file without encoding them "
                        "again."
                    )
                known.append(look)
    return looks


def _opened(file: _Slice, number: int) -> Any:
    try:
        source = av.open(file, "r", options=_SAFE)
    except (av.error.FFmpegError, ValueError) as error:
        raise Unjoinable(f"Part {number} of the presentation cannot be read as media.") from error
    source.flags &= ~_GENERATE_TIMES
    return source


def _streams(source: Any) -> list[Any]:
    """Return the first stream of video and that of audio, those that there are."""
    return [*source.streams.video[:1], *source.streams.audio[:1]]


def _write(
    output: Any,
    slices: Sequence[tuple[Part, tuple[str, int, int]]],
    in_stream: dict[str, bool],
    position: Fraction,
) -> None:
    outputs: dict[str, _Output] = {}
    # All streams have to be known before the first packet is written.
    for number, (_, place) in enumerate(slices, 1):
        if place[2] and len(outputs) < len(in_stream):
            with _Slice(*place) as file, _opened(file, number) as source:
                for stream in _streams(source):
                    if stream.type not in outputs:
                        outputs[stream.type] = _Output(
                            output, stream, in_stream=in_stream[stream.type]
                        )
    for number, (part, place) in enumerate(slices, 1):
        announced = position + Fraction(part.seconds).limit_denominator(_MICROSECONDS)
        if not part.fragments:
            position = announced
            continue
        with _Slice(*place) as file, _opened(file, number) as source:
            for kind, packet in _packets(source, outputs, part, position):
                outputs[kind].write(output, packet)
        end = max(each.end for each in outputs.values())
        position = announced if abs(announced - end) <= _AGREEMENT else end


def _packets(
    source: Any, outputs: dict[str, _Output], part: Part, position: Fraction
) -> Iterator[tuple[str, Any]]:
    """Yield the packets of a part, moved so that it begins at `position` seconds."""
    streams = _streams(source)
    filters = {stream.type: outputs[stream.type].filtered(stream) for stream in streams}
    first = Fraction(source.start_time or 0, _MICROSECONDS)
    begin = Fraction(part.begins_at or 0).limit_denominator(_MICROSECONDS)
    if part.begins_at is None or abs(begin - first) > _CLOCK_AGREEMENT:
        begin = first
    for packet in source.demux(streams):
        unit = packet.time_base
        if packet.dts is None and packet.pts is None:
            continue
        kind = packet.stream.type
        shift = round((position - begin) / unit)
        packet.pts = (packet.dts if packet.pts is None else packet.pts) + shift
        packet.dts = packet.pts if packet.dts is None else packet.dts + shift
        for each in filters[kind](packet):
            each.time_base = unit
            yield kind, each
