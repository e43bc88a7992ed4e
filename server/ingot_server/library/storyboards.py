"""Storyboards: small pictures of a video on JPEG sheets, and a WebVTT index of them for players.

A cue of the index names a sheet and the place of a picture on it in pixels, as
`NAME#xywh=160,0,160,90` (W3C Media Fragments, section 4.2.2). In the bucket NAME is the last part
of the key of a sheet, so the index works as it is if browsers may read the bucket. For
everyone else `with_links` replaces the names by signed links.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ingot.v1.recipe_pb2 import Recipe

MOST_PICTURES: Final = 2000
"""Pictures of a storyboard: each has a link in the index, which is sent in one response."""
MOST_SHEETS: Final = 100
"""Sheets of a storyboard: each is a side file in the manifest."""

_USUAL_PICTURES: Final = 100
_SHORTEST_USUAL_MS: Final = 1000
_PLACE: Final = re.compile(r"^([^#\s]+)(#xywh=\d+,\d+,\d+,\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class StoryboardLayout:
    """Which pictures a storyboard has, and how they are arranged."""

    interval_ms: int
    pictures: int
    columns: int
    rows: int
    """Of every sheet; the last one may not be full."""

    @property
    def sheets(self) -> int:
        """The number of sheets."""
        return math.ceil(self.pictures / (self.columns * self.rows))


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture on a sheet."""

    sheet: str
    """The name of the sheet."""
    left: int
    top: int
    width: int
    height: int
    start_seconds: float
    end_seconds: float


def storyboard_layout(storyboard: Recipe.Storyboard, seconds: float) -> StoryboardLayout:
    """Return the layout of a canonical storyboard of so many seconds, more than zero."""
    length_ms = max(1, round(seconds * 1000))
    interval_ms = (
        max(1, round(storyboard.interval.ToTimedelta().total_seconds() * 1000))
        if storyboard.HasField("interval")
        else max(_SHORTEST_USUAL_MS, math.ceil(length_ms / _USUAL_PICTURES))
    )
    pictures = math.ceil(length_ms / interval_ms)
    columns = min(storyboard.columns, pictures)
    rows = min(storyboard.rows, math.ceil(pictures / columns))
    return StoryboardLayout(interval_ms, pictures, columns, rows)


def storyboard_problem(storyboard: Recipe.Storyboard, seconds: float) -> tuple[str, str]:
    """Return the field of the recipe that is wrong for so many seconds of video, and why.

    The second text is empty if nothing is wrong.
    """
    if seconds <= 0:
        return "storyboard", "needs video, and the media item is an image"
    found = storyboard_layout(storyboard, seconds)
    if found.pictures > MOST_PICTURES:
        longest = math.ceil(seconds / MOST_PICTURES * 10) / 10
        problem = (
            f"would make {found.pictures} pictures of {seconds:g} s, more than {MOST_PICTURES}"
        )
        return "storyboard.interval", f"{problem}; use at least {longest:g} s"
    if found.sheets > MOST_SHEETS:
        problem = f"would make {found.sheets} sheets, more than {MOST_SHEETS}"
        return "storyboard.rows", f"{problem}; use more columns and rows, or a longer interval"
    return "", ""


def tiles(
    layout: StoryboardLayout,
    width: int,
    height: int,
    seconds: float,
    sheet_name: Callable[[int], str],
) -> Iterator[Tile]:
    """Yield the pictures of a storyboard; `sheet_name` names the sheets by their number, from 1."""
    for number in range(layout.pictures):
        sheet, place = divmod(number, layout.columns * layout.rows)
        row, column = divmod(place, layout.columns)
        start = number * layout.interval_ms / 1000
        yield Tile(
            sheet_name(sheet + 1),
            column * width,
            row * height,
            width,
            height,
            start,
            min(seconds, start + layout.interval_ms / 1000),
        )


def webvtt(shown: Iterator[Tile]) -> str:
    """Return the index of pictures (https://www.w3.org/TR/webvtt1/)."""
    blocks = ["WEBVTT"]
    for tile in shown:
        place = f"{tile.left},{tile.top},{tile.width},{tile.height}"
        times = f"{_clock(tile.start_seconds)} --> {_clock(tile.end_seconds)}"
        blocks.append(f"{times}\n{tile.sheet}#xywh={place}")
    return "\n\n".join(blocks) + "\n"


def with_links(index: str, links: Mapping[str, str]) -> str:
    """Return an index with the link of each sheet in the place of its name."""
    return _PLACE.sub(lambda found: links.get(found[1], found[1]) + found[2], index)


def _clock(seconds: float) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest:02}.{milliseconds:03}"
