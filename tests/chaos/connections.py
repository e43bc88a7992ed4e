"""Which process has a TCP connection, as proc_pid_fd(5) and /proc/net/tcp (proc_pid_net(5)) say."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_LOCAL_ADDRESS, _INODE = 1, 9


def process_of_port(port: int, pids: Iterable[int]) -> int | None:
    """Return the one of the processes whose connection begins at this local port.

    None if that is none of them, or if the connection or the process has ended.
    """
    inodes = {
        fields[_INODE]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if int((fields := line.split())[_LOCAL_ADDRESS].rpartition(":")[2], 16) == port
    }
    names = {f"socket:[{inode}]" for inode in inodes}
    return next((pid for pid in pids if not names.isdisjoint(_open_files(pid))), None)


def _open_files(pid: int) -> Iterable[str]:
    try:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            yield str(file.readlink())
    except OSError:
        return
