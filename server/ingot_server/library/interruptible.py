"""Blocking HTTP requests that another thread can end: it shuts their socket down.

A thread cannot be stopped while it waits for a server. But a read from a socket that was shut down
returns at once, and then the thread is free.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.poolmanager import PoolManager
from urllib3.response import BaseHTTPResponse

from ingot_server.tracing import scopes

T = TypeVar("T")

_thread = threading.local()


class CallInterrupted(Exception):
    """The call that this thread runs was interrupted. urllib3 does not repeat its request."""


class Call:
    """What one thread does, with one connection at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._interrupted = False

    def run(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, in this thread. Raises CallInterrupted."""
        _thread.call = self
        try:
            return work()
        finally:
            _thread.call = None

    def use(self, connection: _Connection) -> None:
        """Note which connection this call waits for. Raises CallInterrupted."""
        with self._lock:
            if self._interrupted:
                raise CallInterrupted
            self._connection = connection
            connection.call = self

    def interrupt(self) -> None:
        """End the request that the call waits for, and refuse every other; from any thread.

        A connection that is being opened ends by its own time limit.
        """
        with self._lock:
            self._interrupted = True
            connection = self._connection
        # The connection may have gone to another call meanwhile.
        if connection is not None and connection.call is self:
            _shut_down(connection)


def use_connection_of(response: BaseHTTPResponse) -> None:
    """Note that the call in this thread reads `response`. Raises CallInterrupted."""
    _use(response.connection)


class InterruptiblePools(PoolManager):
    """Connections by host, whose requests can be interrupted if they belong to a Call."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def urlopen(  # type: ignore[override] # PoolManager's does not match its base, either
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> BaseHTTPResponse:
        """Make a request, with its repetitions; a span of what the call is a part of."""
        parent = scopes.parent()
        if parent is None:
            return super().urlopen(method, url, redirect, **options)
        span = parent.s3_request(method, url)
        try:
            response = super().urlopen(method, url, redirect, **options)
        except Exception as error:
            span.fail(type(error).__name__)
            raise
        else:
            span.end_request(response.status)
            return response
        finally:
            span.end()


class _Connection(Protocol):
    call: Call | None
    wire: socket.socket | None
    """Its socket, also when a response has taken it over."""


class _PlainConnection(HTTPConnection):
    call: Call | None = None
    wire: socket.socket | None = None

    def request(self, *arguments: Any, **options: Any) -> None:
        _use(self)
        super().request(*arguments, **options)

    def connect(self) -> None:
        super().connect()
        self.wire = self.sock
        _use(self)


class _TlsConnection(_PlainConnection, HTTPSConnection):
    """The same over TLS: `super()` of the methods above is an HTTPSConnection here."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _use(connection: object) -> None:
    if not isinstance(connection, _PlainConnection | _TlsConnection):
        return
    call: Call | None = getattr(_thread, "call", None)
    if call is None:
        connection.call = None
    else:
        call.use(connection)


def _shut_down(connection: _Connection) -> None:
    if connection.wire is not None:
        # Not the method of SSLSocket, which would change it under the thread that reads.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection.wire, socket.SHUT_RDWR)
