"""The program that opens one untrusted file (see `prober.py`).

    request    {"path": ..., "whole": true, "delivered": ...}; "whole" is false for a growing file:
               only its head is read, and nothing is checked
    response   {"format": ..., "duration": ..., "streams": [...], ...}, see `report`
    or         {"reason": "NOT_MEDIA" | "TRUNCATED" | "INTERNAL", "message": ...}

FFmpeg gets an open file object without a name, and no protocol, so nothing in the file can make it
open anything else. It gets only the demuxers of real containers, because it would take text,
subtitles and images for video. The program imports only PyAV, the standard library, its own package
and what confines it to the file that it has opened by then (process/confinement.py). It is forked
(process/fork_server.py), or runs alone, as `python -I probe_main.py`.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
from collections import deque
from pathlib import Path
from typing import Any, Final

import av
import av.error
import av.logging
from av.container import InputContainer

from ingot_server.probe import containers
from ingot_server.probe.packets import HEADERLESS, PacketReport, Track, ratio, read_packets
from ingot_server.probe.plausibility import MAX_STREAMS, STREAMS_EXCEEDED, Allowance, Implausible
from ingot_server.probe.streams import MICROSECONDS, describe, length, microseconds, near, text
from ingot_server.process.confinement import PreparedConfinement

FORMATS: Final = (
    "3gp,aac,ac3,aea,aiff,amr,ape,asf,asf_o,au,avi,caf,dhav,dsf,dts,dtshd,dv,eac3,flac,flv,gxf,"
    "iff,ivf,kux,live_flv,loas,matroska,mlp,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,mxf,nsv,nut,nuv,ogg,"
    "oma,pva,qcp,rm,shn,tak,truehd,tta,ty,voc,w64,wav,webm,wtv,wv,xwma"
)
OPTIONS: Final = {
    "protocol_whitelist": "none",
    "format_whitelist": FORMATS,
    "max_streams": str(MAX_STREAMS),
}
"""What FFmpeg may open of a file that comes from outside."""
_READ_BYTES: Final = 128 << 10
# H.264 and AAC in MP4, which most files are: two frames that `ffmpeg` has made of its `testsrc2`.
_SAMPLE: Final = Path(__file__).with_name("sample.mp4")
_MAX_STREAMS: Final = 128
_MAX_CHAPTERS: Final = 1000
_MAX_TAGS: Final = 128
_MAX_KEY: Final = 128
_GENERATE_TIMES: Final = (
    1  # AVFMT_FLAG_GENPTS: PyAV sets it, and it may hold a whole file in memory.
)
# PyAV 19 always passes bytes that are not UTF-8 as surrogates; older ones need this. See `_text`.
_AS_BYTES: Final[dict[str, Any]] = (
    {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
)

_confinement: PreparedConfinement


class Refused(Exception):
    """The file must not be stored."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NamelessFile:
    """The file as FFmpeg gets it: without a name, and with an error code for a bad position.

    The extension of a name could choose a demuxer, and PyAV would raise what `seek` raises much
    later.
    """

    def __init__(self, file: io.FileIO) -> None:
        self.read = file.read
        self.tell = file.tell
        self._seek = file.seek

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -errno.EINVAL


class FfmpegLog(logging.Handler):
    """The last 1000 lines that FFmpeg logged, and what some of them say about the file."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: deque[str] = deque(maxlen=1000)
        self.cut_off = ""
        self.estimated = False
        self.guessed = False
        self.too_many_streams = False

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage().strip()
        self.lines.append(line)
        if "File ended prematurely" in line or "partial file" in line:
            self.cut_off = self.cut_off or line
        self.estimated = self.estimated or "Estimating duration from bitrate" in line
        self.guessed = self.guessed or "low score of 1," in line
        self.too_many_streams = self.too_many_streams or STREAMS_EXCEEDED in line


def prepare() -> None:
    """Do what every file needs, and read one file, because the first one takes longer."""
    global _confinement
    logging.getLogger("libav").propagate = False
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    _confinement = PreparedConfinement()
    with open_file(os.fspath(_SAMPLE)) as file:
        probe(file, FfmpegLog(), whole=True)


def serve() -> None:
    """Respond to one request, and end the process."""
    log = FfmpegLog()
    logging.getLogger("libav").addHandler(log)
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(0)
    request = json.loads(line)
    try:
        file = open_file(request["path"])
    except OSError as error:
        response = _unreadable(error)
    else:
        _confinement.enter()
        response = _respond(file, log, whole=request["whole"], delivered=request["delivered"])
    sys.stdout.write(json.dumps(response) + "\n")
    sys.stdout.flush()
    os._exit(0)  # Nothing here needs an orderly end, which would take time.


def _respond(file: io.FileIO, log: FfmpegLog, *, whole: bool, delivered: bool) -> dict[str, Any]:
    try:
        return probe(file, log, whole=whole, delivered=delivered)
    except Refused as refused:
        return {"reason": refused.reason, "message": str(refused)}
    except MemoryError:
        return {"reason": "NOT_MEDIA", "message": "Reading the file needs too much memory."}
    except OSError as error:
        return _unreadable(error)


def _unreadable(error: OSError) -> dict[str, Any]:
    return {"reason": "INTERNAL", "message": f"The scratch file is gone: {error.strerror}."}


def open_file(path: str) -> io.FileIO:
    """Open the file to probe. Raises OSError."""
    return io.FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))


def probe(
    file: io.FileIO, log: FfmpegLog, *, whole: bool, delivered: bool = False
) -> dict[str, Any]:
    """Read the file to its end and return its `report`. Raises Refused.

    `delivered`: the file has every byte that its source announced. Then a format that can be
    written without knowing the end may end anywhere.
    """
    head = file.read(4096)
    if not head:
        raise Refused("NOT_MEDIA", "The file is empty.")
    if resembled := containers.resemblance(head):
        raise Refused("NOT_MEDIA", f"The file is {resembled}, not audio or video.")
    structure = containers.examine(file)
    if structure.has_wrapped_sizes:
        raise Refused(
            "NOT_MEDIA",
            "The file has more than 4 GiB, which WAV cannot hold: its sizes have wrapped, so "
            "that players stop too early. Save it as RF64 or FLAC.",
        )
    if structure.problem and whole and not (delivered and structure.is_streamed):
        raise cut_off(structure.problem)
    ends_in_zeros = containers.ends_in_zeros(file)
    file.seek(0)
    try:
        container = av.open(
            NamelessFile(file),
            "r",
            options=OPTIONS,
            buffer_size=_READ_BYTES,
            **_AS_BYTES,
        )
    except MemoryError:
        if log.too_many_streams:
            raise too_many_streams() from None
        raise
    except (av.error.FFmpegError, ValueError) as error:
        begins = f"begins like {structure.kind}, but " if structure.kind else ""
        raise Refused("NOT_MEDIA", f"The file {begins}cannot be read as audio or video.") from error
    with container:
        if log.too_many_streams:
            raise too_many_streams()
        if whole:
            packets = check(
                container,
                log,
                structure,
                Allowance.of(file),
                ends_in_zeros=ends_in_zeros,
                delivered=delivered,
            )
        else:
            packets = PacketReport([Track(stream, 0) for stream in container.streams])
        return report(container, packets, log, head)


def check(
    container: InputContainer,
    log: FfmpegLog,
    structure: containers.Structure,
    allowance: Allowance,
    *,
    ends_in_zeros: bool,
    delivered: bool,
) -> PacketReport:
    """Read all packets. Raises Refused unless the file is media and complete."""
    container.flags &= ~_GENERATE_TIMES
    if log.guessed:
        raise Refused("NOT_MEDIA", "The file cannot be read as audio or video.")
    found = PacketReport([Track(stream, 0) for stream in container.streams])
    if not found.media:
        kinds = sorted({track.stream.type for track in found.tracks})
        held = f"only {', '.join(kinds)}" if kinds else "no stream"
        raise Refused("NOT_MEDIA", f"The file contains no audio or video, {held}.")
    try:
        allowance.check_announced(container)
        packets = read_packets(container, allowance)
    except Implausible as implausible:
        raise Refused("NOT_MEDIA", str(implausible)) from implausible
    if log.too_many_streams:  # A broadcast may name them anywhere.
        raise too_many_streams()
    headerless = container.format.name in HEADERLESS
    may_end_anywhere = structure.is_unsized or (delivered and (headerless or structure.is_streamed))
    problem = packets.error and f"reading stops with an error: {packets.error}"
    if not problem and not may_end_anywhere:
        problem = (
            log.cut_off
            or packets.damage(
                indexed=container.format.name.startswith("mov,"), headerless=headerless
            )
            or _ending_in_zeros(packets, structure, ends_in_zeros=ends_in_zeros)
            or ("" if log.estimated else shortfall(container, packets))
        )
    if problem:
        raise cut_off(problem)
    return packets


def _ending_in_zeros(
    packets: PacketReport, structure: containers.Structure, *, ends_in_zeros: bool
) -> str:
    uncompressed = any(track.is_uncompressed for track in packets.media)
    padded = structure.kind == "mp4" or uncompressed
    return "it ends in zeros" if ends_in_zeros and not padded else ""


def shortfall(container: InputContainer, packets: PacketReport) -> str:
    """Return how far the last packet is from the announced end; empty if it is near enough."""
    announced = (container.duration or 0) / MICROSECONDS
    if not announced or packets.jumped:
        return ""
    start = (container.start_time or 0) / MICROSECONDS
    # Some Matroska writers count the duration from zero, others from the first packet.
    end = announced + (0 if container.format.name.startswith("matroska") else start)
    reached = packets.end or 0.0
    if end - reached <= near(announced, packets.gap):
        return ""
    return f"it should play until {end:.2f} s, but its last packet ends at {reached:.2f} s"


def cut_off(problem: str) -> Refused:
    """Return the refusal of a file whose end is missing."""
    return Refused("TRUNCATED", f"The file is incomplete: {problem}.")


def too_many_streams() -> Refused:
    """Return the refusal of a file with more streams than are read."""
    return Refused("NOT_MEDIA", f"The file has more than {MAX_STREAMS} streams.")


def report(
    container: InputContainer, packets: PacketReport, log: FfmpegLog, head: bytes
) -> dict[str, Any]:
    """Return what is in the file. Times are microseconds; None means unknown."""
    announced = 0.0 if log.estimated else (container.duration or 0) / MICROSECONDS
    duration = microseconds(length(announced, packets.length(), packets.gap))
    if not duration:
        raise Refused("NOT_MEDIA", "The audio or video in the file has no duration.")
    tags = _tags(container.metadata)
    if container.format.name == "ogg":
        # Ogg itself has no tags; its streams have.
        tags = _tags(packets.media[0].stream.metadata) | tags
    return {
        "format": container.format.name,
        "webm": containers.is_webm(head),
        "brand": text(container.metadata.get("major_brand", "")),
        "duration": duration,
        "tags": tags,
        "chapters": [
            {
                "title": text(chapter["metadata"].get("title", "")),
                "start": microseconds(chapter["start"] * ratio(chapter["time_base"])) or 0,
                "end": microseconds(chapter["end"] * ratio(chapter["time_base"])) or 0,
            }
            for chapter in container.chapters()[:_MAX_CHAPTERS]
        ],
        "streams": [
            describe(track, packets.gap, estimated=log.estimated)
            for track in packets.media[:_MAX_STREAMS]
        ],
    }


def _tags(metadata: dict[str, str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for key, value in metadata.items():
        if len(tags) < _MAX_TAGS and key:
            tags.setdefault(text(key.lower())[:_MAX_KEY], text(value))
    return tags


if __name__ == "__main__":
    prepare()
    serve()
