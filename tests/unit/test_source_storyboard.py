from __future__ import annotations

from typing import Any

import pytest

from ingot_server.extractor.source_storyboard import best_storyboard, storyboard_tiles


def board(width: int = 160, **fields: Any) -> dict[str, Any]:
    """Ten seconds, a picture each second, four on a sheet."""
    return {
        "format_note": "storyboard",
        "width": width,
        "height": 90,
        "rows": 2,
        "columns": 2,
        "fps": 1.0,
        "fragments": [
            {"url": "https://i/0", "duration": 4.0},
            {"url": "https://i/1", "duration": 4.0},
            {"url": "https://i/2", "duration": 2.0},
        ],
        **fields,
    }


@pytest.mark.parametrize(
    ("formats", "width"),
    [
        ([board(80), board(160), board(48)], 160),
        ([board(160, fragments=[{"url": "https://i", "duration": 1.0}] * 101), board(80)], 80),
        ([board(160, rows=50, columns=50, fps=1000.0), board(80)], 80),
        ([board(160, fps=None), board(80)], 80),
        ([board(160, rows=0)], None),
        ([board(160, fragments=[])], None),
        ([board(160, fragments=[{"duration": 1.0}])], None),
        ([board(160, format_note="storybook")], None),
        ([{"format_id": "18"}], None),
        ([], None),
    ],
)
def test_the_best_storyboard_within_the_bounds_is_taken(
    formats: list[dict[str, Any]], width: int | None
) -> None:
    found = best_storyboard({"formats": formats})
    assert (found and found["width"]) == width


def test_the_last_sheet_may_not_be_full() -> None:
    tiles = list(storyboard_tiles(board(), ["a", "b", "c"]))
    assert [tile.sheet for tile in tiles] == [*("a" * 4), *("b" * 4), *("c" * 2)]
    assert [(tile.left, tile.top) for tile in tiles[4:8]] == [(0, 0), (160, 0), (0, 90), (160, 90)]
    assert [tile.start_seconds for tile in tiles] == list(range(10))
    assert tiles[-1].end_seconds == 10
