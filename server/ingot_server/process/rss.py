"""How much memory a process and all below it hold, where the kernel tells (Linux's /proc).

RLIMIT_AS bounds each process by itself and counts address space, of which Deno's V8 reserves tens
of GiB; this counts what is resident. Pages that processes share count for each of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """Of the living processes at and below `pid`; 0 where nobody tells, or they are gone."""
    total, waiting = 0, [pid]
    while waiting:
        place = Path("/proc", str(waiting.pop()))
        try:
            total += int((place / "statm").read_bytes().split()[1]) * _PAGE_BYTES
            for children in place.glob("task/*/children"):
                waiting += map(int, children.read_bytes().split())
        except (OSError, IndexError):
            continue  # It has ended since its parent named it.
    return total
