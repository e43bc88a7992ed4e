"""The ports and the socket paths that embedded mode takes on a machine."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import sys
import tempfile
from pathlib import Path
from typing import Final, Self

from ingot_server.config import SettingError

_SOCKET_PATH_BYTES: Final = 100  # the shortest limit is macOS's: 104 with the closing zero


class Ports:
    """Ports that stay ours from when they were found until the `with` block ends.

    Each is bound by a socket that never listens. So the kernel gives it to nobody who takes any
    free port or connects from one, while a server of ours, which as all servers sets SO_REUSEADDR,
    listens on it, and again after it died. Other systems than Linux refuse that server too: there
    a port is only found.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for held in self._held:
            held.close()

    def take(self, host: str, port: int = 0) -> int:
        """The port, or a free one for 0. Raises OSError when somebody listens on it."""
        family, *_, target = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        held = socket.socket(family, socket.SOCK_STREAM)
        self._held.append(held)
        # Connections of an earlier run that still linger do not count.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(target)
        found: int = held.getsockname()[1]
        if sys.platform != "linux":
            held.close()
        return found

    def address(self, setting: str, address: str) -> str:
        """`address` with its port taken, a free one in place of port 0.

        It is found here and not by the server, so that a server that is started again is where it
        was. Raises SettingError, naming `setting`, when the port is in use.
        """
        if address.startswith("unix:"):
            return address
        host, colon, port = address.rpartition(":")
        name = host.strip("[]")
        try:
            if not colon:
                raise ValueError
            return f"{host}:{self.take(name, int(port))}"
        except (ValueError, OverflowError):
            raise SettingError(f"{setting}={address!r} is not HOST:PORT.") from None
        except OSError as error:
            raise SettingError(
                f"{setting}: port {port} of {name or 'this machine'} cannot be had: "
                f"{error.strerror or error}. Name another one; port 0 takes a free one."
            ) from error


def socket_path(directory: Path, name: str) -> Path:
    """Where a Unix socket of `directory` can be: in it, or in a short private directory.

    The same directory always gives the same path, so nothing piles up after a SIGKILL.
    """
    path = directory / name
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
    short = Path(tempfile.gettempdir(), f"ingot-{os.getuid()}-{digest}")
    short.mkdir(mode=0o700, exist_ok=True)
    # Somebody else may have put a directory or a link there first.
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        short = Path(tempfile.mkdtemp(prefix="ingot-"))
    return short / name
