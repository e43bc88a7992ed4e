"""What processes take: memory and processor time, as Linux counts them (proc(5))."""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from tests.installation import command_line, descendants

MEBIBYTE = 1 << 20
INGOT = ("API server", "worker", "probes", "extractions", "up")
STORES = ("Redis", "S3")
_TICKS = os.sysconf("SC_CLK_TCK")
# What the command line of a process says about it: the first that applies.
_ROLES = (
    ("probe_main.py", "probes"),
    ("child_main.py", "extractions"),
    ("serve", "API server"),
    ("worker", "worker"),
    ("valkey-server", "Redis"),
    ("weed", "S3"),
    ("minio", "S3"),
    ("bench.origin", "source"),
    ("up", "up"),
)


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    return [pid, *descendants(pid)]


def memory_bytes(pids: Iterable[int]) -> int:
    """Proportional set size: memory that processes share counts once (proc_pid_smaps(5))."""
    return sum(map(_proportional_set_size, pids))


def processor_seconds(pids: Iterable[int]) -> float:
    """Of these processes since they began, and of their children that have ended."""
    return sum(map(_ticks, pids)) / _TICKS


def wakeups(pid: int) -> int:
    """How often the threads of a process have waited so far (proc_pid_status(5))."""
    found = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        # A thread may end meanwhile.
        with contextlib.suppress(OSError):
            _, _, count = status.read_text().partition("\nvoluntary_ctxt_switches:")
            found += int(count.partition("\n")[0])
    return found


def processor_seconds_by_role(pid: int) -> Mapping[str, float]:
    """The same of the process `pid` and all below it. What has ended counts for its parent."""
    seconds = defaultdict[str, float](float)
    for each in tree(pid):
        seconds[role(each)] += processor_seconds([each])
    return seconds


def busy_seconds() -> float:
    """What all processes of the machine have used of its processors, and the kernel for them."""
    user, nice, system, _, _, interrupts, soft_interrupts, *_ = map(
        int, Path("/proc/stat").read_text().split(maxsplit=11)[1:11]
    )
    return (user + nice + system + interrupts + soft_interrupts) / _TICKS


def role(pid: int) -> str:
    """What a process of an installation does."""
    names = {Path(word.split(" ")[0]).name for word in command_line(pid)}
    return next((role for name, role in _ROLES if name in names), "others")


def use_processors(pids: Iterable[int], processors: Collection[int]) -> None:
    """Have these processes, and what they start, run on these processors only."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), processors)


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
