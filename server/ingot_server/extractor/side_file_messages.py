"""What the extraction child says of side files: that it has one, or that it could not get it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yt_dlp.utils

from ingot_server.extractor.error_report import Refused

FAILURES: Final = (yt_dlp.utils.YoutubeDLError, Refused, OSError, ValueError)
"""What is raised for a side file that cannot be had."""

_MESSAGE_CHARACTERS: Final = 500


def side_file(
    path: Path,
    kind: str,
    content_type: str,
    language: str = "",
    *,
    automatic: bool = False,
    converted: bool = False,
) -> dict[str, Any]:
    """Return the message for a file; `kind` is a SideFile.Kind without its prefix."""
    return {
        "path": str(path),
        "what": kind,
        "content_type": content_type,
        "language": language,
        "automatic": automatic,
        "converted": converted,
    }


def missing(message: str) -> dict[str, Any]:
    """Return the message for what could not be had; the worker logs it."""
    return {"kind": "missing", "message": message[:_MESSAGE_CHARACTERS]}


def image_type(content: bytes) -> str:
    """Return the media type of an image by its first bytes; empty for anything else."""
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"\x89PNG\r\n"):
        return "image/png"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    if content[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    return ""
