"""Processor time of a running Ingot by what its processes do, and the processors that they use."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from tests.installation import command_line, descendants

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
    ("up", "up"),
)


def processor_seconds(pid: int) -> Mapping[str, float]:
    """The processor time of `up`, which is `pid`, and of all below it, by role.

    That of a process includes that of its children that have ended (proc_pid_stat(5)).
    """
    seconds = defaultdict[str, float](float)
    for each in (pid, *descendants(pid)):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # Its time counts for its parent by now.
        seconds[role(command_line(each))] += sum(map(int, fields[11:15])) / _TICKS
    return seconds


def role(words: Collection[str]) -> str:
    """What a process with this command line does."""
    names = {Path(word.split(" ")[0]).name for word in words}
    return next((role for name, role in _ROLES if name in names), "others")


def use_processors(pids: Collection[int], processors: Collection[int]) -> None:
    """Have these processes, and what they start, run on these processors only."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), processors)
