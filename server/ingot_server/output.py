"""Standard output and standard error that never stop a service.

Whoever reads them may stop reading, or close them; they may have been closed from the start. A
service loses lines then, and nothing else.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import select
import sys
import threading
from collections import deque
from typing import Final

_LARGEST_BACKLOG: Final = 1 << 20
_FLUSH_SECONDS: Final = 1.0


class LossyOutput(io.TextIOBase):
    """A text stream to a file descriptor whose `write` neither waits nor fails.

    A thread writes. What it has not written yet is kept, up to a MiB; what comes then is lost, and
    a line says how much.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._changed = threading.Condition()
        self._backlog: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._thread = threading.Thread(target=self._write_backlog, name="output", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Have the text written, or lose it."""
        data = text.encode(errors="backslashreplace")
        with self._changed:
            if self._size + len(data) > _LARGEST_BACKLOG:
                self._lost += len(data)
            else:
                if self._lost:
                    self._add(f"ingot-server: {self._lost} bytes of output were lost.\n".encode())
                    self._lost = 0
                self._add(data)
            self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Return at once; the thread flushes."""

    def wait_until_written(self) -> None:
        """Wait for the thread, but not for long: nobody may be reading."""
        with self._changed:
            self._changed.wait_for(lambda: not self._size, _FLUSH_SECONDS)

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Return whether a terminal shows what is written."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """Return True."""
        return True

    def _add(self, data: bytes) -> None:
        self._backlog.append(data)
        self._size += len(data)

    def _write_backlog(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._backlog)
                data = b"".join(self._backlog)
                self._backlog.clear()
            # An error, such as EPIPE: the reader is gone, and this text with it.
            with contextlib.suppress(OSError):
                self._write_all(memoryview(data))
            with self._changed:
                self._size -= len(data)
                self._changed.notify_all()

    def _write_all(self, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                # Another program with this terminal or pipe made it non-blocking.
                select.select([], [self._fd], [])


def open_missing_descriptors() -> None:
    """Open /dev/null as each of the standard descriptors that is closed.

    Otherwise the next file or socket would get its number, and receive what is written to it.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != fd:
                os.dup2(opened, fd)
                os.close(opened)
            os.set_inheritable(fd, True)
    # Python has no streams for descriptors that were closed when it began.
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def write_lossily() -> None:
    """Make the standard streams of this process lossy, until it ends."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        output = LossyOutput(fd)
        setattr(sys, name, output)
        setattr(sys, f"__{name}__", output)
        atexit.register(output.wait_until_written)
