"""The guard with real peers: aiohttp's server and client, and plain sockets. Loopback only."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientHttpProxyError, ClientSession, ClientTimeout, web
from multidict import CIMultiDict
from yarl import URL

from ingot.v1 import reason_pb2
from ingot_server.config import SettingError, Settings
from ingot_server.egress.addresses import Address
from ingot_server.egress.proxy import EgressPass, EgressProxy, failure_of

BLOCK = bytes(range(256)) * 256
_DIALLED: list[Any] = []
_LISTENING = [False]


def _note_dialled(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _LISTENING[0]:
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


@dataclass
class Names:
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
async def guarding(resolve: Names, **changes: object) -> AsyncIterator[EgressProxy]:
    settings = Settings(egress_allow_loopback=True).replace(**changes)
    proxy = EgressProxy(settings, resolve=resolve)
    await proxy.start()
    try:
        yield proxy
    finally:
        await asyncio.wait_for(proxy.close(), 5)


@pytest.fixture
def names() -> Names:
    names = Names()
    names.set("origin.test", ["127.0.0.1"])
    return names


@pytest.fixture
async def proxy(names: Names) -> AsyncIterator[EgressProxy]:
    async with guarding(names) as proxy:
        yield proxy


@dataclass
class Origin:
    port: int = 0
    requests: list[str] = field(default_factory=list)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str, host: str = "origin.test") -> str:
        return f"http://{host}:{self.port}{path}"


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
    async with ClientSession(timeout=ClientTimeout(total=10)) as session:
        yield session


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """A server that speaks whatever `handler` says."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                await handler(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def raw_client(
    proxy: EgressProxy, request: str, egress_pass: EgressPass | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the guard after `request` (lines joined by CRLF) was sent on it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        url = URL((egress_pass or proxy.issue("job")).proxy_url)
        credentials = b64encode(f"{url.user}:{url.password}".encode()).decode()
        writer.write(f"{request}\r\nProxy-Authorization: Basic {credentials}\r\n\r\n".encode())
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def tunnel(
    proxy: EgressProxy, authority: str, egress_pass: EgressPass | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    request = f"CONNECT {authority} HTTP/1.1"
    async with raw_client(proxy, request, egress_pass) as (reader, writer):
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 200 "), head
        yield reader, writer


async def reason_for(session: ClientSession, proxy: EgressProxy, url: str) -> int | None:
    """The reason the guard gives for refusing `url`; None: it lets it pass."""
    proxy_url = proxy.issue("job").proxy_url
    try:
        async with session.get(url, proxy=proxy_url) as response:
            headers: Mapping[str, str] = response.headers
    except ClientHttpProxyError as error:
        headers = error.headers or CIMultiDict()
    failure = failure_of(headers.get("Proxy-Status", ""), "the.host")
    return failure.reason if failure else None


async def test_request_arrives_in_origin_form_without_proxy_headers(
    proxy: EgressProxy, origin: Origin, session: ClientSession
) -> None:
    egress_pass = proxy.issue("job/1 @")
    async with session.post(
        origin.url("/echo?a=%26b"), data=b"hello", proxy=egress_pass.proxy_url
    ) as response:
        seen = await response.json()
        assert response.headers["Connection"] == "close"
    assert seen["target"] == "/echo?a=%26b"
    assert seen["body"] == "hello"
    headers = dict(seen["headers"])
    assert headers["host"] == f"origin.test:{origin.port}"
    assert headers["connection"] == "close"
    assert not [name for name in headers if name.startswith("proxy-")]


async def test_tunnel_carries_bytes_both_ways_and_counts_them(proxy: EgressProxy) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(5)).upper() * 2)
        await writer.drain()

    egress_pass = proxy.issue("job")
    async with (
        serving(shout) as port,
        tunnel(proxy, f"127.0.0.1:{port}", egress_pass) as (reader, writer),
    ):
        writer.write(b"hello")
        assert await reader.read() == b"HELLOHELLO"
    assert (egress_pass.bytes_sent, egress_pass.bytes_received) == (5, 10)


async def test_bytes_are_counted_while_they_flow(
    proxy: EgressProxy, origin: Origin, session: ClientSession
) -> None:
    egress_pass, other = proxy.issue("job"), proxy.issue("job")
    async with session.get(origin.url("/endless"), proxy=egress_pass.proxy_url) as response:
        await response.content.readexactly(1)
        assert egress_pass.bytes_received > 1
        assert egress_pass.bytes_sent > 1
    assert (other.bytes_received, other.bytes_sent) == (0, 0)


@pytest.mark.parametrize("credentials", ["", "job:wrong@", "nobody:TOKEN@", "job@"])
async def test_no_pass_no_way(
    proxy: EgressProxy, origin: Origin, session: ClientSession, credentials: str
) -> None:
    token = proxy.issue("job").proxy_url.partition("@")[0].rpartition(":")[2]
    url = f"http://{credentials.replace('TOKEN', token)}127.0.0.1:{proxy.port}"
    async with session.get(origin.url("/echo"), proxy=url) as response:
        assert response.status == 407
        assert response.headers["Proxy-Authenticate"] == 'Basic realm="ingot-egress"'
    with pytest.raises(ClientHttpProxyError) as caught:
        await session.get("https://origin.test/", proxy=url)
    assert caught.value.status == 407
    assert origin.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "169.254.169.254",
        "0x0a.1",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1]",
        "printer",
        "db.internal",
        "private.test",
        "metadata.test",
    ],
)
async def test_forbidden_host_is_refused_and_not_dialled(
    names: Names,
    proxy: EgressProxy,
    session: ClientSession,
    dialled: list[Any],
    scheme: str,
    host: str,
) -> None:
    names.set("private.test", ["192.168.1.1", "10.0.0.1", "fd00::1"])
    names.set("metadata.test", ["169.254.169.254"])
    url = f"{scheme}://{host}/"
    assert await reason_for(session, proxy, url) == reason_pb2.REASON_ADDRESS_FORBIDDEN
    assert {address[1] for address in dialled} == {proxy.port}


async def test_loopback_is_refused_unless_opened(
    names: Names, origin: Origin, session: ClientSession
) -> None:
    async with guarding(names, egress_allow_loopback=False) as proxy:
        for host in ("127.0.0.1", "localhost", "origin.test", "2130706433", "[::1]"):
            reason = await reason_for(session, proxy, origin.url("/echo", host))
            assert reason == reason_pb2.REASON_ADDRESS_FORBIDDEN
    assert origin.requests == []


async def test_only_the_permitted_of_a_names_addresses_is_dialled(
    names: Names, proxy: EgressProxy, origin: Origin, session: ClientSession, dialled: list[Any]
) -> None:
    names.set("mixed.test", ["10.0.0.1", "127.0.0.1", "169.254.169.254"])
    assert await reason_for(session, proxy, origin.url("/echo", "mixed.test")) is None
    assert origin.requests == ["/echo"]
    assert {address[0] for address in dialled} == {"127.0.0.1"}


async def test_name_that_changes_its_answer_gains_nothing(
    names: Names, proxy: EgressProxy, origin: Origin, session: ClientSession
) -> None:
    names.set("rebind.test", ["127.0.0.1"], ["10.0.0.1"])
    url = origin.url("/echo", "rebind.test")
    assert await reason_for(session, proxy, url) is None
    # Asked once: what was checked was dialled.
    assert names.asked == ["rebind.test"]
    assert await reason_for(session, proxy, url) == reason_pb2.REASON_ADDRESS_FORBIDDEN


async def test_redirect_to_a_forbidden_address_is_refused(
    proxy: EgressProxy, origin: Origin, session: ClientSession
) -> None:
    url = origin.url("/away?to=http://10.0.0.1/")
    assert await reason_for(session, proxy, url) == reason_pb2.REASON_ADDRESS_FORBIDDEN


async def test_next_address_is_tried_when_one_does_not_answer(
    names: Names, proxy: EgressProxy, origin: Origin, session: ClientSession
) -> None:
    names.set("two.test", ["::1", "127.0.0.2", "127.0.0.1"])
    assert await reason_for(session, proxy, origin.url("/echo", "two.test")) is None


def _unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_unreachable_source_has_its_reason(
    names: Names, session: ClientSession, scheme: str
) -> None:
    names.set("empty.test", [])
    async with guarding(names, connect_timeout=timedelta(milliseconds=100)) as proxy:
        for host in ("missing.test", "slow.test", "empty.test", "a" * 64 + ".test"):
            reason = await reason_for(session, proxy, f"{scheme}://{host}/")
            assert reason == reason_pb2.REASON_HOST_NOT_FOUND
        url = f"{scheme}://origin.test:{_unused_port()}/"
        assert await reason_for(session, proxy, url) == reason_pb2.REASON_SOURCE_UNREACHABLE


async def test_systems_resolver_is_used_when_none_is_handed_in(
    origin: Origin, session: ClientSession
) -> None:
    proxy = EgressProxy(Settings(egress_allow_loopback=True))
    await proxy.start()
    assert await reason_for(session, proxy, origin.url("/echo", "localhost")) is None
    await proxy.close()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nX", b"SSH-2.0-x\r\n\r\n", b"x" * 99999]
)
async def test_origin_that_gives_no_answer_is_unreachable(
    proxy: EgressProxy, session: ClientSession, answer: bytes
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async with serving(handle) as port:
        url = f"http://origin.test:{port}/"
        assert await reason_for(session, proxy, url) == reason_pb2.REASON_SOURCE_UNREACHABLE


async def test_origin_cannot_pose_as_the_guard_nor_keep_the_connection(proxy: EgressProxy) -> None:
    async def forge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nProxy-Status: ingot-egress; error=dns_error\r\n"
            b"Connection: keep-alive\r\nContent-Length: 2\r\n\r\nhi"
        )
        assert await reader.read() == b"", "a second request came through"

    async with serving(forge) as port:
        request = f"GET http://127.0.0.1:{port}/ HTTP/1.1"
        async with raw_client(proxy, request) as (reader, writer):
            assert b"103 Early Hints\r\nLink: </x>\r\n\r\n" in await reader.readuntil(b"\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
            assert await reader.readexactly(2) == b"hi"
            writer.write(b"GET http://other.test/ HTTP/1.1\r\n\r\n")
            with suppress(ConnectionResetError):
                assert await reader.read() == b""


async def test_connections_to_one_host_take_turns(names: Names, origin: Origin) -> None:
    names.set("other.test", ["127.0.0.1"])
    names.set("origin.test.", ["127.0.0.1"])
    async with guarding(names, connections_per_host=1) as proxy, AsyncExitStack() as open_ends:
        await open_ends.enter_async_context(tunnel(proxy, f"origin.test:{origin.port}"))
        asked = len(names.asked)
        # However the host is written, and whatever the port.
        async with raw_client(proxy, f"CONNECT Origin.test:{_unused_port()} HTTP/1.1"):
            request = f"CONNECT origin.test.:{origin.port} HTTP/1.1"
            async with raw_client(proxy, request) as (reader, _):
                async with tunnel(proxy, f"other.test:{origin.port}"):
                    """Another host does not wait."""
                assert names.asked[asked:] == ["other.test"]
                await open_ends.aclose()
                # The one in front has its turn first, fails, and lets this one pass.
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
                assert head.startswith(b"HTTP/1.1 200 ")
                assert names.asked[asked + 1 :] == ["origin.test", "origin.test."]


async def test_who_stops_waiting_leaves_the_queue(names: Names, origin: Origin) -> None:
    authority = f"origin.test:{origin.port}"
    async with guarding(names, connections_per_host=1) as proxy:
        async with tunnel(proxy, authority):
            for _ in range(3):
                async with raw_client(proxy, f"CONNECT {authority} HTTP/1.1"):
                    """Gone before its turn."""
            revoked = proxy.issue("job")
            async with raw_client(proxy, f"CONNECT {authority} HTTP/1.1", revoked) as (reader, _):
                async with tunnel(proxy, f"127.0.0.1:{origin.port}"):
                    """By now the guard has read the request before."""
                revoked.revoke()
                with suppress(ConnectionResetError):
                    assert await asyncio.wait_for(reader.read(), 5) == b""
        async with tunnel(proxy, authority):
            assert names.asked == ["origin.test"] * 2


@pytest.mark.parametrize("how", ["tunnel", "request"])
async def test_revoking_closes_at_once(proxy: EgressProxy, origin: Origin, how: str) -> None:
    revoked, other = proxy.issue("job"), proxy.issue("job")
    request = f"GET http://origin.test:{origin.port}/endless HTTP/1.1"
    async with tunnel(proxy, f"origin.test:{origin.port}", other) as (_, other_writer):
        if how == "tunnel":
            client = tunnel(proxy, f"origin.test:{origin.port}", revoked)
        else:
            client = raw_client(proxy, request, revoked)
        async with client as (reader, writer):
            if how == "tunnel":
                writer.write(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.wait_for(origin.opened.wait(), 5)
            started = asyncio.get_running_loop().time()
            revoked.revoke()
            revoked.revoke()
            await asyncio.wait_for(origin.left.wait(), 1)
            assert asyncio.get_running_loop().time() - started < 0.2
            with suppress(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 1)
        async with raw_client(proxy, request, revoked) as (reader, _):
            assert (await reader.readline()).startswith(b"HTTP/1.1 407 ")
        other_writer.write(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
        async with tunnel(proxy, f"origin.test:{origin.port}", other):
            """The other pass still holds."""


async def test_client_that_leaves_ends_the_download(
    proxy: EgressProxy, origin: Origin, session: ClientSession
) -> None:
    response = await session.get(origin.url("/endless"), proxy=proxy.issue("job").proxy_url)
    await origin.opened.wait()
    response.close()
    await asyncio.wait_for(origin.left.wait(), 1)


async def test_half_closed_tunnel_leaves_nothing_open(proxy: EgressProxy, origin: Origin) -> None:
    async with tunnel(proxy, f"origin.test:{origin.port}") as (reader, writer):
        writer.write(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        await origin.opened.wait()
        writer.write_eof()
        await asyncio.wait_for(origin.left.wait(), 1)
        with suppress(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 1)


async def test_broken_download_does_not_look_complete(proxy: EgressProxy) -> None:
    for ends_cleanly in (True, False):

        async def end(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clean: bool = ends_cleanly
        ) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nbody")
            await writer.drain()
            if not clean:
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

        async with serving(end) as port:
            request = f"GET http://127.0.0.1:{port}/ HTTP/1.1"
            async with raw_client(proxy, request) as (reader, _):
                if ends_cleanly:
                    assert (await reader.read()).endswith(b"\r\n\r\nbody")
                else:
                    with pytest.raises(ConnectionResetError):
                        await reader.read()


async def test_bytes_arrive_unchanged_through_a_slow_reader(proxy: EgressProxy) -> None:
    blocks, sent = 512, asyncio.Event()
    digest = hashlib.sha256()

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(blocks):
            writer.write(number.to_bytes(4, "big") + BLOCK)
            await writer.drain()
        sent.set()

    egress_pass = proxy.issue("job")
    async with (
        serving(send) as port,
        tunnel(proxy, f"127.0.0.1:{port}", egress_pass) as (reader, _),
    ):
        await _settled(lambda: egress_pass.bytes_received)
        assert not sent.is_set(), "nothing held the origin back"
        while data := await reader.read(1 << 20):
            digest.update(data)
    expected = hashlib.sha256()
    for number in range(blocks):
        expected.update(number.to_bytes(4, "big") + BLOCK)
    assert digest.digest() == expected.digest()


async def test_upload_arrives_unchanged_at_a_slow_origin(proxy: EgressProxy) -> None:
    go_on, blocks = asyncio.Event(), 512
    digest = hashlib.sha256()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        for _ in range(blocks):
            digest.update(await reader.readexactly(len(BLOCK)))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    egress_pass = proxy.issue("job")
    async with serving(take) as port:
        request = f"POST http://127.0.0.1:{port}/ HTTP/1.1\r\nContent-Length: {blocks * len(BLOCK)}"
        async with raw_client(proxy, request, egress_pass) as (reader, writer):
            writer.writelines([BLOCK] * blocks)
            await _settled(lambda: egress_pass.bytes_sent)
            assert egress_pass.bytes_sent < blocks * len(BLOCK), "nothing held the client back"
            go_on.set()
            assert (await reader.readline()).startswith(b"HTTP/1.1 204 ")
    assert digest.digest() == hashlib.sha256(BLOCK * blocks).digest()


async def _settled(value: Callable[[], int]) -> None:
    """Returns when `value` has grown and grows no more."""
    before = 0
    while not before or value() != before:
        before = value()
        await asyncio.sleep(0.05)


async def test_upstream_resolves_names_and_local_ones_are_refused_here(
    names: Names, origin: Origin, session: ClientSession
) -> None:
    there = Names()
    there.set("far.test", ["127.0.0.1"])
    there.set("private.test", ["10.0.0.1"])
    async with guarding(there) as upstream:
        used = upstream.issue("the worker")
        async with guarding(names, egress_proxy=used.proxy_url) as proxy:
            assert await reason_for(session, proxy, origin.url("/echo", "far.test")) is None
            async with tunnel(proxy, f"far.test:{origin.port}") as (reader, writer):
                writer.write(b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
            assert names.asked == []
            assert there.asked == ["far.test"] * 2
            assert origin.requests == ["/echo"] * 2
            for scheme in ("http", "https"):
                for host, reason in {
                    "private.test": reason_pb2.REASON_ADDRESS_FORBIDDEN,
                    "missing.test": reason_pb2.REASON_HOST_NOT_FOUND,
                    f"far.test:{_unused_port()}": reason_pb2.REASON_SOURCE_UNREACHABLE,
                }.items():
                    assert await reason_for(session, proxy, f"{scheme}://{host}/") == reason
            passed_on = used.bytes_sent, len(there.asked)
            for host in ("10.0.0.1", "printer", "db.internal", "[::ffff:a00:1]"):
                refused = await reason_for(session, proxy, f"http://{host}/")
                assert refused == reason_pb2.REASON_ADDRESS_FORBIDDEN
            assert passed_on == (used.bytes_sent, len(there.asked))


async def test_a_pass_with_an_upstream_of_its_own_goes_through_that_one_alone(
    names: Names, origin: Origin, session: ClientSession
) -> None:
    there, elsewhere = Names(), Names()
    for resolver in (there, elsewhere):
        resolver.set("far.test", ["127.0.0.1"])
    async with (
        guarding(there) as upstream,
        guarding(elsewhere) as general,
        guarding(names, egress_proxy=general.issue("the worker").proxy_url) as proxy,
    ):
        chained = proxy.issue("chained", upstream.issue("the source").proxy_url)
        other = proxy.issue("other")
        for egress_pass in (chained, other, chained):
            url = origin.url("/echo", "far.test")
            async with session.get(url, proxy=egress_pass.proxy_url) as response:
                assert response.status == 200
        assert (len(there.asked), len(elsewhere.asked), names.asked) == (2, 1, [])
        async with session.get("http://10.0.0.1/", proxy=chained.proxy_url) as response:
            assert "destination_ip_prohibited" in response.headers["Proxy-Status"]
        with pytest.raises(SettingError, match="proxy of a source") as raised:
            proxy.issue("wrong", "socks5://name:password@127.0.0.1:1")
        assert "password" not in str(raised.value)


@pytest.mark.parametrize("fault", ["credentials", "port", "silence"])
async def test_upstream_that_cannot_be_used_is_named(
    names: Names, proxy: EgressProxy, session: ClientSession, fault: str
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with serving(hang_up) as silent_port:
        ports = {"credentials": proxy.port, "port": _unused_port(), "silence": silent_port}
        setting = f"http://x:y@127.0.0.1:{ports[fault]}"
        async with guarding(names, egress_proxy=setting) as chained:
            url = chained.issue("job").proxy_url
            async with session.get("http://far.test/", proxy=url) as response:
                failure = failure_of(response.headers["Proxy-Status"], "far.test")
    assert failure is not None
    assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE
    assert "INGOT_EGRESS_PROXY" in failure.message


async def test_upstream_gets_a_literal_as_it_was_checked(names: Names) -> None:
    asked: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0])
        writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")

    async with (
        serving(refuse) as port,
        guarding(names, egress_proxy=f"http://127.0.0.1:{port}") as proxy,
    ):
        # Octal: who reads it as decimal would reach a private address.
        for target in ("010.8.8.8:80", "[2606:4700:0::1111]:80"):
            async with raw_client(proxy, f"CONNECT {target} HTTP/1.1") as (reader, _):
                assert b"error=http_request_denied" in await reader.read()
    assert asked == [b"CONNECT 8.8.8.8:80 HTTP/1.1", b"CONNECT [2606:4700::1111]:80 HTTP/1.1"]


async def test_connection_in_which_nothing_moves_is_ended(names: Names, origin: Origin) -> None:
    async with (
        guarding(names, stall_timeout=timedelta(milliseconds=20)) as proxy,
        tunnel(proxy, f"origin.test:{origin.port}") as (reader, _),
    ):
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 1)


async def test_client_that_asks_for_nothing_is_turned_away(names: Names) -> None:
    async with guarding(names, connect_timeout=timedelta(milliseconds=20)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert (await asyncio.wait_for(reader.readline(), 1)).startswith(b"HTTP/1.1 408 ")
        writer.close()
        await writer.wait_closed()


async def test_oversized_head_is_refused(proxy: EgressProxy) -> None:
    request = f"GET http://origin.test/{'x' * 70_000} HTTP/1.1"
    async with raw_client(proxy, request) as (reader, _):
        assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")


async def test_close_leaves_nothing_behind(names: Names, origin: Origin) -> None:
    descriptors, tasks = len([*Path("/dev/fd").iterdir()]), asyncio.all_tasks()
    async with guarding(names, connections_per_host=2) as proxy, AsyncExitStack() as clients:
        for authority in [f"origin.test:{origin.port}"] * 4 + ["slow.test:80"]:
            request = f"CONNECT {authority} HTTP/1.1"
            await clients.enter_async_context(raw_client(proxy, request))
        await clients.enter_async_context(tunnel(proxy, f"127.0.0.1:{origin.port}"))
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        clients.callback(writer.close)
        await proxy.close()
        left = {task for task in asyncio.all_tasks() - tasks if "egress" in task.get_name()}
        assert not left
    for _ in range(3):
        await asyncio.sleep(0.01)
    assert len([*Path("/dev/fd").iterdir()]) == descriptors
