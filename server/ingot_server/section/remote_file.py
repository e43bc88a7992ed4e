"""A file at a source of which only those ranges are fetched that are read.

What is fetched is appended to a file on the disk. A demuxer reads the index first, then what the
index says; so the first range after a jump is short, and each one that continues another is longer
by half.
"""

from __future__ import annotations

import bisect
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

FIRST_BYTES: Final = 64 << 10
"""The length of a range after a jump."""
_MAX_BYTES: Final = 4 << 20


class NotIndexed(Exception):
    """The file has no index that says which ranges are needed, so it has to be fetched whole."""


@dataclass(frozen=True, slots=True)
class _Range:
    begin: int
    end: int
    place: int
    """Where its bytes are in the file on the disk."""


class FetchedRanges:
    """Which ranges of a file of `size` bytes are there. Pure."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._ranges: list[_Range] = []
        self._fetched_bytes = 0

    def place_of(self, position: int) -> tuple[int, int] | None:
        """Return where the byte at `position` is on the disk, and how many follow with it."""
        found = self._before(position)
        if found is None or found.end <= position:
            return None
        return found.place + position - found.begin, found.end - position

    def to_fetch(self, position: int) -> tuple[int, int]:
        """Return the beginning and the end of the range to fetch for the byte at `position`."""
        before = self._before(position)
        length = FIRST_BYTES
        if before is not None and before.end == position:
            length = min((before.end - before.begin) * 3 // 2, _MAX_BYTES)
        index = bisect.bisect_right(self._ranges, position, key=lambda each: each.begin)
        following = self._ranges[index].begin if index < len(self._ranges) else self._size
        return position, min(position + length, following)

    def add(self, begin: int, end: int) -> None:
        """Note that a range was appended to the file on the disk."""
        bisect.insort(
            self._ranges, _Range(begin, end, self._fetched_bytes), key=lambda each: each.begin
        )
        self._fetched_bytes += end - begin

    def _before(self, position: int) -> _Range | None:
        index = bisect.bisect_right(self._ranges, position, key=lambda each: each.begin)
        return self._ranges[index - 1] if index else None


class RemoteFile:
    """A file as a demuxer reads it. `fetch(begin, end)` appends that range to the file at `path`.

    Each range is not empty and within the file of `size` bytes. What `fetch` raises is raised
    where the demuxer is called.
    """

    def __init__(self, path: str, size: int, fetch: Callable[[int, int], None]) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = size
        self._fetch = fetch
        self._ranges = FetchedRanges(size)
        self._position = 0

    def has_first(self, size: int) -> None:
        """Note that the file on the disk has the first `size` bytes."""
        self._ranges.add(0, size)

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; none at the end."""
        if self._position >= self._size or size <= 0:
            return b""
        found = self._ranges.place_of(self._position)
        if found is None:
            begin, end = self._ranges.to_fetch(self._position)
            self._fetch(begin, end)
            self._ranges.add(begin, end)
            found = self._ranges.place_of(self._position)
            assert found is not None
        place, available = found
        content = os.pread(self._descriptor, min(size, available), place)
        self._position += len(content)
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, and return it; as FFmpeg expects it, an error code for a bad one."""
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
        if whence not in starts or starts[whence] + offset < 0:
            return -errno.EINVAL
        self._position = starts[whence] + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position
