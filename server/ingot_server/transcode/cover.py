"""The cover of an audio file: a JPEG or PNG that decodes without an error, or none.

A site's thumbnail may be anything. So ffmpeg decodes it strictly, to its end. An image that is cut
off, or is damaged in a way that its format shows, is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.log_events import Event
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.tags import cover_type
from ingot_server.transcode.verify import image_size

logger = EventLogger(__name__)

LARGEST_COVER: Final = 16 << 20
"""In bytes. A larger file is left out: FLAC has 24 bits for the length of a picture block."""
LARGEST_EMBEDDED: Final = 2 << 20
"""In bytes. A larger image is encoded again, as it becomes a part of every file."""
LARGEST_SIDE: Final = 1920
"""In pixels, of width and height. A larger image is scaled down."""

# One image from one file, whatever the file's name looks like.
_SINGLE_IMAGE: Final = ("-f", "image2", "-pattern_type", "none", "-c:v")
_INPUTS: Final = {
    "image/jpeg": (*_SINGLE_IMAGE, "mjpeg"),
    "image/png": (*_SINGLE_IMAGE, "png"),
    "image/webp": (*_SINGLE_IMAGE, "webp"),
    "image/avif": ("-f", "mov"),
}


async def prepare_cover(path: Path, directory: Path, ffmpeg: Ffmpeg) -> bytes:
    """Return the image at `path` for players: as it is, or a JPEG made of it in `directory`.

    A JPEG is made of WebP and AVIF, of an image that is too large, and of one with bytes behind
    its end. Empty if the image cannot be used, which is not an error.
    """
    data = await asyncio.to_thread(_read_image, path)
    content_type = _image_type(data)
    if content_type not in _INPUTS:
        logger.info(
            Event.COVER_LEFT_OUT,
            "the cover is left out: it is not an image of a known format, or too large",
        )
        return b""
    made = directory / "cover.jpg"
    try:
        await ffmpeg.run_command(
            _arguments(path, _INPUTS[content_type], made), source=path, output=made
        )
    except Failure as failure:
        logger.info(
            Event.COVER_LEFT_OUT,
            "the cover is left out: %s",
            failure.message,
            reason=failure.reason,
        )
        return b""
    if len(data) <= LARGEST_EMBEDDED and cover_type(data):
        size = await asyncio.to_thread(image_size, path, content_type)
        if size is not None and max(size.width, size.height) <= LARGEST_SIDE:
            return data
    return await asyncio.to_thread(_read_image, made)


def _arguments(path: Path, demuxer: Sequence[str], made: Path) -> list[str]:
    fitting = (
        f"scale=min(iw\\,{LARGEST_SIDE}):min(ih\\,{LARGEST_SIDE})"
        ":force_original_aspect_ratio=decrease"
    )
    return [
        *("-xerror", "-protocol_whitelist", "file,pipe"),
        *("-err_detect", "explode"),
        *(*demuxer, "-i", f"file:{path}"),
        *("-frames:v", "1", "-vf", fitting, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-q:v", "2"),
        *("-map_metadata", "-1", "-f", "image2", "-update", "1", f"file:{made}"),
    ]


def _image_type(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/avif" if data[4:12] == b"ftypavif" else cover_type(data)


def _read_image(path: Path) -> bytes:
    """Return the file; empty if it is too large or does not exist."""
    try:
        return path.read_bytes() if path.stat().st_size < LARGEST_COVER else b""
    except OSError:
        return b""
