"""What an intruder in a child would try. Each attempt returns if it succeeds, and raises if not.

It imports only the standard library: it runs in place of the programs that read media. `tried`
returns the names of the attempts that succeeded.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)


def called(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def read(path: str) -> None:
    with Path(path).open("rb") as file:
        file.read(1)


def connect(family: int, kind: int, address: Any) -> None:
    with socket.socket(family, kind) as trial:
        trial.settimeout(5)
        trial.connect(address)


def forked(limit: int) -> int:
    """Return how many processes could be started, at most `limit`."""
    count = 0
    try:
        while count < limit:
            if not os.fork():
                signal.pause()
            count += 1
    except OSError:
        pass
    return count


def attempts(targets: dict[str, Any]) -> dict[str, Callable[[], object]]:
    parent, outside = os.getppid(), targets["outside"]
    inet, unix = socket.AF_INET, socket.AF_UNIX
    return {
        "reads /etc/shadow": lambda: read("/etc/shadow"),
        "reads the data directory": lambda: list(Path(outside).iterdir()),
        "reads the keys of S3": lambda: read(targets["keys"]),
        "reads its parent's environment": lambda: read(f"/proc/{parent}/environ"),
        "reads its parent's memory": lambda: read(f"/proc/{parent}/mem"),
        "reads other jobs' files": lambda: read(targets["other_job"]),
        "connects to Redis by its socket": lambda: connect(
            unix, socket.SOCK_STREAM, targets["redis"]
        ),
        "connects to an abstract socket": lambda: connect(
            unix, socket.SOCK_STREAM, "\0" + targets["abstract"]
        ),
        "connects by TCP": lambda: connect(
            inet, socket.SOCK_STREAM, ("127.0.0.1", targets["port"])
        ),
        "connects by TCP of IPv6": lambda: connect(
            socket.AF_INET6, socket.SOCK_STREAM, ("::1", targets["port_of_ipv6"])
        ),
        "connects by UDP": lambda: connect(inet, socket.SOCK_DGRAM, ("127.0.0.1", 53)),
        "makes a raw socket": lambda: socket.socket(inet, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "makes a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
        "makes datagram sockets": lambda: socket.socketpair(unix, socket.SOCK_DGRAM),
        "writes outside": lambda: Path(outside, "written").touch(),
        "writes to /tmp": lambda: Path("/tmp/ingot-attempt").touch(),
        "makes a device": lambda: os.mknod(f"{targets['scratch']}/device", 0o20666, 0x0103),
        "traces its parent": lambda: called(LIBC.ptrace(0x4206, parent, None, None)),
        "signals its parent": lambda: os.kill(parent, signal.SIGCONT),
        "signals all": lambda: os.kill(-1, signal.SIGCONT),
        "limits its parent": lambda: resource.prlimit(parent, resource.RLIMIT_CORE, (1, 1)),
        "becomes root": lambda: os.setresuid(0, 0, 0),
        "enters a namespace": lambda: called(LIBC.unshare(0x10000000)),
        "mounts": lambda: called(LIBC.mount(b"none", b"/mnt", b"tmpfs", 0, None)),
        "changes its root": lambda: os.chroot("/"),
        "leaves its group": lambda: os.setpgid(0, 0),
        "uses io_uring": lambda: called(LIBC.syscall(425, 1, ctypes.create_string_buffer(120))),
    }


def tried(targets: dict[str, Any]) -> list[str]:
    """Return the attempts that succeeded, and what the child needs if that failed."""
    succeeded = []
    for name, attempt in attempts(targets).items():
        try:
            attempt()
            succeeded.append(name)
        except OSError:
            pass
    Path(targets["result"]).write_text("it can write to its own directory")
    return succeeded
