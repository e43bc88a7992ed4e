"""The limits that the kernel enforces on one child process (setrlimit(2))."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

MAX_PIXELS: Final = 100_000_000
"""Of one picture that a child decodes. A video in 8K has 33 million, in 12K 80 million."""

MAX_FRAME_RATE: Final = 1000
"""Frames per second of a video that a child decodes. Phones record 960 at most."""


def is_excessive_rate(frames: float, seconds: float) -> bool:
    """Return whether a video has more than `MAX_FRAME_RATE`.

    That of a few frames says nothing: the rate of a single frame is the inverse of its length.
    """
    return frames > MAX_FRAME_RATE * max(1.0, seconds)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of each resource one child process may use.

    Past `cpu` the process is killed by SIGXCPU, past `memory_bytes` its allocations fail, and past
    `file_bytes` its writes fail. The memory limit counts address space, so leave room above the
    resident size.
    """

    memory_bytes: int
    cpu: timedelta
    file_bytes: int = 0
    open_files: int = 64

    def rlimits(self) -> dict[str, int]:
        """Return the limits by the names of their resources in the module `resource`."""
        return {
            "RLIMIT_AS": self.memory_bytes,
            "RLIMIT_CPU": max(1, round(self.cpu.total_seconds())),
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_CORE": 0,
        }
