"""Ends an extraction that holds too much memory or of which nothing moves."""

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

_LOOKS: Final = 8


class MemoryWatch:
    """Whether the child and what it started hold no more memory than one job may."""

    interval: Final = 1.0

    def __init__(self, pid: int, limit: int) -> None:
        self._pid = pid
        self._limit = limit
        self._clock = asyncio.get_running_loop().time
        self._next = 0.0

    def look(self) -> None:
        """Raises Failure EXTRACTOR_CRASHED when they do."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self.interval
        if resident_bytes(self._pid) > self._limit:
            raise crashed("it outgrew INGOT_EXTRACTOR_MEMORY")


class StallWatch:
    """Whether bytes move: those received, and those on the disk while ffmpeg writes."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.done = 0
        self._directory = directory
        self._timeout = settings.stall_timeout.total_seconds()
        self._due = max(1, int(settings.stall_rate * self._timeout))
        self._clock = asyncio.get_running_loop().time
        self.interval = self._timeout / _LOOKS
        self._next = 0.0
        self._mark, self._since = 0, self._clock()

    def look(self) -> None:
        """Raises Failure STALLED when too little moved for stall_timeout."""
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
                f"The source sent nothing, or nearly nothing, for {self._timeout:g} s.",
            )


def _bytes_of_files(directory: Path) -> int:
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            # The child may take a file away between its name and its size.
            with suppress(FileNotFoundError):
                total += entry.stat().st_size if entry.is_file() else 0
    return total
