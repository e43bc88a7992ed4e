"""Responses that are no part of the contract, and uvicorn as a server inside of a process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast

import uvicorn

from ingot_server.api.cors import Headers
from ingot_server.api.http_connection import HttpConnection, TimeLimits
from ingot_server.api.server_certificate import ServerCertificate

_DATE_SECONDS: Final = 1.0
# RFC 6750, section 3. It makes no browser ask for a password.
_CHALLENGE: Final = ((b"www-authenticate", b'Bearer realm="ingot"'),)


class UvicornServer(uvicorn.Server):
    """uvicorn without signal handlers: this process has its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Accept nothing more, and have `serve` return when all connections have ended."""
        self.should_exit = True
        self._stopping.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        """Renew the Date header until `stop`. uvicorn itself looks ten times a second."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DATE_SECONDS):
                    await self._stopping.wait()


def uvicorn_server(
    application: Any, time_limits: TimeLimits, certificate: ServerCertificate | None
) -> UvicornServer:
    """Return a server of an ASGI application for HTTP/1.1; None as certificate means HTTP."""
    return UvicornServer(
        uvicorn.Config(
            application,
            http=cast("type[asyncio.Protocol]", partial(HttpConnection, time_limits)),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",
            access_log=False,
            # A caller can write any address into a header. Limits count the real peer.
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=round(time_limits.idle.total_seconds()),
            ssl_context_factory=None
            if certificate is None
            else lambda *_: certificate.http_context(),
        )
    )


async def refuse_method(send: Any) -> None:
    """Say that only GET and HEAD are allowed."""
    await say(send, HTTPStatus.METHOD_NOT_ALLOWED, "Use GET.\n", [(b"allow", b"GET, HEAD")])


async def say(
    send: Any, status: HTTPStatus, text: str, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Respond with a text."""
    await respond(send, status, text.encode(), b"text/plain; charset=utf-8", headers)


async def respond(
    send: Any,
    status: HTTPStatus,
    body: bytes,
    content_type: bytes,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Respond with a body, which NO_CONTENT does not have."""
    length = str(len(body)).encode()
    described = [(b"content-type", content_type), (b"content-length", length)]
    if status == HTTPStatus.NO_CONTENT:
        described = []
    start = {"type": "http.response.start", "status": status.value}
    await send({**start, "headers": [*described, *headers]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def with_headers(headers: Headers, send: Any) -> Any:
    """Return a `send` that adds `headers` to the response, and what a 401 must have."""

    async def send_with(message: Any) -> None:
        if message["type"] == "http.response.start":
            challenge = _CHALLENGE if message["status"] == HTTPStatus.UNAUTHORIZED else ()
            message = {**message, "headers": [*message["headers"], *headers, *challenge]}
        await send(message)

    return send_with
