"""What tests of the bucket read with, and a proxy that stands before the S3 server."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

import aiohttp
from aiohttp import web

from ingot_server.library.blobs import Blobs

TYPE = "video/mp4"


async def read(blobs: Blobs, key: str, offset: int = 0, limit: int = 0) -> bytes:
    async with aclosing(
        cast("AsyncGenerator[bytes]", blobs.read_object(key, offset=offset, limit=limit))
    ) as chunks:
        return b"".join([chunk async for chunk in chunks])


@dataclass
class S3Proxy:
    """A proxy in front of the S3 server; it changes requests, or responds with 503 while `down`."""

    target: str
    strip: tuple[str, ...] = ()
    down: int = 0
    change: Callable[[str, bytes], bytes] = lambda _, body: body

    async def forward(self, request: web.Request) -> web.StreamResponse:
        if self.down:
            self.down -= 1
            return web.Response(status=503)
        headers = {name: value for name, value in request.headers.items() if name not in self.strip}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                f"http://{self.target}{request.raw_path}",
                headers=headers,
                data=io.BytesIO(self.change(request.method, await request.read())),
                allow_redirects=False,
            ) as answer,
        ):
            kept = [
                name
                for name in ("ETag", "Content-Type")
                if name in answer.headers and name not in self.strip
            ]
            return web.Response(
                status=answer.status,
                headers={name: answer.headers[name] for name in kept},
                body=await answer.read(),
            )
