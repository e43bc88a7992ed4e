"""A scratch file that grows while another thread reads it."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from ingot_server.errors import Failure
from ingot_server.transfer.part_reader import PartReader

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Abandoned(Exception):
    """The file was closed, or was emptied after bytes of it were read: discard these bytes."""


class Progress:
    """The progress of one file, shared by the thread that writes it and those that read it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._complete = False
        self._restarts = 0
        self.size = 0
        self.expected_bytes: int | None = None
        self.was_read = False

    def advance(self, count: int) -> None:
        with self._changed:
            self.size += count
            self._changed.notify_all()

    def complete(self) -> None:
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def fail(self, exc: BaseException) -> None:
        with self._changed:
            if not self._complete and self._failure is None:
                self._failure = exc
                self._changed.notify_all()

    def close(self) -> None:
        """End all readers that have not reached the end, also those of a complete file."""
        with self._changed:
            self._failure = self._failure or Abandoned("The file was closed.")
            self._changed.notify_all()

    def restart(self) -> None:
        with self._changed:
            self.size = 0
            self.expected_bytes = None
            self._restarts += 1 if self.was_read else 0
            self.was_read = False
            self._changed.notify_all()

    def wake(self) -> None:
        """Make readers check again whether they are closed."""
        with self._changed:
            self._changed.notify_all()

    def wait_for_bytes(
        self,
        position: int,
        limit: int,
        restarts: int,
        closed: Callable[[], bool],
        *,
        outlives: bool = False,
    ) -> int:
        """Return how many bytes can be read at `position`, once `limit` or the end is there."""
        with self._changed:
            while True:
                if closed():
                    raise Abandoned("The reader was closed.")
                if self._failure is not None and not (outlives and self._complete):
                    if isinstance(self._failure, Failure | Abandoned):
                        raise self._failure
                    raise Abandoned("The writer abandoned the file.") from self._failure
                if restarts != self._restarts:
                    raise Abandoned("The file was emptied and begins again.")
                if self._complete or self.size - position >= limit:
                    self.was_read = self.was_read or position < self.size
                    return min(limit, self.size - position)
                self._changed.wait()

    @property
    def restarts(self) -> int:
        with self._changed:
            return self._restarts


class TailReader(io.RawIOBase):
    """A blocking reader of a growing file.

    `read(n)` returns exactly n bytes, fewer only at the end of the complete file. It raises the
    writer's Failure, or Abandoned when the file was emptied or either side was closed, from any
    thread; then discard all that was read. A reader that `outlives` the file goes on after the
    writer's close if the file is complete.
    """

    def __init__(self, path: Path, progress: Progress, *, outlives: bool = False) -> None:
        super().__init__()
        self._outlives = outlives
        self._file = path.open("rb", buffering=0)
        self._progress = progress
        self._restarts = progress.restarts
        self._position = 0
        self._ended = False
        self._reading = threading.Lock()

    @property
    def expected_bytes(self) -> int | None:
        """How large the file will be, as far as its writer knows."""
        return self._progress.expected_bytes

    def wait(self, end: int) -> int:
        """Wait until byte `end` is there, or the file is complete; return how many there are."""
        return self._progress.wait_for_bytes(
            0, end, self._restarts, lambda: self._ended, outlives=self._outlives
        )

    def part(self, begin: int, end: int) -> BinaryIO:
        """Return another reader, of bytes that are there. It fails as this one does."""

        def read_at(size: int, position: int) -> bytes:
            with self._reading:
                self._check_open()
                data = os.pread(self._file.fileno(), size, position)
            # What is there now may have been written after the file was emptied.
            self.wait(0)
            if not data:
                raise Abandoned("The file was emptied and begins again.")
            return data

        return cast("BinaryIO", PartReader(read_at, begin, end))

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._available(size if size >= 0 else 1 << 62)
        with self._reading:
            self._check_open()
            data = self._file.read(wanted) or b""
        self._position += len(data)
        if len(data) == wanted:
            return data
        # The system returns less if more than 2 GiB are requested, or if the file was emptied.
        rest = memoryview(bytearray(wanted - len(data)))
        self._fill(rest)
        return data + rest

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        wanted = self._available(len(view))
        self._fill(view[:wanted])
        return wanted

    def close(self) -> None:
        self._ended = True
        self._progress.wake()
        # If it were closed during a read, its descriptor could be another file's by then.
        with self._reading:
            self._file.close()
        super().close()

    def _available(self, limit: int) -> int:
        return self._progress.wait_for_bytes(
            self._position, limit, self._restarts, lambda: self._ended, outlives=self._outlives
        )

    def _fill(self, view: memoryview) -> None:
        while view:
            with self._reading:
                self._check_open()
                count = self._file.readinto(view)
            if not count:
                raise Abandoned("The file was emptied and begins again.")
            self._position += count
            view = view[count:]

    def _check_open(self) -> None:
        if self._ended:
            raise Abandoned("The reader was closed.")
