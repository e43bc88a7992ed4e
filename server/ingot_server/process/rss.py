"""The resident memory of a process and its descendants, read from Linux's /proc.

RLIMIT_AS limits each process by itself and counts address space, of which Deno's V8 reserves tens
of GiB. This module counts what is resident. Pages that processes share count once for each process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of the process `pid` and all its living descendants.

    Returns 0 if these processes have ended, or if the system does not have /proc.
    """
    total, pids = 0, [pid]
    while pids:
        entry = Path("/proc", str(pids.pop()))
        try:
            total += int((entry / "statm").read_bytes().split()[1]) * _PAGE_BYTES
            for children in entry.glob("task/*/children"):
                pids += map(int, children.read_bytes().split())
        except (OSError, IndexError):
            continue  # The process has ended since its parent's entry was read.
    return total
