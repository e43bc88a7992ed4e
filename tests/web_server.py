"""A real web server for fakes and proxies."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REQUEST_BYTES = 1 << 30


@asynccontextmanager
async def web_server(
    handler: Handler, *, tls: ssl.SSLContext | None = None, cancels: bool = False
) -> AsyncIterator[str]:
    """Run `handler` for each request to a free port of 127.0.0.1, and yield its HOST:PORT.

    With `cancels` a handler is cancelled when its client leaves.
    """
    app = web.Application(client_max_size=_REQUEST_BYTES)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=cancels, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()
