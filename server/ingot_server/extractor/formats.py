"""Selects formats of a source with yt-dlp's format selectors, and explains the choice. Pure.

Nothing is re-encoded: separate video and audio are merged into one container, and audio is copied
out of a container that holds both. Resolution and frame rate decide first; among equals MP4 and M4A
win, because everything plays them.

This module imports only the standard library, because it also runs in the extraction child.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MERGED_INTO: Final = "mp4/webm/mkv"
_ABSENT: Final = (None, "none")


@dataclass(frozen=True, slots=True)
class Choice:
    """The options `format` and `format_sort` of yt-dlp."""

    selector: str
    sort: tuple[str, ...]


def choose(*, audio_only: bool, max_height: int | None, live: bool = False) -> Choice:
    """Return the options for a selection; `max_height` is in pixels, None means no limit.

    With `live`, HLS formats go before all others, because only they can be recorded. Formats of
    unknown height are selected only if every known height is too large.
    """
    limits = [""]
    if max_height is not None and not audio_only:
        limits = [f"[height<={int(max_height)}]", f"[height<=?{int(max_height)}]"]
    selectors = []
    for protocol in ("[protocol^=m3u8]", "") if live else ("",):
        for limit in limits:
            video = "" if audio_only else f"bestvideo*{limit}{protocol}+"
            selectors.append(f"{video}bestaudio{protocol}/best{limit}{protocol}")
    return Choice("/".join(selectors), () if audio_only else ("res", "fps", "ext:mp4:m4a"))


def taken(info: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the formats that yt-dlp selected: one, or the parts that it will merge."""
    return info.get("requested_formats") or [info]


def holds_video(info: Mapping[str, Any]) -> bool:
    """Return whether the selected formats hold video, or may: many sources do not say."""
    return any(part.get("vcodec") != "none" for part in taken(info))


def size_bytes(info: Mapping[str, Any]) -> int | None:
    """Return the total size of the selected formats; None if the source does not say exactly."""
    sizes = [part.get("filesize") for part in taken(info)]
    return sum(size for size in sizes if size) if all(sizes) else None


def reason(info: Mapping[str, Any], *, audio_only: bool, max_height: int | None) -> str:
    """Return one sentence that says why these formats were selected."""
    parts = taken(info)
    what = " with ".join(_named(part) for part in parts)
    if audio_only:
        alone = parts[0].get("vcodec") == "none"
        why = (
            "the best audio"
            if alone
            else "no audio-only format exists, so it is copied out of the video"
        )
    elif max_height is not None:
        why = f"the best of at most {max_height} pixels in height"
    else:
        why = "the best available"
    if len(parts) > 1:
        why += ", merged into one file without re-encoding"
    return f"{what}: {why}."


def _named(part: Mapping[str, Any]) -> str:
    words = []
    if part.get("height"):
        words.append(f"{part['height']}p")
    codecs = (part.get("vcodec"), part.get("acodec"))
    words += [str(codec).partition(".")[0] for codec in codecs if codec not in _ABSENT]
    words.append(f"in {part['ext']}" if part.get("ext") else "in an unknown container")
    return " ".join(words)[:200]
