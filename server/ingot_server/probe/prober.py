"""Finds out what media is in a file, and whether the file is complete.

Each file gets a process of its own (`probe_main.py`), because FFmpeg's demuxers read untrusted
files. How that process ends decides about the result:

- it responds: a Media, or Failure NOT_MEDIA or TRUNCATED;
- it crashes, or needs more memory than it may have: NOT_MEDIA, with what happened, because no
  player could use such a file;
- it takes longer than `probe_timeout`, or uses that much CPU time: STAGE_TIMEOUT.

While the prober is started, these processes are forked from one that has done the imports (33 MB),
and has probed a file of its own. That takes milliseconds; starting one takes 90 ms, and more
processor time. That process exists while there are jobs (process/fork_server.py).
"""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import (
    AspectRatio,
    AudioStream,
    Chapter,
    FrameRate,
    Media,
    VideoStream,
)
from ingot.v1.reason_pb2 import Reason
from ingot_server.config import Settings
from ingot_server.errors import PREFIX, Failure
from ingot_server.event_log import EventLogger
from ingot_server.library.recipe_formats import MP4_CONTAINER
from ingot_server.log_events import Event
from ingot_server.probe import chapters
from ingot_server.process.child import ChildError, describe_exit
from ingot_server.process.fork_server import ForkServer
from ingot_server.process.limits import Limits

logger = EventLogger(__name__)

MEMORY_BYTES: Final = 1 << 30
MAX_AT_ONCE: Final = 4

_PROGRAM: Final = str(Path(__file__).with_name("probe_main.py"))
# FFmpeg's format to its media types with and without video: IANA's, or what browsers use.
_CONTENT_TYPES: Final = {
    MP4_CONTAINER: ("video/mp4", "audio/mp4"),
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
    """Probes files, a few at a time.

    It also works before `start` and after `close`, but then starts a process for each file.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(min(os.cpu_count() or 1, MAX_AT_ONCE))
        limits = Limits(
            memory_bytes=MEMORY_BYTES, cpu=settings.probe_timeout + timedelta(seconds=1)
        )
        self._processes = ForkServer(_PROGRAM, limits=limits)

    def start(self) -> None:
        """Fork from now on."""
        self._processes.start()

    def prepare(self) -> None:
        """Get ready in the background, because a file will have to be probed soon."""
        self._processes.prepare()

    async def close(self) -> None:
        """End the process to fork from. Probes that are running end with their own tasks."""
        await self._processes.close()

    async def probe(self, path: Path, *, delivered: bool = False) -> Media:
        """Return what the file at `path` says about itself, after checking that it is complete.

        `delivered`: it has every byte that its source announced. Then an Ogg, MP3 or MPEG file
        that seems to end too early does so at its source, too, and is complete.

        The Media has title, duration, video, audio, chapters, format_name, file_tags and
        blob.content_type; its streams have no `url`. Safe to repeat and to cancel. Raises Failure
        NOT_MEDIA, TRUNCATED, TOO_LONG or STAGE_TIMEOUT; INTERNAL only if the file does not exist.
        """
        return await self._probe(path, whole=True, delivered=delivered)

    async def probe_head(self, path: Path) -> Media:
        """Return what the head of a growing file says, like `probe` but without any check.

        Raises Failure NOT_MEDIA also if the head is too short to tell.
        """
        return await self._probe(path, whole=False)

    async def _probe(self, path: Path, *, whole: bool, delivered: bool = False) -> Media:
        async with self._slots:
            try:
                async with asyncio.timeout(self._settings.probe_timeout.total_seconds()):
                    response = await self._request_probe(
                        path=os.fspath(path), whole=whole, delivered=delivered
                    )
            except TimeoutError as error:
                raise self._timed_out() from error
        if "reason" in response:
            raise Failure(Reason.Value(PREFIX + response["reason"]), response["message"])
        media = _media(response)
        length, limit = media.duration.ToTimedelta(), self._settings.max_duration
        if length > limit:
            raise Failure(
                reason_pb2.REASON_TOO_LONG,
                f"The media lasts {length}. INGOT_MAX_DURATION allows {limit}.",
                metadata={"limit_seconds": f"{limit.total_seconds():g}"},
            )
        return media

    async def _request_probe(self, **request: object) -> dict[str, Any]:
        async with await self._processes.start_child() as child:
            await child.send_message(request)
            try:
                response = await child.receive_message()
            except ChildError as error:
                raise _unreadable(str(error)) from error
            if response is not None:
                return response
            code = await child.wait()
            if code == -signal.SIGXCPU:
                raise self._timed_out()
            logger.warning(
                Event.PROBE_KILLED,
                "probe of %s %s: %s",
                request["path"],
                describe_exit(code),
                child.stderr[-2000:],
            )
            raise _unreadable(f"the process that read it was {describe_exit(code)}")

    def _timed_out(self) -> Failure:
        limit = self._settings.probe_timeout
        return Failure(
            reason_pb2.REASON_STAGE_TIMEOUT,
            f"Reading the file took longer than the {limit.total_seconds():g} s "
            "that INGOT_PROBE_TIMEOUT allows.",
            metadata={"stage": "PROBING"},
        )


def _unreadable(what: str) -> Failure:
    return Failure(
        reason_pb2.REASON_NOT_MEDIA, f"The file cannot be read as audio or video: {what}."
    )


def _media(response: dict[str, Any]) -> Media:
    media = Media(
        title=response["tags"].get("title", ""),
        format_name=response["format"],
        file_tags=response["tags"],
    )
    media.duration.FromMicroseconds(response["duration"])
    for found in response["streams"]:
        shared = {
            key: found[key] for key in ("index", "codec", "profile", "language", "bitrate_bps")
        }
        stream: VideoStream | AudioStream
        if found["type"] == "video":
            stream = media.video.add(
                **shared,
                width=found["width"],
                height=found["height"],
                rotation=found["rotation"],
                frame_rate=_frame_rate(found["frame_rate"]),
                pixel_format=found["pixel_format"],
                field_order=VideoStream.FieldOrder.Value(f"FIELD_ORDER_{found['field_order']}"),
                sample_aspect_ratio=_aspect_ratio(found["sample_aspect_ratio"]),
                color_transfer=found["color_transfer"],
            )
        else:
            stream = media.audio.add(
                **shared,
                sample_rate_hz=found["sample_rate"],
                channels=found["channels"],
                preferred=found["preferred"],
                supplementary=found["supplementary"],
                role=AudioStream.Role.Value(f"ROLE_{found['role']}"),
            )
        if found["duration"] is not None:
            stream.duration.FromMicroseconds(found["duration"])
    media.chapters.extend(
        chapters.within(map(_chapter, response["chapters"]), media.duration.ToTimedelta())
    )
    media.blob.content_type = _content_type(response, has_video=bool(media.video))
    return media


def _chapter(found: dict[str, Any]) -> Chapter:
    chapter = Chapter(title=found["title"])
    chapter.start_offset.FromMicroseconds(found["start"])
    chapter.end_offset.FromMicroseconds(found["end"])
    return chapter


def _frame_rate(found: tuple[int, int] | None) -> FrameRate | None:
    return FrameRate(numerator=found[0], denominator=found[1]) if found is not None else None


def _aspect_ratio(found: tuple[int, int] | None) -> AspectRatio | None:
    return AspectRatio(width=found[0], height=found[1]) if found is not None else None


def _content_type(response: dict[str, Any], *, has_video: bool) -> str:
    """Return the media type of the container and its contents (RFC 9110, section 8.3.1)."""
    if response["webm"]:
        return "video/webm" if has_video else "audio/webm"
    brand = response["brand"].strip()
    if response["format"] == MP4_CONTAINER and brand in {"", "qt"}:
        return "video/quicktime"
    if response["format"] == MP4_CONTAINER and brand.startswith("3g"):
        return "video/3gpp" if has_video else "audio/3gpp"
    kinds = _CONTENT_TYPES.get(response["format"])
    if kinds is None:
        return "application/octet-stream"
    return kinds[0 if has_video else 1] or kinds[1]
