"""The bytes of a file while they are copied: counted, compared with the manifest, or given up.

Whoever reads them to their end has the file that its manifest describes. What is not that file
raises before the last byte is used, so no copy of it comes into being.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from ingot.v1 import reason_pb2
from ingot_server.backup.relocation import NamedFile
from ingot_server.errors import Failure
from ingot_server.library.damage import wrong_content, wrong_size
from ingot_server.transfer.part_reader import PartReader

T = TypeVar("T")


class CopyStopped(Exception):
    """The copy was given up."""


def verified(
    chunks: Iterator[bytes], file: NamedFile, count: Callable[[int], object]
) -> Iterator[bytes]:
    """Yield `chunks`, all of `file`; `count` gets the size of each.

    Raises Failure MEDIA_DAMAGED at their end if they are not that file.
    """
    size, digest = 0, hashlib.sha256()
    for chunk in chunks:
        size += len(chunk)
        digest.update(chunk)
        count(len(chunk))
        yield chunk
    if size != file.size_bytes:
        raise Failure(reason_pb2.REASON_MEDIA_DAMAGED, wrong_size(size, file.size_bytes))
    if file.sha256 and digest.hexdigest() != file.sha256:
        problem = wrong_content(digest.hexdigest(), file.sha256)
        raise Failure(reason_pb2.REASON_MEDIA_DAMAGED, problem)


async def in_thread(work: Callable[[Callable[[], None]], T]) -> T:
    """Return the result of `work`, in a thread.

    It gets a function that it calls now and then, which raises CopyStopped after a cancellation.
    """
    stopped = threading.Event()

    def check() -> None:
        if stopped.is_set():
            raise CopyStopped

    try:
        return await asyncio.to_thread(work, check)
    except asyncio.CancelledError:
        stopped.set()
        raise


class VerifiedContent:
    """Chunks as `Blobs.upload` wants them: parts of a file, each of which can be sent again.

    Only the part that is being sent is kept, in a file in `directory`. So the upload must send one
    part after another.
    """

    def __init__(self, chunks: Iterator[bytes], size_bytes: int, directory: Path) -> None:
        self.expected_bytes: int | None = size_bytes
        self._chunks = chunks
        self._kept = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
        # The file has the bytes from `_begin` to `_end`; those up to `_taken` were in a part.
        self._begin = self._end = self._taken = 0
        self._rest = b""
        self._closed = False

    def wait(self, end: int) -> int:
        """Receive bytes until `end`, or all; return how many there are up to it."""
        if end > self._end == self._taken:
            self._begin = self._end
        while self._end < end and (chunk := self._rest or next(self._chunks, b"")):
            if self._closed:
                raise CopyStopped
            wanted, self._rest = chunk[: end - self._end], chunk[end - self._end :]
            self._write(wanted)
        return min(end, self._end)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._kept.fileno(), view, self._end - self._begin)
            self._end += written
            view = view[written:]

    def part(self, begin: int, end: int) -> BinaryIO:
        """Return a reader of bytes that are there."""
        self._taken = max(self._taken, end)

        def read_at(size: int, position: int) -> bytes:
            return os.pread(self._kept.fileno(), size, position - self._begin)

        return cast("BinaryIO", PartReader(read_at, begin, end))

    def close(self) -> None:
        """End a `wait` in another thread, before its next chunk."""
        self._closed = True
        self._kept.close()
