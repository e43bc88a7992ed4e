"""Which ranges of a file are fetched for what a demuxer reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingot_server.section.remote_file import FIRST_BYTES, FetchedRanges, RemoteFile

KIB = 1 << 10


@pytest.mark.parametrize(
    ("fetched", "position", "expected"),
    [
        ([], 0, (0, 64 * KIB)),
        # Each range that continues another is longer by half, up to 4 MiB.
        ([(0, 64)], 64 * KIB, (64 * KIB, 160 * KIB)),
        ([(0, 4096)], 4096 * KIB, (4096 * KIB, 8192 * KIB)),
        # After a jump it is short again.
        ([(0, 64)], 500 * KIB, (500 * KIB, 564 * KIB)),
        # It ends where the next one begins, or the file ends.
        ([(0, 64), (100, 200)], 64 * KIB, (64 * KIB, 100 * KIB)),
        ([(100, 200)], 90 * KIB, (90 * KIB, 100 * KIB)),
        ([], 9990 * KIB, (9990 * KIB, 10_000 * KIB)),
    ],
)
def test_a_range_is_as_long_as_the_reader_is_steady(
    fetched: list[tuple[int, int]], position: int, expected: tuple[int, int]
) -> None:
    ranges = FetchedRanges(10_000 * KIB)
    for begin, end in fetched:
        ranges.add(begin * KIB, end * KIB)

    assert ranges.place_of(position) is None
    assert ranges.to_fetch(position) == expected


def test_a_byte_is_found_where_its_range_was_appended() -> None:
    ranges = FetchedRanges(1000)
    ranges.add(500, 600)
    ranges.add(0, 100)

    assert ranges.place_of(550) == (50, 50)
    assert ranges.place_of(10) == (110, 90)
    assert ranges.place_of(100) is None


def test_a_reader_gets_the_bytes_of_the_file_and_fetches_each_once(tmp_path: Path) -> None:
    content = os.urandom(700_000)
    path, asked = tmp_path / "ranges", list[tuple[int, int]]()

    def fetch(begin: int, end: int) -> None:
        asked.append((begin, end))
        with path.open("ab") as file:
            file.write(content[begin:end])

    file = RemoteFile(str(path), len(content), fetch)
    for begin, size in [(600_000, 90_000), (0, 300_000), (600_000, 200_000), (250_000, 10)]:
        file.seek(begin)
        found = b""
        while len(found) < size and (data := file.read(size - len(found))):
            found += data
        assert found == content[begin : begin + size]

    assert file.read(1) != b""
    assert file.seek(0, os.SEEK_END) == len(content)
    assert file.read(1) == b""
    assert file.seek(-1) < 0
    assert len(asked) == len(set(asked))
    assert sum(end - begin for begin, end in asked) < len(content)
    assert max(asked[0][1] - asked[0][0], FIRST_BYTES) == FIRST_BYTES
