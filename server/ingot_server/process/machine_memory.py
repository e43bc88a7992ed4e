"""How much memory this machine, or the container that this process runs in, has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

# Where the limits are, and what they are called (Linux, cgroup-v2.rst and cgroup-v1/memory.rst).
_VERSION_2: Final = ("sys/fs/cgroup", "memory.max")
_VERSION_1: Final = ("sys/fs/cgroup/memory", "memory.limit_in_bytes")


def machine_memory_bytes(root: Path = Path("/")) -> int:
    """Return the memory of the machine, or the least limit of the control groups around us.

    `root` is where /proc and /sys are.
    """
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_limits(root)])


def _limits(root: Path) -> Iterator[int]:
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return  # The system has no control groups.
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        place, name = _VERSION_1 if controllers else _VERSION_2
        group = PurePosixPath(path)
        # In a container the path may be that outside of it; then only the top exists.
        for each in (group, *group.parents):
            try:
                text = (root / place / str(each).lstrip("/") / name).read_text()
            except OSError:
                continue
            if text.strip().isdigit():  # It is `max` if there is no limit.
                yield int(text)
