"""Cuts a section out of files, without encoding. It runs in child processes.

With video, the result begins at the last key frame at or before the start, and its first frame has
the time 0; audio alone begins with the packet that holds the start. Frames after the end are kept
only if earlier ones need them to be decoded.

An exact section has the time 0 at its start. What is before, and after its end, is in the file as
well, and hidden by its edit lists.
"""

from __future__ import annotations

import contextlib
import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.error

from ingot_server.section.edit_lists import end_tracks
from ingot_server.section.output_container import container_of, fits_into_mp4
from ingot_server.section.tracks import Input, Packet, Tracks, Uncuttable, fraction

# Timestamps are rounded: a frame this much later is still at the same moment.
_ROUNDING: Final = Fraction(5, 1000)
# Containers that a section of audio keeps, by FFmpeg's name.
_KEPT: Final = {"mp3": "mp3", "wav": "wav"}
# Containers of codecs that no other one holds.
_OF_ITS_OWN: Final = {"flv": "flv", "asf": "asf"}
_AUDIO_NAMES: Final = {"mp4": "m4a", "mkv": "mka"}
_MUXERS: Final = {"mkv": "matroska"}
# Tags that describe the file that is cut, not the media.
_CONTAINER_TAGS: Final = frozenset(
    {"major_brand", "minor_version", "compatible_brands", "encoder", "creation_time", "duration"}
)


class OutsideMedia(Exception):
    """The media ends before the section begins. The message says how long it is."""


class NoKeyFrame(Exception):
    """What is there of the media has no key frame at or before the start of the section."""


class NoExactCut(Exception):
    """No container that can hold the video can begin between key frames."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A file with a section."""

    path: str
    start_seconds: float
    """Where the file begins in the media."""
    whole_seconds: float | None
    """How long the media is; None if that is not known."""


def cut(
    inputs: Sequence[Input],
    directory: str,
    start: float,
    end: float,
    *,
    exact: bool = False,
    audio_only: bool = False,
    whole_seconds: float | None = None,
) -> Cut:
    """Write what lies between `start` and `end` seconds into a file in `directory`.

    `end` may be infinite. `whole_seconds` is how long the media is, if its manifest says that.
    Raises OutsideMedia, NoKeyFrame, NoExactCut or Uncuttable.
    """
    with contextlib.ExitStack() as opened:
        sources: list[Tracks] = []
        for each in inputs:
            shares = bool(sources) and sources[0].given.shares_clock and each.shares_clock
            clock = sources[0].clock if shares else None
            sources.append(opened.enter_context(Tracks(each, clock, audio_only=audio_only)))
        if not any(source.streams for source in sources):
            raise Uncuttable("The file contains no audio or video.")
        leader = next((each for each in sources if each.video is not None), sources[0])
        whole = whole_seconds or leader.indexed_seconds
        begin, head = _find_start(leader, fraction(start))
        stop = end if math.isinf(end) else fraction(end)
        exact = exact and _can_be_exact(sources)
        zero = max(begin, fraction(start)) if exact else begin
        for source in sources:
            if source is not leader:
                source.seek(begin)
        packets = [
            _within(source, head if source is leader else [], begin, zero, stop)
            for source in sources
        ]
        path = _write(sources, packets, zero, stop, directory, exact=exact)
    return Cut(path, float(zero), whole)


def _can_be_exact(sources: Sequence[Tracks]) -> bool:
    """Return whether the section becomes an MP4. Raises NoExactCut for video that cannot."""
    has_video = any(source.video is not None for source in sources)
    if fits_into_mp4([_codec(stream) for source in sources for stream in source.streams]):
        return has_video or sources[0].container.format.name not in _KEPT
    if has_video:
        raise NoExactCut(
            "The section cannot be cut exactly, because MP4 cannot hold its streams. Ask for it "
            "without exact_offsets, and convert that to `mp4`"
        )
    return False


def _find_start(source: Tracks, start: Fraction) -> tuple[Fraction, list[Packet]]:
    """Return where the section begins, and the packets from there on that were read to know it."""
    source.seek(start)
    begin: Fraction | None = None
    head: list[Packet] = []
    reached = Fraction(0)
    for each in source.packets():
        reached = max(reached, each.time + each.length)
        if source.video is None:
            if each.time + each.length > start:
                begin = each.time if begin is None else begin
                head.append(each)
                break
            continue
        is_start = each.stream is source.video and each.packet.is_keyframe
        if is_start and (each.time <= start + _ROUNDING or begin is None):
            begin = each.time
            head = [other for other in head if other.time + other.length > begin]
        head.append(each)
        is_after = each.stream is source.video and each.decoding_time > start + _ROUNDING
        if begin is not None and is_after:
            break
    if begin is None or reached <= start:
        raise OutsideMedia(
            f"The media lasts {float(reached):g} s, and the section begins at {float(start):g} s"
        )
    if begin > start + _ROUNDING and not source.is_whole:
        raise NoKeyFrame(f"The first key frame is at {float(begin):g} s")
    return begin, head


def _within(
    source: Tracks,
    head: Sequence[Packet],
    begin: Fraction,
    zero: Fraction,
    end: Fraction | float,
) -> Iterator[Packet]:
    """Yield the packets of a source that belong to the section, which is shown from `zero` on.

    Video is from `begin` on, at a key frame, and audio with the packet that holds a later `zero`.
    """
    going = set(source.streams)
    held: list[Packet] = []
    for each in _chained(head, source.packets):
        is_video = each.stream is source.video
        is_before = not is_video and zero > begin and each.time + each.length <= zero
        if each.stream not in going or each.time < begin or is_before:
            continue
        if (each.decoding_time if is_video else each.time) >= end:
            going.discard(each.stream)
            if not going:
                return
        elif is_video and each.time >= end:
            # Only if an earlier frame follows, this one is needed to decode it.
            held.append(each)
        else:
            if is_video:
                yield from held
                held.clear()
            yield each


def _chained(head: Sequence[Packet], packets: Callable[[], Iterator[Packet]]) -> Iterator[Packet]:
    yield from head
    yield from packets()


def _write(
    sources: Sequence[Tracks],
    packets: Sequence[Iterator[Packet]],
    zero: Fraction,
    end: Fraction | float,
    directory: str,
    *,
    exact: bool,
) -> str:
    streams = [stream for source in sources for stream in source.streams]
    codecs = [_codec(stream) for stream in streams]
    extension = "mp4" if exact else _extension(sources, codecs)
    has_video = any(source.video is not None for source in sources)
    name = extension if has_video else _AUDIO_NAMES.get(extension, extension)
    path = str(Path(directory, f"section.{name}"))
    options = {"movflags": "+faststart"} if extension == "mp4" else {}
    try:
        with av.open(
            path, "w", format=_MUXERS.get(extension, extension), options=options
        ) as output:
            outputs = {id(stream): output.add_stream_from_template(stream) for stream in streams}
            for source in sources:
                _copy_languages(source, outputs)
            if len(sources) == 1:
                _describe(output, sources[0], zero, end)
            latest: dict[int, int] = {}
            for each in heapq.merge(*packets, key=lambda one: one.decoding_time):
                _mux(output, outputs[id(each.stream)], each, _shift(each, sources, zero), latest)
    except (av.error.FFmpegError, ValueError) as error:
        raise Uncuttable(f"No file can hold the section: {error}") from error
    if exact and not math.isinf(end):
        end_tracks(path, float(end - zero))
    return path


def _codec(stream: Any) -> str:
    return str(stream.codec_context.codec.canonical_name)


def _extension(sources: Sequence[Tracks], codecs: Sequence[str]) -> str:
    """Return the extension of the container for `codecs`, for audio that of video."""
    chosen = container_of(codecs)
    if len(sources) > 1:
        return chosen
    own = sources[0].container.format.name
    if sources[0].video is None and own in _KEPT:
        return _KEPT[own]
    return _OF_ITS_OWN.get(own, chosen) if chosen == "mkv" else chosen


def _shift(each: Packet, sources: Sequence[Tracks], zero: Fraction) -> int:
    clock = next(source.clock for source in sources if each.stream in source.streams)
    shift: int = round((clock + zero) / each.packet.time_base)
    return shift


def _mux(output: Any, stream: Any, each: Packet, shift: int, latest: dict[int, int]) -> None:
    packet = each.packet
    packet.pts -= shift
    packet.dts = max(packet.dts - shift, latest.get(id(stream), packet.dts - shift - 1) + 1)
    packet.pts = max(packet.pts, packet.dts)
    latest[id(stream)] = packet.dts
    packet.stream = stream
    output.mux(packet)


def _copy_languages(source: Tracks, outputs: dict[int, Any]) -> None:
    for stream in source.streams:
        language = stream.metadata.get("language") or source.given.language
        if language:
            outputs[id(stream)].metadata["language"] = language


def _describe(output: Any, source: Tracks, zero: Fraction, end: Fraction | float) -> None:
    """Carry over the tags and the chapters of a file, on the clock of the section."""
    tags = source.container.metadata
    output.metadata.update({key: tags[key] for key in tags if key not in _CONTAINER_TAGS})
    chapters = []
    for chapter in source.container.chapters():
        unit = chapter["time_base"]
        first, last = chapter["start"] * unit - source.clock, chapter["end"] * unit - source.clock
        if last > zero and first < end:
            first, last = max(first, zero) - zero, min(last, end) - zero
            chapters.append({**chapter, "start": round(first / unit), "end": round(last / unit)})
    output.set_chapters(chapters)
