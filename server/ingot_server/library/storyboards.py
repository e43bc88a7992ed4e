"""The layout of a storyboard that the recipe makes: its pictures, and how they fill sheets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ingot.v1.recipe_pb2 import Recipe
from ingot_server.library.storyboard_index import MOST_PICTURES, MOST_SHEETS, Tile

_USUAL_PICTURES: Final = 100
_SHORTEST_USUAL_MS: Final = 1000


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
