"""A way to a server on a Unix socket on which answers can be lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ingot_server.asyncio_tasks import cancel_and_wait


class Relay:
    """Passes on what clients say; made by `relaying`."""

    def __init__(self, server: str) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.lost = asyncio.Event()
        """Set when an answer was lost."""
        self._server = server
        self._silent: set[asyncio.Task[None]] = set()
        self._fatal = b""

    def silence(self) -> None:
        """Loses all answers on the connections that are open now; they stay open."""
        self._silent.update(self.tasks)

    def silence_after(self, request: bytes) -> None:
        """Loses all answers on a connection from the one to a request that has these bytes on."""
        self._fatal = request

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._link(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        answers, requests = await asyncio.open_unix_connection(self._server)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._ask(link, reader, requests))
                both.create_task(self._answer(link, answers, writer))
        finally:
            for each in writer, requests:
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()

    async def _ask(
        self,
        link: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if self._fatal and self._fatal in data:
                    self._silent.add(link)
                writer.write(data)
        writer.close()

    async def _answer(
        self,
        link: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if link in self._silent:
                    self.lost.set()
                else:
                    writer.write(data)
        writer.close()


@asynccontextmanager
async def relaying(server: str, path: Path) -> AsyncIterator[Relay]:
    """A relay at `path` in front of the server at the path `server`."""
    relay = Relay(server)
    listener = await asyncio.start_unix_server(relay.accept, path)
    try:
        yield relay
    finally:
        listener.close()
        await cancel_and_wait(*relay.tasks)
