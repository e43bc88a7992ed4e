"""A radio station: a response without an end, at the speed of the sound after a first burst."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.media import SECONDS, media
from tests.tcp_server import tcp_server

SHOUTCAST = ("ICY 200 OK", "icy-name:Bells", "icy-br:64", "icy-pub:1")
ICECAST = ("HTTP/1.0 200 OK", "Server: Icecast 2.4.4", "ice-audio-info: bitrate=64")
_BURST_SECONDS = 1.0
_STEP_SECONDS = 0.05


@asynccontextmanager
async def station(
    name: str, head: Sequence[str], content_type: str, *, silent: bool = False
) -> AsyncIterator[str]:
    """Broadcast the media file `name` again and again, and yield the station's URL."""
    content = media(name).read_bytes()
    rate = len(content) / SECONDS

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = [*head, f"Content-Type:{content_type}", "", ""]
        writer.write("\r\n".join(lines).encode())
        sent, due = 0, 0 if silent else int(_BURST_SECONDS * rate)
        try:
            while True:
                while sent < due:
                    first = sent % len(content)
                    part = content[first : first + due - sent]
                    writer.write(part)
                    sent += len(part)
                await writer.drain()
                await asyncio.sleep(_STEP_SECONDS)
                due += 0 if silent else int(_STEP_SECONDS * rate)
        except ConnectionError:
            pass

    async with tcp_server(serve) as address:
        yield f"http://{address}/;stream"
