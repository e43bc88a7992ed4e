"""Which segments of HLS and DASH a section needs."""

from __future__ import annotations

import pytest

from ingot_server.extractor.hls_playlist import parse, track
from ingot_server.extractor.presentation import Part, Track
from ingot_server.extractor.stretch import Stretch, stretch

END = float("inf")


def segments(*names: str) -> tuple[dict[str, str], ...]:
    return tuple({"url": name} for name in names)


# Two parts: of three segments from 0 to 6 s, and of two from 6 to 12 s, with initialization.
HLS = Track(
    (
        Part(segments("0", "2", "4"), 6.0, places=(0.0, 2.0, 4.0)),
        Part(segments("init", "6", "9"), 6.0, places=(None, 0.0, 3.0)),
    )
)
# A period that begins within its first segment, and whose clock begins at 100 s.
DASH = Track((Part(segments("init", "0", "1", "5"), 8.0, 100.0, (None, -1.0, 1.0, 5.0)),))
# The manifest does not say when the segments begin.
SILENT = Track((Part(segments("a", "b"), 6.0), Part(segments("c"), 6.0)))


def names(found: Stretch) -> list[list[str]]:
    return [[each["url"] for each in part.fragments] for part in found.track.parts]


@pytest.mark.parametrize(
    ("source", "start", "end", "expected", "begins_at", "clock"),
    [
        (HLS, 0, END, [["0", "2", "4"], ["init", "6", "9"]], 0, None),
        (HLS, 2.5, 3, [["2"]], 2, None),
        (HLS, 2, 4, [["2"]], 2, None),
        (HLS, 1.9, 4.1, [["0", "2", "4"]], 0, None),
        (HLS, 5, 7, [["4"], ["init", "6"]], 4, None),
        (HLS, 6, 9, [["init", "6"]], 6, None),
        (HLS, 10, END, [["init", "9"]], 9, None),
        # What the manifest rounds down is the last segment.
        (HLS, 12, END, [["init", "9"]], 9, None),
        (HLS, -30, 1, [["0"]], 0, None),
        (DASH, 0, 1, [["init", "0"]], -1, 100),
        (DASH, 2, 6, [["init", "1", "5"]], 1, 100),
        (DASH, 6, END, [["init", "5"]], 5, 100),
        (SILENT, 2, 3, [["a", "b"]], 0, None),
        (SILENT, 7, 8, [["c"]], 6, None),
    ],
)
def test_only_the_segments_of_the_section_are_taken(
    source: Track,
    start: float,
    end: float,
    expected: list[list[str]],
    begins_at: float,
    clock: float | None,
) -> None:
    found = stretch(source, start, end)

    assert names(found) == expected
    assert (found.begins_at, found.clock) == (begins_at, clock)


def test_a_part_that_begins_later_is_shorter_by_that() -> None:
    first, second = stretch(HLS, 5, 7).track.parts

    assert (first.seconds, first.places) == (2.0, (0.0,))
    assert (second.seconds, second.places) == (6.0, (None, 0.0))


def test_hls_says_when_each_segment_begins() -> None:
    lines = ["#EXT-X-MAP:URI=init.mp4", "#EXTINF:2.5,", "a.m4s", "#EXTINF:3.5,", "b.m4s"]
    lines += ["#EXT-X-DISCONTINUITY", "#EXTINF:1,", "c.m4s", "#EXT-X-ENDLIST"]
    found = track(parse("\n".join(lines), "http://site.example/"), ended=True)

    assert [part.places for part in found.parts] == [(None, 0.0, 2.5), (None, 0.0)]
