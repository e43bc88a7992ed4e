"""One TCP connection of the guard: the head is parsed, the rest is relayed to another stream.

Bytes go from `recv_into` straight to the other socket's `send`, through one buffer that is used
again and again. What must hold for that:

- A transport may keep pointing into the buffer until all is sent (it does from Python 3.12 on), so
  a buffer whose bytes are still being sent is not read into. Write limits of zero make the
  transport call `pause_writing` before `write` returns whenever something is left, which stops
  the source's reading; it calls `resume_writing` when nothing is left. This is also the
  backpressure.
- `_view[:_buffered]` are bytes read but not relayed yet. Once there is a sink, none are buffered.
- `on_connected` is called once, when there is a socket; call no method before that.
- `on_end` is called once, at the first sign that the other side has ended: its EOF, or an error.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, cast

from ingot_server.egress.bandwidth import Bandwidth
from ingot_server.egress.http_head import END

HEAD_LIMIT: Final = 64 << 10
# With a bandwidth limit, many connections take turns. Small reads keep their turns short.
_PACED_BYTES: Final = 16 << 10

# l_onoff, l_linger: close() then sends RST, so that a cut-off response does not look complete.
_RESET: Final = struct.pack("ii", 1, 0)


class HeadTooLarge(Exception):
    """A head is longer than HEAD_LIMIT bytes."""


class Stream(asyncio.BufferedProtocol):
    """A connection. `received` and `sent` count its bytes; `lost` is done when it is closed."""

    def __init__(self, buffer_size: int) -> None:
        self._view = memoryview(bytearray(max(buffer_size, HEAD_LIMIT)))
        self._buffered = 0
        self._allowance: int | None = None
        self._transport: asyncio.Transport
        self._sink: Stream | None = None
        self._source: Stream | None = None
        self._writable = True
        self._held = False
        self._bandwidths: Sequence[Bandwidth] = ()
        self._pause: asyncio.TimerHandle | None = None
        self._discarding = False
        self._received_more = asyncio.Event()
        self.on_connected: Callable[[], None] = _nothing
        self.on_end: Callable[[], None] = _nothing
        self.ended = False
        self.error: Exception | None = None
        self.received = 0
        self.sent = 0
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def read_head(self) -> bytes:
        """Return the bytes up to and with the first empty line.

        Raises HeadTooLarge and ConnectionError.
        """
        searched = 0
        while True:
            # A view has no `find`: copy the new bytes, and those before them where END may begin.
            start = max(0, searched - len(END) + 1)
            found = bytes(self._view[start : self._buffered]).find(END)
            if found >= 0:
                break
            searched = self._buffered
            if self._buffered >= HEAD_LIMIT:
                raise HeadTooLarge
            if self.ended:
                raise ConnectionResetError from self.error
            self._received_more.clear()
            await self._received_more.wait()
        size = start + found + len(END)
        head = bytes(self._view[:size])
        rest = bytes(self._view[size : self._buffered])
        self._view[: len(rest)] = rest
        self._buffered = len(rest)
        self._transport.resume_reading()
        return head

    def write(self, data: bytes | memoryview) -> None:
        self.sent += len(data)
        self._transport.write(data)

    def limit_to(self, bandwidths: Sequence[Bandwidth]) -> None:
        """Read no faster than these limits allow, from now on."""
        self._bandwidths = [each for each in bandwidths if each]

    def relay_to(self, sink: Stream, *, allowance: int | None = None) -> None:
        """Send to `sink` what is buffered and all that arrives, but at most `allowance` bytes.

        More than that ends both streams: it would be another request, perhaps for another host.
        """
        self._sink = sink
        self._allowance = allowance
        sink._source = self
        if sink._writable:
            self.resume_reading()
        else:
            self.pause_reading()
        if self._buffered:
            size, self._buffered = self._buffered, 0
            self._relay(sink, size)

    def pause_reading(self) -> None:
        """Stop reading: the sink cannot send more now."""
        self._held = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again, as soon as the bandwidth limits allow it."""
        self._held = False
        if self._pause is None:
            self._transport.resume_reading()

    def close(self) -> None:
        """Close the connection once everything written was sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close the connection now."""
        self._transport.abort()

    def reset(self) -> None:
        """Close the connection now, with an error that the other side can see."""
        connection = cast(socket.socket, self._transport.get_extra_info("socket"))
        with suppress(OSError):  # it may be gone already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    async def send_final(self, response: bytes, *, wait_seconds: float) -> None:
        """Send `response`, and wait up to `wait_seconds` until the other side has closed.

        What still arrives is discarded: closing with unread bytes would send RST, and the other
        side might lose the response.
        """
        self.on_end = _nothing
        self._sink = None
        self._buffered = 0
        self._discarding = True
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        self.write(response)
        self._transport.write_eof()
        await asyncio.wait({self.lost}, timeout=wait_seconds)

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # asyncio pauses above `high` bytes, but with TLS from that many on.
        tls = transport.get_extra_info("sslcontext") is not None
        self._transport.set_write_buffer_limits(high=1 if tls else 0, low=0)
        self.on_connected()

    def get_buffer(self, _sizehint: int) -> memoryview:
        if self._bandwidths and self._sink is not None:
            return self._view[:_PACED_BYTES]
        return self._view[self._buffered :] if self._buffered else self._view

    def buffer_updated(self, nbytes: int) -> None:
        self.received += nbytes
        if self._sink is not None:
            self._relay(self._sink, nbytes)
            self._pace(nbytes)
        elif not self._discarding:
            self._buffered += nbytes
            if self._buffered == len(self._view):
                self._transport.pause_reading()
            self._received_more.set()

    def pause_writing(self) -> None:
        self._writable = False
        if self._source is not None:
            self._source.pause_reading()

    def resume_writing(self) -> None:
        self._writable = True
        if self._source is not None:
            self._source.resume_reading()

    def eof_received(self) -> None:
        # Returning None closes the transport. HTTP and TLS do not need half-open connections: a
        # client that closes has cancelled, an origin that closes has sent everything.
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._end(exc)
        if not self.lost.done():
            self.lost.set_result(None)

    def _relay(self, sink: Stream, size: int) -> None:
        if self._allowance is not None:
            self._allowance -= size
            if self._allowance < 0:
                self._end(ConnectionAbortedError("more than one request on a connection"))
                self._transport.abort()
                return
        sink.write(self._view[:size])

    def _pace(self, size: int) -> None:
        seconds = max((each.take(size) for each in self._bandwidths), default=0.0)
        if seconds > 0 and not self.ended:
            self._transport.pause_reading()
            self._pause = asyncio.get_running_loop().call_later(seconds, self._end_pause)

    def _end_pause(self) -> None:
        self._pause = None
        if not self._held:
            self._transport.resume_reading()

    def _end(self, error: Exception | None) -> None:
        if self.ended:
            return
        self.ended = True
        self.error = error
        self._received_more.set()
        self.on_end()


def _nothing() -> None:
    """Ignore the event."""
