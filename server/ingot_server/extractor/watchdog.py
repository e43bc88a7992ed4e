"""Ends an extraction that uses too much memory or makes no progress."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.extractor.failures import crashed
from ingot_server.process.rss import resident_bytes

_CHECKS_PER_TIMEOUT: Final = 8


class MemoryWatchdog:
    """Limits the memory of the child and everything it started."""

    interval: Final = 1.0

    def __init__(self, pid: int, limit: int) -> None:
        self._pid = pid
        self._limit = limit
        self._clock = asyncio.get_running_loop().time
        self._next = 0.0

    def check(self) -> None:
        """Raise Failure EXTRACTOR_CRASHED if they use more than the limit."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self.interval
        if resident_bytes(self._pid) > self._limit:
            raise crashed("it needed more memory than INGOT_EXTRACTOR_MEMORY allows")


class StallWatchdog:
    """Watches the bytes received, and those on the disk while ffmpeg writes."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.done = 0
        self._directory = directory
        self._timeout = settings.stall_timeout.total_seconds()
        self._due = max(1, int(settings.stall_rate * self._timeout))
        self._clock = asyncio.get_running_loop().time
        self.interval = self._timeout / _CHECKS_PER_TIMEOUT
        self._next = 0.0
        self._mark, self._since = 0, self._clock()

    def check(self) -> None:
        """Raise Failure STALLED if too few bytes moved during `stall_timeout`."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self.interval
        moved = self.done + _bytes_of_files(self._directory)
        if abs(moved - self._mark) >= self._due:
            self._mark, self._since = moved, now
        elif now - self._since >= self._timeout:
            raise Failure(
                reason_pb2.REASON_STALLED,
                f"The source sent almost nothing for {self._timeout:g} s. Try again later.",
            )


def _bytes_of_files(directory: Path) -> int:
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            # The child may remove a file after its name was read and before its size is.
            with suppress(FileNotFoundError):
                total += entry.stat().st_size if entry.is_file() else 0
    return total
