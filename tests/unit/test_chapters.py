"""Chapters of a media item are in order, within it, and each ends."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ingot.v1.media_pb2 import Chapter
from ingot_server.probe import chapters


def chapter(start: float, end: float) -> Chapter:
    made = Chapter(title=f"from {start}")
    made.start_offset.FromTimedelta(timedelta(seconds=start))
    made.end_offset.FromTimedelta(timedelta(seconds=end))
    return made


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(
            [(0, 0), (10, 10), (20, 20), (90, 90)], [(0, 10), (10, 20), (20, 30)], id="ID3"
        ),
        pytest.param([(0, 5), (10, 20)], [(0, 5), (10, 20)], id="with a pause"),
        pytest.param([(20, 30), (0, 20)], [(0, 20), (20, 30)], id="in any order"),
        pytest.param([(0, 99)], [(0, 30)], id="past the end"),
        pytest.param([(0, 12), (10, 30)], [(0, 12), (10, 30)], id="overlapping"),
        pytest.param([(10, 5), (30, 31)], [(10, 30)], id="an end before its beginning"),
        pytest.param([], [], id="none"),
    ],
)
def test_chapters_end_where_the_next_begins_and_none_past_the_media(
    found: list[tuple[float, float]], expected: list[tuple[float, float]]
) -> None:
    kept = chapters.within([chapter(*each) for each in found], timedelta(seconds=30))
    assert [
        (each.start_offset.ToMilliseconds() / 1000, each.end_offset.ToMilliseconds() / 1000)
        for each in kept
    ] == expected
    assert [each.title for each in kept] == [f"from {start}" for start, _ in sorted(found)][
        : len(kept)
    ]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([(0, 5), (5, 20), (20, 30)], [(0, 10), (10, 20)]),
        ([(0, 0), (5, 5), (20, 20)], [(0, 0), (10, 10)]),
        ([(0, 10)], []),
        ([(12, 12)], [(2, 2)]),
        ([(3, 3)], [(0, 0)]),
    ],
)
def test_chapters_of_a_section_begin_where_it_begins(
    found: list[tuple[float, float]], expected: list[tuple[float, float]]
) -> None:
    shifted = chapters.shifted([chapter(*each) for each in found], timedelta(seconds=10))
    assert [
        (each.start_offset.ToSeconds(), each.end_offset.ToSeconds()) for each in shifted
    ] == expected
