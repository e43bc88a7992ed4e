"""A relay to a server on a Unix socket that can hold requests back, and lose responses."""

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
        """Set when a response was lost."""
        self._server = server
        self._silent: set[asyncio.Task[None]] = set()
        self._silencing_request = b""
        self.held = asyncio.Event()
        """Set when a request was held back."""
        self.delivered = asyncio.Event()
        """Set when that request was passed on."""
        self._held_request = b""
        self._passes = asyncio.Event()

    def hold_back(self, request: bytes) -> None:
        """Keep a request that contains these bytes until `release`, also if its client leaves."""
        self._held_request = request

    def release(self) -> None:
        """Pass on what was held back."""
        self._passes.set()

    def silence(self) -> None:
        """Lose all responses on the connections that are open now, which stay open."""
        self._silent.update(self.tasks)

    def silence_after(self, request: bytes) -> None:
        """Lose all responses on a connection after a request that contains these bytes."""
        self._silencing_request = request

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._link(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        # A task that is cancelled before it begins runs nothing of `_link`.
        task.add_done_callback(lambda _: writer.close())

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        responses, requests = await asyncio.open_unix_connection(self._server)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward_requests(link, reader, requests))
                both.create_task(self._forward_responses(link, responses, writer))
        finally:
            for each in writer, requests:
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()

    async def _forward_requests(
        self,
        link: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if self._silencing_request and self._silencing_request in data:
                    self._silent.add(link)
                if self._held_request and self._held_request in data:
                    self.held.set()
                    await self._passes.wait()
                    self.delivered.set()
                writer.write(data)
        writer.close()

    async def _forward_responses(
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
