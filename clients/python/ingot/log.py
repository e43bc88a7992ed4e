"""The log of the client, `logging.getLogger("ingot")`: each call, its status and its time."""

from __future__ import annotations

import logging
import sys
import time
from typing import Final, Protocol

logger: Final = logging.getLogger("ingot")


class _Status(Protocol):
    @property
    def name(self) -> str: ...


def log_call(request: object, status: _Status, begin: float) -> None:
    """Log a call that began at `begin` of the monotonic clock and has ended with this status.

    A stream that the client ended, because it has all that it wants, has ended with OK.
    """
    milliseconds = (time.monotonic() - begin) * 1000
    method = type(request).__name__.removesuffix("Request")
    logger.debug("%s: %s in %.0f ms", method, status.name, milliseconds)


def show_log() -> None:
    """Write the log to stderr."""
    logger.setLevel(logging.DEBUG)
    logger.addHandler(_StderrHandler())


class _StderrHandler(logging.Handler):
    """Writes to what stderr is now: a bar replaces it, to stay below the lines."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"ingot: {self.format(record)}\n")
