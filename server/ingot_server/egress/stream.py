"""One TCP connection of the guard: its head is read by hand, the rest flows into another one.

Bytes go from `recv_into` straight to the other socket's `send`, from one buffer that is used again
and again. What must hold for that:

- A transport may keep pointing into the buffer until all is sent (it does from Python 3.12 on), so
  nobody reads into a buffer whose bytes are still being sent. Write limits of zero make the
  transport call `pause_writing` before `write` returns whenever something is left, which stops
  the source's reading; `resume_writing` comes when nothing is left. This is the backpressure, too.
- `_view[:_held]` are bytes read but not passed on. Once there is a sink, nothing is held.
- `on_made` is called once, when there is a socket; nothing else may be called before.
- `on_end` is called once, at the first sign that the other side is done: its EOF, or an error.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

from ingot_server.egress.http_head import END

HEAD_LIMIT: Final = 64 << 10

# l_onoff, l_linger: close() then sends RST, so that what was cut off does not look complete.
_RESET: Final = struct.pack("ii", 1, 0)


class HeadTooLarge(Exception):
    """A head did not end within HEAD_LIMIT bytes."""


class Stream(asyncio.BufferedProtocol):
    """A connection. `received` and `sent` count its bytes; `lost` is done when it is gone."""

    def __init__(self, buffer_size: int) -> None:
        self._view = memoryview(bytearray(max(buffer_size, HEAD_LIMIT)))
        self._held = 0
        self._allowance: int | None = None
        self._transport: asyncio.Transport
        self._sink: Stream | None = None
        self._source: Stream | None = None
        self._writable = True
        self._discarding = False
        self._news = asyncio.Event()
        self.on_made: Callable[[], None] = _nothing
        self.on_end: Callable[[], None] = _nothing
        self.ended = False
        self.error: Exception | None = None
        self.received = 0
        self.sent = 0
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def read_head(self) -> bytes:
        """Bytes up to and with the first empty line. Raises HeadTooLarge, ConnectionError."""
        searched = 0
        while True:
            # No `find` on a view: a copy of what is new, and of an end cut in two.
            start = max(0, searched - len(END) + 1)
            found = bytes(self._view[start : self._held]).find(END)
            if found >= 0:
                break
            searched = self._held
            if self._held >= HEAD_LIMIT:
                raise HeadTooLarge
            if self.ended:
                raise ConnectionResetError from self.error
            self._news.clear()
            await self._news.wait()
        size = start + found + len(END)
        head = bytes(self._view[:size])
        rest = bytes(self._view[size : self._held])
        self._view[: len(rest)] = rest
        self._held = len(rest)
        self._transport.resume_reading()
        return head

    def write(self, data: bytes | memoryview) -> None:
        self.sent += len(data)
        self._transport.write(data)

    def feed(self, sink: Stream, *, allowance: int | None = None) -> None:
        """Passes on to `sink` what is held and all that comes, but at most `allowance` bytes.

        More than that ends both: it would be another request, meant for who knows whom.
        """
        self._sink = sink
        self._allowance = allowance
        sink._source = self
        if sink._writable:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
        if self._held:
            held, self._held = self._held, 0
            self._pass_on(sink, held)

    def hold(self) -> None:
        """Stops reading: the sink takes no more."""
        self._transport.pause_reading()

    def go_on(self) -> None:
        """Reads again."""
        self._transport.resume_reading()

    def finish(self) -> None:
        """Closes after what was written has gone out."""
        self._transport.close()

    def abort(self) -> None:
        """Closes now."""
        self._transport.abort()

    def reset(self) -> None:
        """Closes now, so that the other side knows it for an error."""
        connection = cast(socket.socket, self._transport.get_extra_info("socket"))
        with suppress(OSError):  # it may be gone already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    async def farewell(self, answer: bytes, *, patience: float) -> None:
        """Writes `answer`, then waits until the other side has closed, for `patience` seconds.

        What still arrives is thrown away: closing with bytes unread would send RST, and the other
        side might lose the answer.
        """
        self.on_end = _nothing
        self._sink = None
        self._held = 0
        self._discarding = True
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        self.write(answer)
        self._transport.write_eof()
        await asyncio.wait({self.lost}, timeout=patience)

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)
        self.on_made()

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._view[self._held :] if self._held else self._view

    def buffer_updated(self, nbytes: int) -> None:
        self.received += nbytes
        if self._sink is not None:
            self._pass_on(self._sink, nbytes)
        elif not self._discarding:
            self._held += nbytes
            if self._held == len(self._view):
                self._transport.pause_reading()
            self._news.set()

    def pause_writing(self) -> None:
        self._writable = False
        if self._source is not None:
            self._source.hold()

    def resume_writing(self) -> None:
        self._writable = True
        if self._source is not None:
            self._source.go_on()

    def eof_received(self) -> None:
        # Returning None closes the transport. HTTP and TLS have no use for half a connection:
        # a client that closed has cancelled, an origin that closed has said all.
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        if not self.lost.done():
            self.lost.set_result(None)

    def _pass_on(self, sink: Stream, size: int) -> None:
        if self._allowance is not None:
            self._allowance -= size
            if self._allowance < 0:
                self._end(ConnectionAbortedError("more than one request on a connection"))
                self._transport.abort()
                return
        sink.write(self._view[:size])

    def _end(self, error: Exception | None) -> None:
        if self.ended:
            return
        self.ended = True
        self.error = error
        self._news.set()
        self.on_end()


def _nothing() -> None:
    """Nobody has to be told."""
