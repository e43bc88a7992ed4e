"""A reader of a part of a file, as an HTTP client wants one: it can go back and send it again."""

from __future__ import annotations

import io
from collections.abc import Callable


class PartReader(io.RawIOBase):
    """Bytes `begin` to `end` of something. `read_at` returns up to so many bytes at a position."""

    def __init__(self, read_at: Callable[[int, int], bytes], begin: int, end: int) -> None:
        super().__init__()
        self._read_at = read_at
        self._begin = begin
        self._size = end - begin
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self._size - self._position)
        wanted = left if size < 0 else min(size, left)
        data = self._read_at(wanted, self._begin + self._position) if wanted else b""
        self._position += len(data)
        return data
