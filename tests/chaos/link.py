"""The connections to Redis: a TCP proxy that can be cut, slowed and led to another server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingot_server.asyncio_tasks import cancel_and_wait

_CHUNK = 1 << 16


class Link:
    """Forwards connections to a port of this machine; made by `linked`."""

    def __init__(self, port: int) -> None:
        self.address = ""
        self.delay = 0.0
        """Seconds by which each piece of data is late."""
        self.is_cut = False
        """Whether connections end at once."""
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """End all connections, and each new one, until `mend`."""
        self.is_cut = True
        self.drop()

    def mend(self) -> None:
        """Forward as before."""
        self.is_cut, self.delay = False, 0.0

    def lead_to(self, port: int) -> None:
        """Forward to another port from now on, and end all connections."""
        self._port = port
        self.drop()

    def drop(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task that is cancelled before it begins runs nothing of `_serve`.
        task.add_done_callback(lambda _: writer.transport.abort())

    async def close(self) -> None:
        await cancel_and_wait(*self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            return
        try:
            answers, server = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return
        try:
            both = [
                asyncio.ensure_future(self._pump(reader, server)),
                asyncio.ensure_future(self._pump(answers, writer)),
            ]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await cancel_and_wait(*both)
        finally:
            server.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def linked(port: int) -> AsyncIterator[Link]:
    """A link to `port` on a free port of 127.0.0.1."""
    link = Link(port)
    server = await asyncio.start_server(link.accept, "127.0.0.1", 0)
    host, own_port = server.sockets[0].getsockname()[:2]
    link.address = f"{host}:{own_port}"
    try:
        yield link
    finally:
        server.close()
        await link.close()
