"""Ports and socket paths that embedded mode reserves on a machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import socket
import stat
import sys
import tempfile
from pathlib import Path
from typing import Final, Self

from ingot_server.setting_values import SettingError

# The kernel gives ports from here to outgoing connections, and to servers that use any free port
# (ip(7), ip_local_port_range).
_EPHEMERAL_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST_PORT: Final = 20_000
_TRIES: Final = 20
_SOCKET_PATH_BYTES: Final = 100  # the shortest limit is macOS's: 104 with the closing zero


class Ports:
    """Ports that are reserved until the `with` block ends.

    Each is bound by a socket that never listens. So the kernel does not give it to a program that
    uses any free port, while a server of ours, which sets SO_REUSEADDR as all servers do, can
    listen on it, also after a restart. Systems other than Linux would refuse our server too: there
    a port is only found and not reserved.

    A free port is one that nothing else gets by chance, if the system has such ports. So it is
    likely to be free the next time, too, when it is reserved by its number.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for reserved in self._sockets:
            reserved.close()

    def reserve(self, host: str, port: int = 0) -> int:
        """Reserve `port`, or a free one for 0; return it. Raises OSError if it is in use."""
        family, *_, target = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        reserved = socket.socket(family, socket.SOCK_STREAM)
        self._sockets.append(reserved)
        # Connections of an earlier run that are still closing do not count.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((target[0], port or _free_port(family, str(target[0])), *target[2:]))
        found: int = reserved.getsockname()[1]
        if sys.platform != "linux":
            reserved.close()
        return found

    def reserve_address(self, setting: str, address: str) -> str:
        """Reserve the port in `address`, a free one for port 0; return the address with it.

        It is chosen here and not by the server, so that a restarted server has the same port.
        Raises SettingError, which names `setting`, when the port is in use.
        """
        if address.startswith("unix:"):
            return address
        host, colon, port = address.rpartition(":")
        name = host.strip("[]")
        try:
            if not colon:
                raise ValueError
            return f"{host}:{self.reserve(name, int(port))}"
        except (ValueError, OverflowError):
            raise SettingError(f"{setting}={address!r} is not HOST:PORT.") from None
        except OSError as error:
            raise SettingError(
                f"{setting}: port {port} of {name or 'this machine'} cannot be used: "
                f"{error.strerror or error}. Choose another one; port 0 selects a free one."
            ) from error


def _free_port(family: socket.AddressFamily, address: str) -> int:
    """Return a port without a service, which the kernel does not choose; 0 if none is found."""
    try:
        highest = int(_EPHEMERAL_PORTS.read_text().split()[0])
    except OSError:
        return 0
    ports = range(_LOWEST_PORT, highest)
    for port in random.sample(ports, min(_TRIES, len(ports))):
        # Without SO_REUSEADDR, this fails if any other socket is bound to it.
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as attempt:
            attempt.bind((address, port))
            if not _has_service(port):
                return port
    return 0


def _has_service(port: int) -> bool:
    """Return whether a service is registered for a port (services(5))."""
    try:
        socket.getservbyport(port, "tcp")
    except OSError:
        return False
    return True


def socket_path(directory: Path, name: str) -> Path:
    """Return a path for a Unix socket of `directory`: in it, or in a short private directory.

    The same directory always gives the same path, so no files accumulate after a SIGKILL.
    """
    path = directory / name
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
    short = Path(tempfile.gettempdir(), f"ingot-{os.getuid()}-{digest}")
    short.mkdir(mode=0o700, exist_ok=True)
    # Another user may have put a directory or a link there first.
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        short = Path(tempfile.mkdtemp(prefix="ingot-"))
    return short / name
