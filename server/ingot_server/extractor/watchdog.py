"""Ends an extraction that uses too much memory or makes no progress."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from ingot_server.config import Settings
from ingot_server.extractor.failures import crashed
from ingot_server.process.rss import resident_bytes
from ingot_server.transfer.least_rate import download_rate, first_missed, stall_rate, too_slow

_CHECKS_PER_PERIOD: Final = 8


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


class RateWatchdog:
    """Watches the bytes received, and those on the disk while ffmpeg writes.

    A recording of a live stream lasts as long as it does, whatever its rate is, but may not stall.
    """

    def __init__(self, directory: Path, settings: Settings, *, is_recording: bool = False) -> None:
        self.done = 0
        self._directory = directory
        self._rates = [stall_rate(settings)]
        if not is_recording:
            self._rates.append(download_rate(settings))
        self._clock = asyncio.get_running_loop().time
        self.interval = min(rate.seconds for rate in self._rates) / _CHECKS_PER_PERIOD
        self._next = 0.0
        self._moved = 0
        for rate in self._rates:
            rate.begin(self._clock())

    def check(self) -> None:
        """Raise Failure STALLED if too few bytes have moved."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self.interval
        before, self._moved = self._moved, self.done + _bytes_of_files(self._directory)
        for rate in self._rates:
            rate.count(abs(self._moved - before), now)
        missed = first_missed(self._rates)
        if now > missed.deadline:
            raise too_slow("The source", missed)


def _bytes_of_files(directory: Path) -> int:
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            # The child may remove a file after its name was read and before its size is.
            with suppress(FileNotFoundError):
                total += entry.stat().st_size if entry.is_file() else 0
    return total
