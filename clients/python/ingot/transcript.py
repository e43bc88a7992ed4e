"""The text of subtitles, without markup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from typing import Final

# https://www.w3.org/TR/webvtt1/; SubRip differs in the comma, and has no hours either way.
_TIME: Final = r"((?:\d{1,6}:)?\d{1,6}:\d{1,6}[.,]\d{1,9})"
_TIMES: Final = re.compile(rf"\s*{_TIME}\s+-->\s+{_TIME}")
# The second is that of SubRip's players, as in `{\an8}`.
_TAG: Final = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")
# A cue that begins so soon after the one before it may repeat its lines.
_ROLLING_SECONDS: Final = 0.1
# Subtitles are written by strangers.
_MOST_LINES: Final = 64
_LONGEST_LINE: Final = 4000


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines that appear together, and from when to when, in seconds from the beginning."""

    start: float
    end: float
    lines: tuple[str, ...]


def transcript(subtitles: str, *, with_times: bool = False) -> str:
    """Return the text of WebVTT or SubRip, a line for each line that is shown.

    With `with_times` each line begins with its time, such as `[1:02]`.
    """
    return "\n".join(
        f"[{_clock(cue.start)}] {line}" if with_times else line
        for cue in cues(subtitles)
        for line in cue.lines
    )


def cues(subtitles: str) -> Iterator[Cue]:
    """Yield the cues of WebVTT or SubRip that show a new line, with the new lines only.

    Automatic subtitles roll: each line is shown again while the next one appears.
    """
    shown: tuple[str, ...] = ()
    until = 0.0
    for cue in _all_cues(subtitles):
        if cue.start > until + _ROLLING_SECONDS:
            shown = ()
        new = cue.lines[_overlap(shown, cue.lines) :]
        if new:
            yield Cue(cue.start, cue.end, new)
        shown, until = cue.lines or shown, cue.end


def _all_cues(subtitles: str) -> Iterator[Cue]:
    """Yield all cues, with their lines that are not empty."""
    for block in re.sub(r"\r\n?", "\n", subtitles).split("\n\n"):
        rows = block.split("\n")
        for index, row in enumerate(rows):
            if times := _TIMES.match(row):
                texts = rows[index + 1 : index + 1 + _MOST_LINES]
                lines = (" ".join(_plain(text).split()) for text in texts)
                yield Cue(_seconds(times[1]), _seconds(times[2]), tuple(filter(None, lines)))
                break


def _plain(text: str) -> str:
    return unescape(_TAG.sub("", text[:_LONGEST_LINE]))


def _seconds(time: str) -> float:
    *hours, minutes, seconds = time.replace(",", ".").split(":")
    return sum(map(int, hours)) * 3600 + int(minutes) * 60 + float(seconds)


def _overlap(latest: tuple[str, ...], shown: tuple[str, ...]) -> int:
    """Return how many of the first lines of `shown` are the last ones of `latest`."""
    longest = min(len(latest), len(shown))
    return next((n for n in range(longest, 0, -1) if latest[-n:] == shown[:n]), 0)


def _clock(start: float) -> str:
    """Format a time of a cue as `1:02`, or as `1:02:03` from one hour on."""
    minutes, seconds = divmod(int(start), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
