"""A network namespace in which processes reach nothing but listeners that another process accepts.

    worker (machine's network) <--SCM_RIGHTS-- fork server --fork--> child (in the namespace)
      accepts on the listener                   makes the listener     connects to 127.0.0.1

The namespace has a loopback interface and no other. A listener belongs to the namespace that it was
made in, whichever process accepts on it, so nothing has to forward what the guard relays anyway.
See network_namespaces(7) and user_namespaces(7).
"""

from __future__ import annotations

import functools
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from ingot_server.process import privileges

HOST: Final = "127.0.0.1"
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1 << 0
# struct ifreq: the name of an interface, and its flags.
_INTERFACE: Final = struct.Struct("=16sH22x")
_TRIAL_SECONDS: Final = 10.0
# With -I, only this says where the packages are.
_TRIAL: Final = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from ingot_server.process.network_namespace import enter; enter([0])"
)


def enter(ports: Sequence[int]) -> list[socket.socket]:
    """Leave the machine's network; return listeners on these TCP ports of 127.0.0.1 in a new one.

    Nothing can undo this. Call it with one thread. Raises OSError.
    """
    privileges.enter_network_namespace(_start_loopback)
    return [socket.create_server((HOST, port)) for port in ports]


@functools.cache
def is_available() -> bool:
    """Return whether `enter` works here. The first call takes 30 ms: a process of its own tries."""
    if sys.platform != "linux":
        return False
    place = __file__.removesuffix("/ingot_server/process/network_namespace.py")
    command = [sys.executable, "-I", "-S", "-c", _TRIAL, place]
    try:
        subprocess.run(  # noqa: S603 - this program
            command, timeout=_TRIAL_SECONDS, check=True, capture_output=True
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _start_loopback() -> None:
    from fcntl import ioctl  # other systems may lack it

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as interfaces:
        found = ioctl(interfaces, _SIOCGIFFLAGS, _INTERFACE.pack(b"lo", 0))
        _, flags = _INTERFACE.unpack(found)
        ioctl(interfaces, _SIOCSIFFLAGS, _INTERFACE.pack(b"lo", flags | _IFF_UP))
