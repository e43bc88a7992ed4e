"""Bounds on open connections, in all and for each address, and the listener that keeps them.

A connection costs a descriptor of the process. HTTP gets at most half of them, and one address at
most half of those; gRPC gets a quarter, and the rest is for Redis, S3 and files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from collections import Counter
from typing import Any, Final, Self

from ingot_server.api.client_network import client_network
from ingot_server.config import Settings

_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
# Instead of no limit; the kernel has another one then.
_MANY: Final = 1 << 20


def raise_descriptor_limit() -> None:
    """Raise this process's limit of descriptors as far as the system lets it.

    Children inherit it; those that run foreign code have a limit of their own (process/limits.py).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS says "infinity" and refuses it.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_grpc_connections() -> int:
    """Return how many connections gRPC may have open. It counts them itself, only in all."""
    return max(1, _descriptors() // 4)


class ConnectionBounds:
    """A count of open connections, in all and by address."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._by_network: Counter[str] = Counter()
        self.open = 0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the bounds of the HTTP port, within the descriptors that the process may have."""
        most = max(1, min(settings.http_connections, _descriptors() // 2))
        per_address = settings.http_connections_per_address
        return cls(most, min(per_address, max(1, most // 2)) if per_address else most)

    def enter(self, address: str) -> bool:
        """Count a connection from an IP address; False if there is no room for it."""
        network = client_network(address)
        if self.open >= self._most or self._by_network[network] >= self._most_per_address:
            return False
        self.open += 1
        self._by_network[network] += 1
        return True

    def leave(self, address: str) -> None:
        """Count the end of a connection for which `enter` returned True."""
        network = client_network(address)
        self.open -= 1
        self._by_network[network] -= 1
        if not self._by_network[network]:
            del self._by_network[network]


class BoundedListener(socket.socket):
    """A listening TCP socket that closes connections beyond its bounds as soon as it accepts them.

    If the process has no descriptor left, it closes those that wait: otherwise the event loop would
    try again and again to accept them.
    """

    def __init__(self, listening: socket.socket, bounds: ConnectionBounds) -> None:
        super().__init__(fileno=listening.detach())
        self._bounds = bounds
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection within the bounds. Raises BlockingIOError if there is none now."""
        try:
            accepted, peer = super().accept()
        except OSError as error:
            if error.errno not in _NO_DESCRIPTORS:
                raise
            self._refuse_one()
            raise BlockingIOError from error
        if not self._bounds.enter(peer[0]):
            accepted.close()
            # The event loop comes back for the next one, after it has served other connections.
            raise BlockingIOError
        return _Connection(accepted, peer[0], self._bounds), peer

    def close(self) -> None:
        """Stop listening."""
        super().close()
        spare, self._spare = self._spare, -1
        if spare >= 0:
            os.close(spare)

    def _refuse_one(self) -> None:
        """Accept a connection with the spare descriptor, and close it."""
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        with contextlib.suppress(OSError):
            super().accept()[0].close()
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


class _Connection(socket.socket):
    """An accepted connection, which is counted until it is closed."""

    def __init__(self, accepted: socket.socket, address: str, bounds: ConnectionBounds) -> None:
        super().__init__(fileno=accepted.detach())
        self._address = address
        self._bounds: ConnectionBounds | None = bounds

    def close(self) -> None:
        super().close()
        bounds, self._bounds = self._bounds, None
        if bounds is not None:
            bounds.leave(self._address)


def _descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MANY if soft == resource.RLIM_INFINITY else soft
