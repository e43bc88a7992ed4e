"""Which bytes of a file the parts of an upload hold together."""

from __future__ import annotations

import itertools
import random

import pytest

from ingot_server.library.upload_parts import (
    Part,
    appended_name,
    file_segments,
    linked_name,
    parse_part,
    stored_ranges,
)


def parts(*ranges: tuple[int, int]) -> list[Part]:
    """Return the parts from each first byte to before each last one."""
    return [Part(linked_name(start, end - start), start, end - start) for start, end in ranges]


@pytest.mark.parametrize(
    ("stored", "committed", "ranges"),
    [
        ([], 0, []),
        ([(0, 5)], 5, [(0, 5)]),
        ([(5, 9)], 0, [(5, 9)]),
        ([(0, 5), (5, 9)], 9, [(0, 9)]),
        ([(0, 5), (6, 9)], 5, [(0, 5), (6, 9)]),
        ([(0, 5), (3, 9)], 9, [(0, 9)]),
        ([(0, 9), (2, 4)], 9, [(0, 9)]),
        # A shorter part for the same place, from a call that was given up, takes nothing away.
        ([(0, 2), (0, 9), (9, 12)], 12, [(0, 12)]),
        ([(0, 4), (2, 6), (5, 8), (8, 9), (10, 11)], 9, [(0, 9), (10, 11)]),
    ],
)
def test_the_file_goes_to_the_first_gap(
    stored: list[tuple[int, int]], committed: int, ranges: list[tuple[int, int]]
) -> None:
    for order in itertools.permutations(parts(*stored)):
        assert sum(segment.size_bytes for segment in file_segments(order)) == committed
        assert [(each.start, each.stop) for each in stored_ranges(order)] == ranges


def test_parts_that_overlap_give_each_byte_once() -> None:
    content = random.Random(1).randbytes(1000)
    cuts = random.Random(2)
    for _ in range(200):
        starts = [cuts.randrange(1000) for _ in range(12)]
        stored = parts((0, 100), *((start, min(1000, start + 150)) for start in starts))
        objects = {part.name: content[part.offset : part.end] for part in stored}
        read = b"".join(
            objects[each.name][each.skip : each.skip + each.size_bytes]
            for each in file_segments(stored)
        )
        assert read == content[: stored_ranges(stored)[0].stop]


def test_only_objects_of_the_size_in_their_name_are_parts() -> None:
    assert parse_part(appended_name(7), 9) == Part(appended_name(7), 7, 9)
    assert parse_part(linked_name(7, 9), 9) == Part(linked_name(7, 9), 7, 9)
    for name, size in (
        (linked_name(7, 9), 8),
        (linked_name(7, 9), 10),
        (appended_name(7), 0),
        ("header.json", 9),
        ("7", 9),
        (linked_name(7, 9) + "x", 9),
    ):
        assert parse_part(name, size) is None, name
