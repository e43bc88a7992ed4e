"""A proxy before servers that cuts connections."""

from __future__ import annotations

import asyncio
import contextlib

from ingot_server.asyncio_tasks import cancel_and_wait


class CuttingProxy:
    """A proxy that forwards connections to servers in turn and cuts some after so many bytes.

    After `holds_after` bytes it lets nothing more through to the servers.
    """

    def __init__(self, targets: list[str], cuts: list[int], *, holds_after: int = 1 << 40) -> None:
        self._targets = targets
        self.cuts = cuts
        self.connections = 0
        self.bytes_up = 0
        self.holding = asyncio.Event()
        self._holds_after = holds_after
        self._serving: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await cancel_and_wait(*self._serving)

    def refuse(self) -> None:
        """Ends all connections and takes no more that live, until `accept`."""
        self._refusing = True
        self.cut(reset=True)

    def accept(self) -> None:
        self._refusing = False

    def cut(self, *, reset: bool) -> None:
        """Ends the connections there are, on their way to the servers."""
        for downstream in self._open:
            downstream.transport.abort() if reset else downstream.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._forward(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        # A task that is cancelled before it begins runs nothing of `_forward`.
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._targets[self.connections % len(self._targets)].rpartition(":")
        self.connections += 1
        budget = self.cuts.pop(0) if self.cuts else 1 << 40
        try:
            upstream, downstream = await asyncio.open_connection(host, int(port))
        except OSError:
            return  # the server is not there
        self._open.add(downstream)

        async def forward(
            source: asyncio.StreamReader, sink: asyncio.StreamWriter, budget: int
        ) -> None:
            with contextlib.suppress(OSError):
                while budget > 0 and (data := await source.read(min(1 << 16, budget))):
                    if sink is downstream:
                        self.bytes_up += len(data)
                        if self.bytes_up > self._holds_after:
                            self.holding.set()
                            await asyncio.Event().wait()
                    sink.write(data)
                    await sink.drain()
                    budget -= len(data)

        ways = [
            asyncio.create_task(forward(reader, downstream, budget)),
            asyncio.create_task(forward(upstream, writer, 1 << 40)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # First, because the wait may be cancelled too.
            downstream.transport.abort()
            self._open.discard(downstream)
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
