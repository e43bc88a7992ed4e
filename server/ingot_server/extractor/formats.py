"""Which of a source's formats are taken, in yt-dlp's language, and why, in a person's. Pure.

Nothing is ever encoded anew: picture and sound that come apart are put into one container, and a
container that holds both gives its sound up as it is. Resolution and frame rate decide first;
among equals MP4 and M4A win, because everything plays them.

Imports nothing but the standard library: it also runs in the extraction child.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MERGED_INTO: Final = "mp4/webm/mkv"
_ABSENT: Final = (None, "none")


@dataclass(frozen=True, slots=True)
class Choice:
    """What yt-dlp is told: its options `format` and `format_sort`."""

    selector: str
    sort: tuple[str, ...]


def choose(*, audio_only: bool, max_height: int | None, live: bool = False) -> Choice:
    """The choice for a selection; `max_height` is in pixels, None: no limit.

    With `live` formats that come by HLS, the only ones that can be recorded, go before all others.

    Formats that do not tell their height are taken when none that does is low enough.
    """
    limits = [""]
    if max_height is not None and not audio_only:
        limits = [f"[height<={int(max_height)}]", f"[height<=?{int(max_height)}]"]
    ways = []
    for protocol in ("[protocol^=m3u8]", "") if live else ("",):
        for limit in limits:
            picture = "" if audio_only else f"bestvideo*{limit}{protocol}+"
            ways.append(f"{picture}bestaudio{protocol}/best{limit}{protocol}")
    return Choice("/".join(ways), () if audio_only else ("res", "fps", "ext:mp4:m4a"))


def taken(info: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The formats that yt-dlp picked for `info`: one, or the parts that it will merge."""
    return info.get("requested_formats") or [info]


def holds_video(info: Mapping[str, Any]) -> bool:
    """Whether what is taken holds a picture, or may: many sources do not say."""
    return any(part.get("vcodec") != "none" for part in taken(info))


def size_bytes(info: Mapping[str, Any]) -> int | None:
    """What will be received, as far as the source tells exactly."""
    sizes = [part.get("filesize") for part in taken(info)]
    return sum(size for size in sizes if size) if all(sizes) else None


def reason(info: Mapping[str, Any], *, audio_only: bool, max_height: int | None) -> str:
    """Why these formats were taken, in one sentence."""
    parts = taken(info)
    what = " with ".join(_named(part) for part in parts)
    if audio_only:
        alone = parts[0].get("vcodec") == "none"
        why = "the best audio" if alone else "no audio comes alone, so it is taken out unchanged"
    elif max_height is not None:
        why = f"the best that is at most {max_height} pixels high"
    else:
        why = "the best there is"
    if len(parts) > 1:
        why += ", put into one file without encoding anything anew"
    return f"{what}: {why}."


def _named(part: Mapping[str, Any]) -> str:
    words = []
    if part.get("height"):
        words.append(f"{part['height']}p")
    codecs = (part.get("vcodec"), part.get("acodec"))
    words += [str(codec).partition(".")[0] for codec in codecs if codec not in _ABSENT]
    words.append(f"in {part['ext']}" if part.get("ext") else "as it comes")
    return " ".join(words)[:200]
