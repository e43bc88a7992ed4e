"""A method over the Connect protocol: calls by connections of HTTP/1.1 that are kept alive.

The client is as small as one can be in Python, so that the server is what is measured.
"""

from __future__ import annotations

import asyncio
import time
from typing import cast

from bench.known_caller import HEADER

_LAST_CHUNK = b"\r\n0\r\n\r\n"


class _Connection(asyncio.Protocol):
    """Sends one request again and again, each after the response to the one before."""

    def __init__(self, request: bytes, calls: int) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._left = calls
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and not head.startswith(b"HTTP/1.1 200"):
            raise AssertionError(self._received)
        if not body.endswith(_LAST_CHUNK):
            return
        self._received = b""
        self._left -= 1
        if self._left:
            self._transport.write(self._request)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None or self._left:
            self.ended.set_exception(exc or AssertionError("the server closed the connection"))
        else:
            self.ended.set_result(None)


async def connect_rate(
    address: str, path: str, content: bytes, *, calls: int, connections: int
) -> float:
    """Return the calls per second of several connections at once."""
    host, _, port = address.rpartition(":")
    request = (
        f"POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: {HEADER}\r\n"
        "content-type: application/proto\r\nconnect-protocol-version: 1\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    ).encode() + content
    loop = asyncio.get_running_loop()
    begin = time.perf_counter()
    opened = [
        await loop.create_connection(
            lambda: _Connection(request, calls // connections), host, int(port)
        )
        for _ in range(connections)
    ]
    await asyncio.gather(*(connection.ended for _, connection in opened))
    return calls / (time.perf_counter() - begin)
