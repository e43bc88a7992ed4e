"""The picture that players show with a sound file: a JPEG or PNG that can be decoded, or none.

What a site gives as its thumbnail may be anything. So it is decoded to its end by a child before it
is believed, strictly: what lacks its end, or is torn where its format shows it, is left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.tags import cover_type
from ingot_server.transcode.verify import picture_size

logger = logging.getLogger(__name__)

LARGEST_COVER: Final = 16 << 20
"""In bytes; a larger file is not looked at. FLAC has 24 bits for a picture's block."""
LARGEST_EMBEDDED: Final = 2 << 20
"""In bytes; a larger one is made smaller, as it is part of every file."""
LARGEST_SIDE: Final = 1920
"""In pixels, of width and height; a larger one is scaled down."""

_LARGEST_DECODED: Final = 100_000_000
# One file, whose first picture is all of it, whatever its name looks like.
_ALONE: Final = ("-f", "image2", "-pattern_type", "none", "-c:v")
_INPUTS: Final = {
    "image/jpeg": (*_ALONE, "mjpeg"),
    "image/png": (*_ALONE, "png"),
    "image/webp": (*_ALONE, "webp"),
    "image/avif": ("-f", "mov"),
}
_FORMS: Final = {"image/jpeg": Recipe.FORMAT_JPEG, "image/png": Recipe.FORMAT_PNG}


async def read_cover(path: Path, directory: Path, ffmpeg: Ffmpeg) -> bytes:
    """The picture at `path` as players take it: as it is, or a JPEG made in `directory`.

    That is made of WebP and AVIF, of what is too large, and of what has something behind its end.
    Empty when the picture cannot be used, which is no error.
    """
    data = await asyncio.to_thread(_content, path)
    kind = _picture_type(data)
    if kind not in _INPUTS:
        logger.info("the cover is left out: it is no picture of a known kind, or too large")
        return b""
    made = directory / "cover.jpg"
    try:
        await ffmpeg.run(_arguments(path, _INPUTS[kind], made), output=made)
    except Failure as failure:
        logger.info("the cover is left out: %s", failure.message)
        return b""
    if len(data) <= LARGEST_EMBEDDED and kind in _FORMS:
        size = await asyncio.to_thread(picture_size, path, _FORMS[kind])
        if size is not None and max(size) <= LARGEST_SIDE:
            return data
    return await asyncio.to_thread(_content, made)


def _arguments(path: Path, opened: Sequence[str], made: Path) -> list[str]:
    fitting = (
        f"scale=min(iw\\,{LARGEST_SIDE}):min(ih\\,{LARGEST_SIDE})"
        ":force_original_aspect_ratio=decrease"
    )
    return [
        *("-xerror", "-protocol_whitelist", "file,pipe"),
        *("-err_detect", "explode", "-max_pixels", str(_LARGEST_DECODED)),
        *(*opened, "-i", f"file:{path}"),
        *("-frames:v", "1", "-vf", fitting, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-q:v", "2"),
        *("-map_metadata", "-1", "-f", "image2", "-update", "1", f"file:{made}"),
    ]


def _picture_type(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/avif" if data[4:12] == b"ftypavif" else cover_type(data)


def _content(path: Path) -> bytes:
    """All of a file that may be a cover; empty for a larger one, and for none."""
    try:
        return path.read_bytes() if path.stat().st_size < LARGEST_COVER else b""
    except OSError:
        return b""
