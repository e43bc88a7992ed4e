"""The storyboard of a source: yt-dlp lists it as formats whose fragments are sheets of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yt_dlp
from yt_dlp.networking import Request

from ingot_server.extractor.side_file_messages import FAILURES, image_type, missing, side_file
from ingot_server.library.storyboard_index import MOST_PICTURES, MOST_SHEETS, Tile, webvtt

_MAX_SHEET_BYTES: Final = 8 << 20
_EXTENSIONS: Final = {"image/jpeg": "jpg", "image/webp": "webp", "image/png": "png"}


def fetch_storyboard(
    ydl: yt_dlp.YoutubeDL, info: Mapping[str, Any], directory: str
) -> Iterator[dict[str, Any]]:
    """Download the best storyboard, and yield its sheets, then its index; all of them or none."""
    board = best_storyboard(info)
    if board is None:
        return
    sheets = []
    for number, fragment in enumerate(board["fragments"], 1):
        try:
            wanted = Request(fragment["url"], headers=board.get("http_headers") or {})
            with ydl.urlopen(wanted) as response:
                content = response.read(_MAX_SHEET_BYTES)
            kind = image_type(content)
            if kind not in _EXTENSIONS:
                raise ValueError("it is not an image")
            path = Path(directory, f"storyboard-{number}.{_EXTENSIONS[kind]}")
            path.write_bytes(content)
        except FAILURES as error:
            yield missing(f"sheet {number} of the storyboard: {error}")
            return
        sheets.append(side_file(path, "STORYBOARD", kind))
    names = [Path(sheet["path"]).name for sheet in sheets]
    index = Path(directory, "storyboard.vtt")
    index.write_text(webvtt(storyboard_tiles(board, names)), encoding="utf-8")
    yield from sheets
    yield side_file(index, "STORYBOARD_INDEX", "text/vtt")


def best_storyboard(info: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the format with the largest pictures, of those within the bounds; None if none is."""
    found = [each for each in info.get("formats") or () if _is_storyboard(each)]
    return max(found, key=lambda each: int(each["width"]), default=None)


def storyboard_tiles(board: Mapping[str, Any], names: Sequence[str]) -> Iterator[Tile]:
    """Yield the pictures of a storyboard whose sheets have these names."""
    columns, width, height, rate = board["columns"], board["width"], board["height"], board["fps"]
    number = 0
    for name, fragment in zip(names, board["fragments"], strict=True):
        for place in range(_pictures(board, fragment)):
            row, column = divmod(place, columns)
            start, end = number / rate, (number + 1) / rate
            yield Tile(name, column * width, row * height, width, height, start, end)
            number += 1


def _is_storyboard(form: Mapping[str, Any]) -> bool:
    sizes = [form.get(name) for name in ("width", "height", "rows", "columns")]
    rate, fragments = form.get("fps"), form.get("fragments") or []
    return (
        form.get("format_note") == "storyboard"
        and all(isinstance(size, int) and size > 0 for size in sizes)
        and isinstance(rate, (int, float))
        and rate > 0
        and 0 < len(fragments) <= MOST_SHEETS
        and all(each.get("url") and each.get("duration") for each in fragments)
        and sum(_pictures(form, each) for each in fragments) <= MOST_PICTURES
    )


def _pictures(form: Mapping[str, Any], fragment: Mapping[str, Any]) -> int:
    """Return how many pictures a sheet has; the last one may not be full."""
    most = int(form["rows"]) * int(form["columns"])
    return max(1, min(most, round(float(fragment["duration"]) * float(form["fps"]))))
