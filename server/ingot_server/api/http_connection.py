"""One HTTP/1.1 connection, with limits on the time that a client takes to send a request.

uvicorn limits only the time between two requests. So a client that sends half a head, or a body
byte by byte, would hold its connection for ever. Nothing limits the time of a response: a watch may
be idle for hours.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long a client may take. Past a limit its connection is closed."""

    head: timedelta = timedelta(seconds=30)
    """For a whole head, from the connection or from the head's first byte on."""
    body: timedelta = timedelta(seconds=60)
    """For `LEAST_BODY_BYTES` more of a body, while the server is ready to read them."""
    # Load balancers keep idle connections for a minute. This must be longer.
    idle: timedelta = timedelta(seconds=75)
    """Between a response and the next request."""


DEFAULT_LIMITS: Final = TimeLimits()
LEAST_BODY_BYTES: Final = 1 << 10
"""What has to arrive within `TimeLimits.body`; the end of the body is enough, too."""


class HttpConnection(HttpToolsProtocol):
    """uvicorn's connection with `limits`, of which uvicorn itself keeps `idle`."""

    # Otherwise it has more attributes than Python keeps without a dictionary for each connection.
    __slots__ = ("_body_bytes", "_body_deadline", "_head_deadline", "_limits")

    def __init__(self, limits: TimeLimits, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._head_deadline: asyncio.TimerHandle | None = None
        self._body_deadline: asyncio.TimerHandle | None = None
        self._body_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._limit_head()

    def on_message_begin(self) -> None:
        """Begin a request, and tell the application whose connection it is.

        That is `peercert`, as `ssl.SSLSocket.getpeercert` returns it, in the extension `tls`; empty
        without the certificate of a client.
        """
        super().on_message_begin()
        certificate = self.transport.get_extra_info("peercert") or {}
        self.scope["extensions"] = {"tls": {"peercert": certificate}}

    def connection_lost(self, exc: Exception | None) -> None:
        """End all limits."""
        self._end_head()
        self._end_body()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Go on with the request that the data belongs to."""
        self._body_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            if self._head_deadline is None:
                self._limit_head()
            return
        self._end_head()
        if self.cycle.more_body and self._body_deadline is None:
            self._limit_body()

    def on_message_complete(self) -> None:
        """Take the end of a body."""
        self._end_body()
        super().on_message_complete()

    def _limit_head(self) -> None:
        self._head_deadline = self.loop.call_later(
            self._limits.head.total_seconds(), self.transport.abort
        )

    def _end_head(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _limit_body(self) -> None:
        self._body_bytes = 0
        self._body_deadline = self.loop.call_later(
            self._limits.body.total_seconds(), self._check_body
        )

    def _end_body(self) -> None:
        if self._body_deadline is not None:
            self._body_deadline.cancel()
            self._body_deadline = None

    def _check_body(self) -> None:
        self._body_deadline = None
        if self.cycle.response_complete or not self.cycle.more_body:
            return
        # If reading is paused, it is this server that takes its time.
        if self._body_bytes < LEAST_BODY_BYTES and not self.flow.read_paused:
            self.transport.abort()
        else:
            self._limit_body()
