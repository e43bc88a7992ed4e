"""What processes take: memory and processor time, as Linux counts them (proc(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from tests.installation import descendants

MEBIBYTE = 1 << 20
_TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    return [pid, *descendants(pid)]


def memory_bytes(pids: Iterable[int]) -> int:
    """Proportional set size: memory that processes share counts once (proc_pid_smaps(5))."""
    return sum(map(_proportional_set_size, pids))


def processor_seconds(pids: Iterable[int]) -> float:
    """Of these processes since they began, and of their children that have ended."""
    return sum(map(_ticks, pids)) / _TICKS


def name(pid: int) -> str:
    """What the process runs, in a few words."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "ended"
    programs = [Path(word).stem for word in words if word.endswith("_main.py")]
    if programs:
        return programs[-1]
    if "ingot_server.cli" in words:
        return " ".join(words[words.index("ingot_server.cli") + 1 :][:2]).split(" --data")[0]
    return Path(words[0]).name


def _proportional_set_size(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    match = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))
