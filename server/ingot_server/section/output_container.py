"""The container of streams that are copied into a new file: one that browsers play, if any can."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

_COMMON_MP4: Final = frozenset(
    {"h264", "hevc", "av1", "mpeg4", "aac", "mp3", "ac3", "eac3", "alac"}
)
_MP4: Final = _COMMON_MP4 | {"vp9", "opus", "flac"}
_CONTAINERS: Final = (
    ("mp4", _COMMON_MP4),
    ("webm", frozenset({"vp8", "vp9", "av1", "opus", "vorbis"})),
    ("mp4", _MP4),
)


def container_of(codecs: Collection[str]) -> str:
    """Return the extension of the container for streams with these codecs, as ffprobe names them.

    Of several that can hold them, the one in which more players expect them.
    """
    if not codecs:
        return "mkv"
    return next((name for name, held in _CONTAINERS if held.issuperset(codecs)), "mkv")


def fits_into_mp4(codecs: Collection[str]) -> bool:
    """Return whether MP4 can hold streams with these codecs, as ffprobe names them."""
    return bool(codecs) and _MP4.issuperset(codecs)
