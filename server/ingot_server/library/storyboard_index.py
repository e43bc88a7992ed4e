"""The index of a storyboard: WebVTT that tells players where the picture of each moment is.

A cue names a sheet and the place of a picture on it in pixels, as `NAME#xywh=160,0,160,90` (W3C
Media Fragments, section 4.2.2). In the bucket NAME is the last part of the key of a sheet, so the
index works as it is if browsers may read the bucket. For everyone else `with_links` replaces the
names by signed links. The extraction child uses this module, so it imports only the standard
library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

MOST_PICTURES: Final = 2000
"""Pictures of a storyboard: each has a link in the index, which is sent in one response."""
MOST_SHEETS: Final = 100
"""Sheets of a storyboard: each is a side file in the manifest."""

_PLACE: Final = re.compile(r"^([^#\s]+)(#xywh=\d+,\d+,\d+,\d+)$", re.MULTILINE)


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


def webvtt(shown: Iterable[Tile]) -> str:
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
