"""The program that opens a file nobody trusts: one process for each file (see `probe.py`).

    request   {"path": ..., "whole": true}; false: a file that still grows, of which only the head
              is read, and nothing is checked
    answer    {"format": ..., "duration": ..., "streams": [...], ...}: `report` says what is in it
    or        {"reason": "NOT_MEDIA" | "TRUNCATED" | "INTERNAL", "message": ...}

FFmpeg gets an open file object without a name and no protocol at all, so that nothing the file says
can make it open anything; and only demuxers of real containers, because it would take text,
subtitles and pictures for video. Runs alone, as `python -I probe_main.py`, with nothing imported
but PyAV and the standard library (60 ms), before it reads its request.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import sys
from collections import deque
from typing import Any, Final

import av
import av.error
import av.logging
from av.audio.codeccontext import AudioCodecContext
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from ingot_server.probe import containers
from ingot_server.probe.packets import HEADERLESS, Reading, Track, ratio, read

FORMATS: Final = (
    "3gp,aac,ac3,aea,aiff,amr,ape,asf,asf_o,au,avi,caf,dhav,dsf,dts,dtshd,dv,eac3,flac,flv,gxf,"
    "iff,ivf,kux,live_flv,loas,matroska,mlp,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,mxf,nsv,nut,nuv,ogg,"
    "oma,pva,qcp,rm,shn,tak,truehd,tta,ty,voc,w64,wav,webm,wtv,wv,xwma"
)
_READ_BYTES: Final = 128 << 10
_MAX_STREAMS: Final = 128
_MAX_CHAPTERS: Final = 1000
_MAX_TAGS: Final = 128
_MAX_TEXT: Final = 4096
_MAX_KEY: Final = 128
_MAX_SECONDS: Final = 100 * 365 * 86400.0
_NEAR_SECONDS: Final = 0.25
_NEAR_SHARE: Final = 0.01
_GENERATE_TIMES: Final = (
    1  # AVFMT_FLAG_GENPTS: PyAV sets it, and it may hold a whole file in memory.
)
# PyAV 19 always hands on what is no UTF-8 as surrogates; before, it is asked to. See `_text`.
_AS_BYTES: Final[dict[str, Any]] = (
    {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
)
_MICROSECONDS: Final = 1_000_000
_SUPPLEMENTARY: Final = (
    Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.descriptions
)


class Refused(Exception):
    """The file is not to be stored."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Source:
    """The file as FFmpeg gets it: without a name, and with answers for impossible positions.

    A name's ending could choose a demuxer, and PyAV would raise what `seek` raises much later.
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


class Journal(logging.Handler):
    """What FFmpeg logged, the last 1000 lines, and which of the telling lines were among them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: deque[str] = deque(maxlen=1000)
        self.cut_off = ""
        self.estimated = False
        self.guessed = False

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage().strip()
        self.lines.append(line)
        if "File ended prematurely" in line or "partial file" in line:
            self.cut_off = self.cut_off or line
        self.estimated = self.estimated or "Estimating duration from bitrate" in line
        self.guessed = self.guessed or "low score of 1," in line


def main() -> None:
    """Answers one request, then ends."""
    journal = Journal()
    logging.getLogger("libav").addHandler(journal)
    logging.getLogger("libav").propagate = False
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    request = json.loads(sys.stdin.buffer.readline())
    try:
        answer = probe(request["path"], journal, whole=request["whole"])
    except Refused as refused:
        answer = {"reason": refused.reason, "message": str(refused)}
    except MemoryError:
        answer = {"reason": "NOT_MEDIA", "message": "Reading the file takes too much memory."}
    except OSError as error:
        answer = {"reason": "INTERNAL", "message": f"The scratch file is gone: {error.strerror}."}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    os._exit(0)  # Nothing here is worth the time of taking it down in order.


def probe(path: str, journal: Journal, *, whole: bool) -> dict[str, Any]:
    """Opens the file, reads it to its end, and answers with `report`; raises Refused."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with io.FileIO(descriptor) as file:
        head = file.read(4096)
        if not head:
            raise Refused("NOT_MEDIA", "The file is empty.")
        if resembled := containers.resemblance(head):
            raise Refused("NOT_MEDIA", f"The file is {resembled}, no audio or video.")
        structure = containers.examine(file)
        if structure.problem and whole:
            raise cut_off(structure.problem)
        ends_in_zeros = containers.ends_in_zeros(file)
        file.seek(0)
        try:
            container = av.open(
                Source(file),
                "r",
                options={"protocol_whitelist": "none", "format_whitelist": FORMATS},
                buffer_size=_READ_BYTES,
                **_AS_BYTES,
            )
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError) as error:
            what = f"begins like {structure.kind} but" if structure.kind else "is in no format that"
            raise Refused("NOT_MEDIA", f"The file {what} can be read as audio or video.") from error
        with container:
            if whole:
                reading = check(container, journal, structure.kind, ends_in_zeros=ends_in_zeros)
            else:
                reading = Reading([Track(stream, 0) for stream in container.streams])
            return report(container, reading, journal, head)


def check(
    container: InputContainer, journal: Journal, kind: str, *, ends_in_zeros: bool
) -> Reading:
    """Reads all packets; raises Refused unless the file is media and all of it is there."""
    container.flags &= ~_GENERATE_TIMES
    if journal.guessed:
        raise Refused("NOT_MEDIA", "The file is in no format that can be read as audio or video.")
    found = Reading([Track(stream, 0) for stream in container.streams])
    if not found.media:
        kinds = sorted({track.stream.type for track in found.tracks})
        held = f"only {', '.join(kinds)}" if kinds else "no stream"
        raise Refused("NOT_MEDIA", f"The file holds no audio or video, {held}.")
    reading = read(container)
    problem = journal.cut_off or reading.damage(
        indexed=container.format.name.startswith("mov,"),
        headerless=container.format.name in HEADERLESS,
    )
    uncompressed = any(track.is_uncompressed for track in reading.media)
    if not problem and ends_in_zeros and kind != "mp4" and not uncompressed:
        problem = "it ends in zeros"
    if not problem and container.duration and not journal.estimated:
        problem = shortfall(container, reading)
    if problem:
        raise cut_off(problem)
    return reading


def shortfall(container: InputContainer, reading: Reading) -> str:
    """How far the last packet is from the announced end, empty when near enough.

    A quarter second or 1 % is: the worst healthy file was 0.05 s off. So is the longest pause
    between packets, for the last picture of a slide show stays as long as the others did.
    """
    announced = (container.duration or 0) / _MICROSECONDS
    start = (container.start_time or 0) / _MICROSECONDS
    # Some Matroska writers count the duration from zero, others from the first packet.
    end = announced + (0 if container.format.name.startswith("matroska") else start)
    reached = reading.end or 0.0
    if end - reached <= max(_NEAR_SECONDS, announced * _NEAR_SHARE, reading.gap):
        return ""
    return f"it should play until {end:.2f} s, but its last packet ends at {reached:.2f} s"


def cut_off(problem: str) -> Refused:
    """The refusal of a file whose end is missing."""
    return Refused("TRUNCATED", f"The file is incomplete: {problem}.")


def report(
    container: InputContainer, reading: Reading, journal: Journal, head: bytes
) -> dict[str, Any]:
    """What is in the file; times in microseconds, None for what is not known."""
    measured = _microseconds(reading.length())
    announced = None if journal.estimated else _microseconds((container.duration or 0) / 1e6)
    duration = announced or measured
    if not duration:
        raise Refused("NOT_MEDIA", "The file holds no audio or video that lasts any time.")
    tags = _tags(container.metadata)
    if container.format.name == "ogg":
        # Ogg has no tags of its own, its streams have.
        tags = _tags(reading.media[0].stream.metadata) | tags
    return {
        "format": container.format.name,
        "webm": containers.is_webm(head),
        "brand": _text(container.metadata.get("major_brand", "")),
        "duration": duration,
        "tags": tags,
        "chapters": [
            {
                "title": _text(chapter["metadata"].get("title", "")),
                "start": _microseconds(chapter["start"] * ratio(chapter["time_base"])) or 0,
                "end": _microseconds(chapter["end"] * ratio(chapter["time_base"])) or 0,
            }
            for chapter in container.chapters()[:_MAX_CHAPTERS]
        ],
        "streams": [
            _stream(track, estimated=journal.estimated) for track in reading.media[:_MAX_STREAMS]
        ],
    }


def _stream(track: Track, *, estimated: bool) -> dict[str, Any]:
    stream, context = track.stream, track.stream.codec_context
    seconds = track.end - track.start if track.start is not None and track.end is not None else 0.0
    announced = (stream.duration or 0) * track.scale
    duration = seconds if estimated else announced or _tagged(stream.metadata.get("DURATION", ""))
    bit_rate = getattr(context, "bit_rate", 0) or (
        round(track.size_bytes * 8 / seconds) if seconds > 0 else 0
    )
    language = _text(stream.metadata.get("language", ""))
    answer = {
        "type": stream.type,
        "index": stream.index,
        "codec": track.codec,
        "profile": stream.profile or "",
        "language": "" if language == "und" else language,
        "bit_rate": bit_rate,
        "duration": _microseconds(duration),
    }
    if isinstance(stream, VideoStream):
        answer |= {
            "width": getattr(context, "width", 0),
            "height": getattr(context, "height", 0),
            "pixel_format": getattr(context, "pix_fmt", "") or "",
            "frame_rate": ratio(stream.average_rate),
            "rotation": track.rotation,
        }
    else:
        answer |= {
            "sample_rate": getattr(context, "sample_rate", 0),
            "channels": context.layout.nb_channels if isinstance(context, AudioCodecContext) else 0,
            "preferred": bool(stream.disposition & Disposition.default),
            "supplementary": bool(stream.disposition & _SUPPLEMENTARY)
            or "commentary" in stream.metadata.get("title", "").lower(),
        }
    return answer


def _tags(metadata: dict[str, str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for key, value in metadata.items():
        if len(tags) < _MAX_TAGS and key:
            tags.setdefault(_text(key.lower())[:_MAX_KEY], _text(value))
    return tags


def _text(text: str) -> str:
    """At most 4096 characters, with a mark for what the file has that is no UTF-8."""
    return text[:_MAX_TEXT].encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _tagged(text: str) -> float:
    """Seconds of a tag `00:01:02.500000000`, as Matroska streams have; 0 when it is none."""
    match = re.fullmatch(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d{1,9})?)", text)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else 0.0


def _microseconds(seconds: float) -> int | None:
    """None for nothing, for less, and for what is not finite; at most 100 years."""
    if not 0 < seconds < float("inf"):
        return None
    return round(min(seconds, _MAX_SECONDS) * _MICROSECONDS)


if __name__ == "__main__":
    main()
