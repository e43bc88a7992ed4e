"""What extractions reach in a network of their own: the guard, and the server of plug-ins.

Both are at the ports of 127.0.0.1 that they have in the machine's network, so that an extraction
need not know where it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

from ingot_server.egress.proxy import EgressProxy

_HOST: Final = "127.0.0.1"
_READ_BYTES: Final = 64 << 10


class GuardedNetwork:
    """A `ChildNetwork` (process/fork_server.py). It belongs to the guard's event loop."""

    def __init__(self, guard: EgressProxy, plugin_port: int) -> None:
        """Lead to `guard`, and to this machine's server at `plugin_port`, unless that is 0."""
        self._guard = guard
        self._plugin_port = plugin_port

    @property
    def ports(self) -> Sequence[int]:
        """The TCP ports that extractions may connect to. Call it once the guard has started."""
        return [self._guard.port, *([self._plugin_port] if self._plugin_port else [])]

    def accept(self, listeners: Sequence[socket.socket]) -> Callable[[], None]:
        """Accept on listeners at `ports`; return what closes them. Their connections go on."""
        guards, *plugins = listeners
        accepting = [_Accepting(self._guard.serve(guards))]
        accepting += [_Accepting(self._lead_to_plugin_server(each)) for each in plugins]

        def close() -> None:
            for each in accepting:
                each.close()

        return close

    async def _lead_to_plugin_server(self, listener: socket.socket) -> asyncio.Server:
        lead = partial(_lead, self._plugin_port)
        return await asyncio.start_server(lead, sock=listener)


class _Accepting:
    """A server that is being started, or has been."""

    def __init__(self, starting: Coroutine[Any, Any, asyncio.Server]) -> None:
        self._closed = False
        self._server: asyncio.Server | None = None
        self._task = asyncio.create_task(self._start(starting))

    async def _start(self, starting: Coroutine[Any, Any, asyncio.Server]) -> None:
        self._server = await starting
        if self._closed:
            self._server.close()

    def close(self) -> None:
        self._closed = True
        if self._server is not None:
            self._server.close()


async def _lead(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Relay a connection to `port` of this machine until both sides have ended."""
    with contextlib.closing(writer), contextlib.suppress(OSError):
        there_reader, there_writer = await asyncio.open_connection(_HOST, port)
        with contextlib.closing(there_writer):
            await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_READ_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
