"""The picture that players show with a sound file: JPEG or PNG, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from ingot_server.errors import Failure
from ingot_server.pipeline.conversion.tags import is_cover
from ingot_server.pipeline.ffmpeg import Ffmpeg

logger = logging.getLogger(__name__)

LARGEST_COVER: Final = 16 << 20
"""In bytes: FLAC has 24 bits for a picture's block."""


async def read_cover(path: Path, directory: Path, ffmpeg: Ffmpeg) -> bytes:
    """The picture at `path` as players take it: of a WebP a JPEG, made in `directory`.

    Empty when it cannot be used.
    """
    data = await asyncio.to_thread(_content, path)
    if is_cover(data) or not data:
        return data
    converted = directory / "cover.jpg"
    try:
        await ffmpeg.run(
            [
                *("-protocol_whitelist", "file,pipe", "-f", "webp_pipe", "-i", f"file:{path}"),
                *("-frames:v", "1", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-q:v", "2"),
                *("-f", "image2", "-update", "1", f"file:{converted}"),
            ],
            output=converted,
        )
    except Failure as failure:
        logger.info("the cover is left out: %s", failure.message)
        return b""
    return await asyncio.to_thread(_content, converted)


def _content(path: Path) -> bytes:
    """All of a file that may be a cover; empty for a larger one, and for none."""
    try:
        return path.read_bytes() if path.stat().st_size < LARGEST_COVER else b""
    except OSError:
        return b""
