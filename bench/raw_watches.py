"""Many watches of one job over gRPC and over Connect, read without a library.

A thousand watchers in one process have to take less time for a message than the server does, or
they are what is measured. So these read only frames of HTTP/2 (RFC 9113), and HTTP/1.1 hardly.
"""

from __future__ import annotations

import asyncio
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import ClassVar, Final, cast

from bench.known_caller import HEADER
from ingot.v1.job_service_pb2 import WatchJobRequest, WatchJobResponse

_PATH: Final = b"/ingot.v1.JobService/WatchJob"
_STREAMS_OF_A_CONNECTION: Final = 500
_ENVELOPE: Final = struct.Struct(">BI")
"""Flags and length before each message, in gRPC and in Connect alike."""

_FRAME: Final = struct.Struct(">BHBBI")
"""A frame's length, in two parts, its type, its flags and its stream."""
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW_SIZE: Final = 4
_LARGEST_WINDOW: Final = (1 << 31) - 1
_FIRST_WINDOW: Final = (1 << 16) - 1


class Arrivals:
    """When the next message of each of `count` watchers arrives."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.expect()

    def expect(self) -> None:
        """Forget what has arrived, and begin to wait for another message."""
        self.first: dict[tuple[int, int], tuple[float, bytes]] = {}
        self._complete = asyncio.Event()

    def add(self, watcher: tuple[int, int], data: bytes) -> None:
        """Note the arrival of data; only the first of a watcher counts."""
        if watcher not in self.first:
            self.first[watcher] = time.perf_counter(), data
            if len(self.first) == self.count:
                self._complete.set()

    async def all(self) -> list[WatchJobResponse]:
        """Wait until each watcher has received a message; return them."""
        await self._complete.wait()
        return [WatchJobResponse.FromString(_message(data)) for _, data in self.first.values()]

    def times(self) -> list[float]:
        """Return the times of the arrivals in seconds."""
        return [at for at, _ in self.first.values()]


class Watches(asyncio.Protocol, ABC):
    """Some watches of a job, on one connection."""

    most: ClassVar[int]
    """How many there may be."""
    name: ClassVar[str]
    """The protocol."""
    address: ClassVar[str]
    """What the server calls the address for it."""

    def __init__(self, arrivals: Arrivals, request: WatchJobRequest, count: int) -> None:
        self._arrivals = arrivals
        content = request.SerializeToString()
        self._request = _ENVELOPE.pack(0, len(content)) + content
        self._count = count

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Send the requests."""

    def close(self) -> None:
        self._transport.abort()


class ConnectWatch(Watches):
    """A watch over Connect. The server sends a chunk for each message."""

    most = 1
    name = "Connect"
    address = "HTTP"

    def _begin(self) -> None:
        self._transport.write(
            b"POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: %s\r\ncontent-length: %d\r\n"
            b"content-type: application/connect+proto\r\nconnect-protocol-version: 1\r\n\r\n"
            % (_PATH, HEADER.encode(), len(self._request))
            + self._request
        )

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 "):
            head, _, data = data.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), data
        if data:
            self._arrivals.add((id(self), 0), data.partition(b"\r\n")[2])


class GrpcWatches(Watches):
    """Watches over gRPC on one connection of HTTP/2."""

    most = _STREAMS_OF_A_CONNECTION
    name = address = "gRPC"
    _unread = b""

    def _begin(self) -> None:
        # Literal fields of HPACK (RFC 7541); the first ones, and two names, are of its table.
        block = b"\x83\x86" + b"".join(
            name + bytes([len(value)]) + value
            for name, value in (
                (b"\x04", _PATH),
                (b"\x01", b"127.0.0.1"),
                (b"\x0f\x10", b"application/grpc"),
                (b"\x00\x02te", b"trailers"),
                (b"\x0f\x08", HEADER.encode()),
            )
        )
        self._transport.write(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, _LARGEST_WINDOW))
            + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _LARGEST_WINDOW - _FIRST_WINDOW))
        )
        for stream in range(1, 2 * self._count, 2):
            self._transport.write(
                _frame(_HEADERS, _END_HEADERS, stream, block)
                + _frame(_DATA, _END_STREAM, stream, self._request)
            )

    def data_received(self, data: bytes) -> None:
        data = self._unread + data
        at = 0
        while at + _FRAME.size <= len(data):
            high, low, kind, flags, stream = _FRAME.unpack_from(data, at)
            end = at + _FRAME.size + (high << 16) + low
            if end > len(data):
                break
            if kind == _DATA and end > at + _FRAME.size:
                self._arrivals.add((id(self), stream), data[at + _FRAME.size : end])
            elif kind in {_SETTINGS, _PING} and not flags & _ACK:
                content = data[at + _FRAME.size : end] if kind == _PING else b""
                self._transport.write(_frame(kind, _ACK, 0, content))
            elif kind in {_RESET, _GOAWAY}:
                raise AssertionError(f"the server ended the watch: {data[at:end]!r}")
            at = end
        self._unread = data[at:]


@asynccontextmanager
async def watching(
    kind: type[Watches], address: str, job_id: str, count: int
) -> AsyncIterator[Arrivals]:
    """Open watches of a job; yield the arrivals when each has received the first message."""
    host, _, port = address.rpartition(":")
    request = WatchJobRequest(job_id=job_id)
    arrivals, opened = Arrivals(count), []
    loop = asyncio.get_running_loop()
    try:
        for begin in range(0, count, kind.most):
            make = partial(kind, arrivals, request, min(kind.most, count - begin))
            opened.append((await loop.create_connection(make, host, int(port)))[1])
        await arrivals.all()
        yield arrivals
    finally:
        for each in opened:
            each.close()


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    high, low = divmod(len(content), 1 << 16)
    return _FRAME.pack(high, low, kind, flags, stream) + content


def _message(data: bytes) -> bytes:
    _, size = _ENVELOPE.unpack_from(data)
    return data[_ENVELOPE.size : _ENVELOPE.size + size]
