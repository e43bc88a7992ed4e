"""A guard with real peers: aiohttp's server and client, and plain sockets. Loopback only."""

from __future__ import annotations

import asyncio
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address

from aiohttp import ClientHttpProxyError, ClientSession
from multidict import CIMultiDict
from yarl import URL

from ingot_server.config import Settings
from ingot_server.egress.addresses import Address
from ingot_server.egress.proxy import EgressGrant, EgressProxy, failure_from_proxy_status
from tests.waiting import TIMEOUT_SECONDS


@dataclass
class FakeResolver:
    """A resolver with answers of its own; one after the other where there are several."""

    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def set(self, name: str, *answers: Sequence[str]) -> None:
        self.answers[name] = [list(answer) for answer in answers]

    async def __call__(self, name: str) -> list[Address]:
        self.asked.append(name)
        if name == "slow.test":
            await asyncio.Event().wait()
        answers = self.answers.get(name)
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [ip_address(text) for text in (answers.pop(0) if len(answers) > 1 else answers[0])]


@asynccontextmanager
async def running_proxy(resolve: FakeResolver, **changes: object) -> AsyncIterator[EgressProxy]:
    settings = Settings(egress_allow_loopback=True).replace(**changes)
    proxy = EgressProxy(settings, resolve=resolve)
    await proxy.start()
    try:
        yield proxy
    finally:
        await asyncio.wait_for(proxy.close(), TIMEOUT_SECONDS)


@dataclass
class Origin:
    port: int = 0
    requests: list[str] = field(default_factory=list)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str, host: str = "origin.test") -> str:
        return f"http://{host}:{self.port}{path}"


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler, address: str = "127.0.0.1") -> AsyncIterator[int]:
    """A server that speaks whatever `handler` says."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                await handler(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, address, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def raw_client(
    proxy: EgressProxy, request: str, egress_grant: EgressGrant | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the guard after `request` (lines joined by CRLF) was sent on it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        url = URL((egress_grant or proxy.grant("job")).proxy_url)
        credentials = b64encode(f"{url.user}:{url.password}".encode()).decode()
        writer.write(f"{request}\r\nProxy-Authorization: Basic {credentials}\r\n\r\n".encode())
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def tunnel(
    proxy: EgressProxy, authority: str, egress_grant: EgressGrant | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    request = f"CONNECT {authority} HTTP/1.1"
    async with raw_client(proxy, request, egress_grant) as (reader, writer):
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT_SECONDS)
        assert head.startswith(b"HTTP/1.1 200 "), head
        yield reader, writer


async def reason_for(session: ClientSession, proxy: EgressProxy, url: str) -> int | None:
    """The reason with which the guard refuses `url`; None if it does not."""
    proxy_url = proxy.grant("job").proxy_url
    try:
        async with session.get(url, proxy=proxy_url) as response:
            headers: Mapping[str, str] = response.headers
    except ClientHttpProxyError as error:
        headers = error.headers or CIMultiDict()
    failure = failure_from_proxy_status(headers.get("Proxy-Status", ""), "the.host")
    return failure.reason if failure else None
