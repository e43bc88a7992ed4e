"""A web server that sends one file at a fixed rate, in a process of its own.

Every path returns the file, so that a measurement has as many URLs of it as it needs.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.serving import serving

CHUNK = 256 * 1024


async def answer(
    path: Path, rate: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        # The client was stopped.
        writer.close()
        return
    size = path.stat().st_size
    first = 0
    if match := re.search(rb"(?im)^range: bytes=(\d+)-\r$", head):
        first = int(match[1])
    status = f"206 Partial Content\r\nContent-Range: bytes {first}-{size - 1}/{size}"
    writer.write(
        (
            f"HTTP/1.1 {status if first else '200 OK'}\r\nContent-Type: video/mp4\r\n"
            f'ETag: "{size}"\r\nContent-Length: {size - first}\r\nConnection: close\r\n\r\n'
        ).encode()
    )
    begin = time.monotonic()
    sent = 0
    # A rate is kept over every quarter of a second.
    chunk_bytes = min(CHUNK, max(1, int(rate / 4))) if rate else CHUNK
    try:
        with path.open("rb") as file:
            file.seek(first)
            while chunk := file.read(chunk_bytes):
                writer.write(chunk)
                await writer.drain()
                sent += len(chunk)
                ahead = sent / rate - (time.monotonic() - begin) if rate else 0
                if ahead > 0:
                    await asyncio.sleep(ahead)
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(path: Path, rate: float, host: str) -> None:
    server = await asyncio.start_server(
        lambda reader, writer: answer(path, rate, reader, writer), host, 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@asynccontextmanager
async def origin(
    path: Path, *, bytes_per_second: float = 0, host: str = "127.0.0.1"
) -> AsyncIterator[str]:
    """Serves `path`; yields the address `http://HOST:PORT`. Rate 0 is as fast as it goes."""
    async with serving("bench.origin", str(path), str(bytes_per_second), host) as address:
        yield f"http://{host}:{address.rpartition(':')[2]}"


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]))
