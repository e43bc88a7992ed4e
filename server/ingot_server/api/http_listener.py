"""The socket that the HTTP port listens on."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from ingot_server.api.connection_bounds import BoundedListener, ConnectionBounds
from ingot_server.setting_values import SettingError

# Connections that wait to be accepted.
_BACKLOG: Final = 2048
# Watches of clients that disappeared end as soon as those on gRPC, see grpc_server.py.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
_LAST_PORT: Final = 65535


async def listen(
    address: str, bounds: ConnectionBounds, *, reuse_port: bool, setting: str = "http_address"
) -> socket.socket:
    """Return a socket on HOST:PORT within bounds, with IPv4 if the name has both.

    `setting` is where the address comes from. Raises SettingError if the address cannot be used.
    """
    host, _, port = address.rpartition(":")
    # The system would take a larger number modulo 65536.
    if not host or not port.isdecimal() or int(port) > _LAST_PORT:
        raise SettingError(f"{setting}={address!r} is not HOST:PORT.")
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, *_, target = min(found, key=lambda each: each[0] != socket.AF_INET)
        listener = socket.create_server(
            target[:2], family=family, backlog=_BACKLOG, reuse_port=reuse_port
        )
    except OSError as error:
        raise SettingError(
            f"The server cannot listen on {address}: port {port} is in use, or {host} is not an "
            f"address of this machine. Stop the program that uses it, or set another {setting}."
        ) from error
    # Connections inherit these options, if the system has them.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return BoundedListener(listener, bounds)
