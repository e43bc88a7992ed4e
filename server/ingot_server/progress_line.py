"""The progress of a command, for people and for logs."""

from __future__ import annotations

import math
import time
from typing import Final, TextIO

_TERMINAL_SECONDS: Final = 0.1
_LINE_SECONDS: Final = 5.0


class ProgressLine:
    """Says how far something is: one line that changes on a terminal, else a line now and then."""

    def __init__(self, output: TextIO, label: str) -> None:
        self._output = output
        self._label = label
        self._pause = _TERMINAL_SECONDS if output.isatty() else _LINE_SECONDS
        self._written_at = -math.inf
        self._unwritten = ""

    def show(self, count: int, total: int, detail: str = "") -> None:
        """Say that `count` of `total` are done; `detail` follows."""
        self._unwritten = f"{self._label}: {count} of {total}{detail}"
        if time.monotonic() - self._written_at >= self._pause:
            self._write()

    def end(self) -> None:
        """Say how far it came."""
        if self._unwritten:
            self._write()
        if self._output.isatty():
            self._output.write("\n")

    def _write(self) -> None:
        text = f"\r{self._unwritten}" if self._output.isatty() else f"{self._unwritten}\n"
        self._output.write(text)
        self._output.flush()
        self._written_at, self._unwritten = time.monotonic(), ""
