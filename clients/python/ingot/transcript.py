"""The text of subtitles, without times and markup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Final

# https://www.w3.org/TR/webvtt1/; SubRip differs in the comma, and has no hours either way.
_TIMES: Final = re.compile(r"\s*((?:\d+:)?\d+:\d+)[.,]\d+\s+-->")
_TAG: Final = re.compile(r"<[^>]*>")


def transcript(subtitles: str, *, with_times: bool = False) -> str:
    """Return the text of WebVTT or SubRip, a line for each line that is shown.

    Automatic subtitles roll: each line is shown again while the next one appears. It is returned
    once. With `with_times` each line begins with its time, such as `[1:02]`.
    """
    lines: list[str] = []
    latest: list[str] = []
    for start, shown in _cues(subtitles):
        time = f"[{_clock(start)}] " if with_times else ""
        lines += [time + line for line in shown[_overlap(latest, shown) :]]
        latest = shown or latest
    return "\n".join(lines)


def _cues(subtitles: str) -> Iterator[tuple[str, list[str]]]:
    """Yield when each cue begins, and its lines that are not empty."""
    for block in re.sub(r"\r\n?", "\n", subtitles).split("\n\n"):
        rows = block.split("\n")
        for index, row in enumerate(rows):
            if times := _TIMES.match(row):
                texts = (unescape(_TAG.sub("", text)) for text in rows[index + 1 :])
                yield times[1], [" ".join(text.split()) for text in texts if text.strip()]
                break


def _overlap(latest: list[str], shown: list[str]) -> int:
    """Return how many of the first lines of `shown` are the last ones of `latest`."""
    longest = min(len(latest), len(shown))
    return next((n for n in range(longest, 0, -1) if latest[-n:] == shown[:n]), 0)


def _clock(start: str) -> str:
    """Format a time of a cue as `1:02`, or as `1:02:03` from one hour on."""
    *hours, minutes, seconds = map(int, start.split(":"))
    if any(hours):
        return f"{hours[0]}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}"
