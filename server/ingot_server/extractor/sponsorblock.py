"""Segments that the users of SponsorBlock have marked in a YouTube video, as its chapters.

yt-dlp asks the API, with the first four digits of the SHA-256 of the video's id, and leaves out
segments of a version with another length. Nothing is cut out of the media.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Final

import yt_dlp
from yt_dlp.postprocessor.sponsorblock import SponsorBlockPP

from ingot_server.extractor.protocol import Request

_LONGEST_WAIT: Final = 5.0
"""Seconds."""
_SHORTEST: Final = 1.0
"""Seconds; what is left of a chapter and is shorter belongs to its neighbour."""


def add_chapters(info: dict[str, Any], request: Request) -> None:
    """Merge the segments of `request.sponsorblock_categories` into the chapters of `info`.

    A video keeps its own chapters if the API fails, or says nothing for 5 s. Never raises.
    """
    service = info.get("extractor_key") in SponsorBlockPP.EXTRACTORS
    if not (request.sponsorblock_categories and service):
        return
    found: list[dict[str, Any]] = []

    def ask() -> None:
        try:
            segments = _segments(info, request)
            found.extend(merged(info.get("chapters") or [], segments, info))
        except Exception as error:
            sys.stderr.write(f"SponsorBlock: {error!r}\n"[:500])

    # The time limit of a socket does not end a response that comes byte by byte.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_wait(request))
    if not asking.is_alive() and found:
        info["chapters"] = found


def merged(
    chapters: Iterable[Mapping[str, Any]],
    segments: Iterable[Mapping[str, Any]],
    info: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return `chapters` with `segments` in place of the parts that these cover, in order.

    Both have `title`, `start_time` and `end_time` in seconds; those of a result do not overlap. A
    part with several segments names all of them. If `info` has no chapters, the rest of the video
    is called by its title. Empty if there are no segments.
    """
    marked = [part for part in segments if 0 <= part["start_time"] < part["end_time"]]
    if not marked:
        return []
    whole = {"title": info.get("title"), "start_time": 0, "end_time": info.get("duration") or 0}
    own = [part for part in chapters if part["start_time"] < part["end_time"]] or [whole]
    moments = {part[edge] for part in (*own, *marked) for edge in ("start_time", "end_time")}
    parts: list[dict[str, Any]] = []
    for start, end in pairwise(sorted(moments)):
        titles = [part["title"] for part in _at(start, marked)]
        covering = _at(start, own)
        if titles:
            title = f"[SponsorBlock]: {', '.join(dict.fromkeys(titles))}"
        elif covering:
            title = covering[-1]["title"]
        else:
            continue
        before = parts[-1] if parts and parts[-1]["end_time"] == start else None
        source = None if titles else covering[-1]
        if before and before["source"] is source and before["title"] == title:
            before["end_time"] = end
        else:
            parts.append({"title": title, "start_time": start, "end_time": end, "source": source})
    return _without_remainders(parts)


def _at(moment: float, parts: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [part for part in parts if part["start_time"] <= moment < part["end_time"]]


def _without_remainders(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join what is left of a chapter to the segment next to it, if it is shorter than a second."""
    kept: list[dict[str, Any]] = []
    start: float | None = None
    for part in parts:
        source = part.pop("source")
        if start is not None:
            part["start_time"], start = start, None
        length = part["end_time"] - part["start_time"]
        cut = source is not None and length < source["end_time"] - source["start_time"]
        if not (cut and length < _SHORTEST):
            kept.append(part)
        elif kept and kept[-1]["end_time"] == part["start_time"]:
            kept[-1]["end_time"] = part["end_time"]
        else:
            start = part["start_time"]
    return kept


def _segments(info: Mapping[str, Any], request: Request) -> list[dict[str, Any]]:
    # A downloader of its own, so that a failure here is not taken for one of the extraction, and
    # the source's cookies are not sent.
    with yt_dlp.YoutubeDL(
        {
            "proxy": request.proxy,
            "compat_opts": {"no-certifi"},
            "socket_timeout": _wait(request),
            "extractor_retries": 0,
            "quiet": True,
            "no_warnings": True,
        },
        auto_init=False,
    ) as downloader:
        asked = SponsorBlockPP(
            downloader, request.sponsorblock_categories, request.sponsorblock_api.rstrip("/")
        )
        _, answered = asked.run(dict(info))
    return list(answered["sponsorblock_chapters"])


def _wait(request: Request) -> float:
    return min(_LONGEST_WAIT, request.timeout)
