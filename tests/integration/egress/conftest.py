"""A guard and what stands at its ends. Whatever a test does, it connects to loopback alone."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout, web

from ingot_server.egress.proxy import EgressProxy
from tests.integration.egress.running_proxy import FakeResolver, Origin, running_proxy
from tests.waiting import TIMEOUT_SECONDS

_DIALLED: list[Any] = []
_LISTENING = [False]


def _note_dialled(event: str, arguments: tuple[Any, ...]) -> None:
    # A datagram socket that is connected asks only for this machine's address.
    if event == "socket.connect" and _LISTENING[0] and arguments[0].type == socket.SOCK_STREAM:
        _DIALLED.append(arguments[1])


sys.addaudithook(_note_dialled)


@pytest.fixture(autouse=True)
def dialled() -> Iterator[list[Any]]:
    """Every address this process connected to in the test: loopback, whatever was asked."""
    _DIALLED.clear()
    _LISTENING[0] = True
    yield _DIALLED
    _LISTENING[0] = False
    assert all(ip_address(address[0]).is_loopback for address in _DIALLED)


@pytest.fixture
def names() -> FakeResolver:
    names = FakeResolver()
    names.set("origin.test", ["127.0.0.1"])
    return names


@pytest.fixture
async def proxy(names: FakeResolver) -> AsyncIterator[EgressProxy]:
    async with running_proxy(names) as proxy:
        yield proxy


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    origin = Origin()

    async def echo(request: web.Request) -> web.Response:
        origin.requests.append(request.path_qs)
        return web.json_response(
            {"target": request.raw_path, "body": (await request.read()).decode()}
            | {"headers": [[key.lower(), value] for key, value in request.headers.items()]}
        )

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        origin.opened.set()
        try:
            await asyncio.Event().wait()
        finally:
            origin.left.set()
        return response

    async def away(request: web.Request) -> web.Response:
        raise web.HTTPFound(request.query["to"])

    app = web.Application()
    app.router.add_route("*", "/echo", echo)
    app.router.add_get("/endless", endless)
    app.router.add_get("/away", away)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    origin.port = runner.addresses[0][1]
    yield origin
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession(timeout=ClientTimeout(total=TIMEOUT_SECONDS)) as session:
        yield session
