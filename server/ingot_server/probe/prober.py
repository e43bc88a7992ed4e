"""Looks into a file: what media it is, and whether all of it is there.

Each file gets a process of its own (`probe_main.py`), because FFmpeg's demuxers read what
strangers wrote. What follows from the ways in which that process can end:

- it answers: a Media, or Failure NOT_MEDIA or TRUNCATED;
- it crashes, or needs more memory than it may have: NOT_MEDIA with what happened, for a file that
  does that is of no use to anybody;
- it takes longer than `probe_timeout`, or more CPU time: STAGE_TIMEOUT.

One process that has its imports done and waits for a file is kept ready while the prober is started
(33 MB). It hides the 90 ms that starting one takes (prewarmed.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import AudioStream, Chapter, Media, VideoStream
from ingot.v1.reason_pb2 import Reason
from ingot_server.config import Settings
from ingot_server.errors import PREFIX, Failure
from ingot_server.process.child import ChildError, ChildProcess, describe_exit
from ingot_server.process.limits import Limits
from ingot_server.process.prewarmed import PrewarmedProcess

logger = logging.getLogger(__name__)

MEMORY_BYTES: Final = 1 << 30
MAX_AT_ONCE: Final = 4

_PROGRAM: Final = str(Path(__file__).with_name("probe_main.py"))
_MP4: Final = "mov,mp4,m4a,3gp,3g2,mj2"
# FFmpeg's format to the media type with video and the one without: IANA's, or what browsers use.
_CONTENT_TYPES: Final = {
    _MP4: ("video/mp4", "audio/mp4"),
    "matroska,webm": ("video/x-matroska", "audio/x-matroska"),
    "aac": ("", "audio/aac"),
    "ac3": ("", "audio/ac3"),
    "aiff": ("", "audio/aiff"),
    "amr": ("", "audio/amr"),
    "asf": ("video/x-ms-asf", "audio/x-ms-wma"),
    "au": ("", "audio/basic"),
    "avi": ("video/x-msvideo", "audio/x-msvideo"),
    "caf": ("", "audio/x-caf"),
    "eac3": ("", "audio/eac3"),
    "flac": ("", "audio/flac"),
    "flv": ("video/x-flv", "audio/x-flv"),
    "mp3": ("", "audio/mpeg"),
    "mpeg": ("video/mpeg", "audio/mpeg"),
    "mpegts": ("video/mp2t", "audio/mp2t"),
    "mxf": ("application/mxf", "application/mxf"),
    "ogg": ("video/ogg", "audio/ogg"),
    "wav": ("", "audio/wav"),
}


class Prober:
    """Probes files, a few at a time; `start` and `close` frame its life.

    Works without `start` too, then nothing is kept ready.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(min(os.cpu_count() or 1, MAX_AT_ONCE))
        self._prewarmed = PrewarmedProcess(self._launch, purpose="probing")

    async def start(self) -> None:
        """Makes one process ready. Raises nothing when that cannot be done now."""
        await self._prewarmed.start()

    async def close(self) -> None:
        """Ends what is kept ready. Probes under way end with their own tasks."""
        await self._prewarmed.close()

    async def probe(self, path: Path) -> Media:
        """What the file at `path` is: everything a Media has that stands in the file itself.

        Filled are title, duration, video, audio, chapters, format_name, file_tags and
        blob.content_type; the streams' `url` is not. Safe to repeat and to cancel. Raises Failure
        NOT_MEDIA, TRUNCATED, TOO_LONG or STAGE_TIMEOUT; INTERNAL only when there is no such file.
        """
        return await self._media_of(path, whole=True)

    async def probe_head(self, path: Path) -> Media:
        """What the head of a file says that still grows: as `probe`, and nothing of it is checked.

        Raises Failure NOT_MEDIA also where it cannot be told yet.
        """
        return await self._media_of(path, whole=False)

    async def _media_of(self, path: Path, *, whole: bool) -> Media:
        async with self._slots:
            try:
                async with asyncio.timeout(self._settings.probe_timeout.total_seconds()):
                    answer = await self._ask(path, whole=whole)
            except TimeoutError as error:
                raise self._overdue() from error
            finally:
                self._prewarmed.prewarm_next()
        if "reason" in answer:
            raise Failure(Reason.Value(PREFIX + answer["reason"]), answer["message"])
        media = _media(answer)
        length, limit = media.duration.ToTimedelta(), self._settings.max_duration
        if length > limit:
            raise Failure(
                reason_pb2.REASON_TOO_LONG,
                f"The media lasts {length}, longer than the limit of {limit}.",
                metadata={"limit_seconds": f"{limit.total_seconds():g}"},
            )
        return media

    async def _ask(self, path: Path, *, whole: bool) -> dict[str, Any]:
        async with await self._prewarmed.take_process() as child:
            await child.send_message({"path": os.fspath(path), "whole": whole})
            try:
                answer = await child.receive_message()
            except ChildError as error:
                raise _unreadable(str(error)) from error
            if answer is not None:
                return answer
            code = await child.wait()
            if code == -signal.SIGXCPU:
                raise self._overdue()
            logger.warning(
                "probe of %s %s: %s", path.name, describe_exit(code), child.stderr[-2000:]
            )
            raise _unreadable(f"the process that read it was {describe_exit(code)}")

    async def _launch(self) -> ChildProcess:
        limits = Limits(
            memory_bytes=MEMORY_BYTES,
            cpu=self._settings.probe_timeout + timedelta(seconds=1),
        )
        return await ChildProcess.start(sys.executable, "-I", _PROGRAM, limits=limits)

    def _overdue(self) -> Failure:
        limit = self._settings.probe_timeout
        return Failure(
            reason_pb2.REASON_STAGE_TIMEOUT,
            f"Reading the file took longer than the limit of {limit.total_seconds():g} s.",
            metadata={"stage": "PROBING"},
        )


def _unreadable(what: str) -> Failure:
    return Failure(
        reason_pb2.REASON_NOT_MEDIA, f"The file cannot be read as audio or video: {what}."
    )


def _media(answer: dict[str, Any]) -> Media:
    media = Media(
        title=answer["tags"].get("title", ""),
        format_name=answer["format"],
        file_tags=answer["tags"],
    )
    media.duration.FromMicroseconds(answer["duration"])
    for found in answer["streams"]:
        shared = {key: found[key] for key in ("index", "codec", "profile", "language", "bit_rate")}
        stream: VideoStream | AudioStream
        if found["type"] == "video":
            stream = media.video.add(
                **shared,
                width=found["width"],
                height=found["height"],
                rotation=found["rotation"],
                frame_rate=found["frame_rate"],
                pixel_format=found["pixel_format"],
            )
        else:
            stream = media.audio.add(
                **shared,
                sample_rate_hz=found["sample_rate"],
                channels=found["channels"],
                preferred=found["preferred"],
                supplementary=found["supplementary"],
            )
        if found["duration"] is not None:
            stream.duration.FromMicroseconds(found["duration"])
    # ID3 has them in any order.
    for found in sorted(answer["chapters"], key=lambda found: (found["start"], found["end"])):
        chapter = Chapter(title=found["title"])
        chapter.start.FromMicroseconds(found["start"])
        chapter.end.FromMicroseconds(found["end"])
        media.chapters.append(chapter)
    media.blob.content_type = _content_type(answer, has_video=bool(media.video))
    return media


def _content_type(answer: dict[str, Any], *, has_video: bool) -> str:
    """The media type of the container, for what is in it (RFC 9110, section 8.3.1)."""
    if answer["webm"]:
        return "video/webm" if has_video else "audio/webm"
    brand = answer["brand"].strip()
    if answer["format"] == _MP4 and brand in {"", "qt"}:
        return "video/quicktime"
    if answer["format"] == _MP4 and brand.startswith("3g"):
        return "video/3gpp" if has_video else "audio/3gpp"
    kinds = _CONTENT_TYPES.get(answer["format"])
    if kinds is None:
        return "application/octet-stream"
    return kinds[0 if has_video else 1] or kinds[1]
