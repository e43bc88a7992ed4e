"""How many connections there are, and that every one of them ends."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession

from ingot.v1 import reason_pb2
from ingot_server.egress.grants import GrantLimits
from ingot_server.egress.proxy import EgressProxy, failure_from_proxy_status
from tests.integration.egress.running_proxy import (
    FakeResolver,
    Origin,
    raw_client,
    running_proxy,
    serving,
    tunnel,
)
from tests.waiting import TIMEOUT_SECONDS, until


async def test_connections_to_one_host_take_turns(
    names: FakeResolver, origin: Origin, closed_port: int
) -> None:
    names.set("other.test", ["127.0.0.1"])
    names.set("origin.test.", ["127.0.0.1"])
    async with running_proxy(names, connections_per_host=1) as proxy, AsyncExitStack() as open_ends:
        await open_ends.enter_async_context(tunnel(proxy, f"origin.test:{origin.port}"))
        asked = len(names.asked)
        # However the host is written, and whatever the port.
        async with raw_client(proxy, f"CONNECT Origin.test:{closed_port} HTTP/1.1"):
            request = f"CONNECT origin.test.:{origin.port} HTTP/1.1"
            async with raw_client(proxy, request) as (reader, _):
                async with tunnel(proxy, f"other.test:{origin.port}"):
                    """Another host does not wait."""
                assert names.asked[asked:] == ["other.test"]
                await open_ends.aclose()
                # The one in front is served first, fails, and makes room for this one.
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT_SECONDS)
                assert head.startswith(b"HTTP/1.1 200 ")
                assert names.asked[asked + 1 :] == ["origin.test", "origin.test."]


async def test_a_caller_that_stops_waiting_leaves_the_queue(
    names: FakeResolver, origin: Origin
) -> None:
    authority = f"origin.test:{origin.port}"
    async with running_proxy(names, connections_per_host=1) as proxy:
        async with tunnel(proxy, authority):
            for _ in range(3):
                async with raw_client(proxy, f"CONNECT {authority} HTTP/1.1"):
                    """Cancelled while it waited."""
            revoked = proxy.grant("job")
            async with raw_client(proxy, f"CONNECT {authority} HTTP/1.1", revoked) as (reader, _):
                async with tunnel(proxy, f"127.0.0.1:{origin.port}"):
                    """By now the guard has read the request before."""
                revoked.revoke()
                with suppress(ConnectionResetError):
                    assert await asyncio.wait_for(reader.read(), TIMEOUT_SECONDS) == b""
        async with tunnel(proxy, authority):
            assert names.asked == ["origin.test"] * 2


async def test_a_grant_has_only_so_many_connections_at_once(
    proxy: EgressProxy, origin: Origin, session: ClientSession
) -> None:
    limited = proxy.grant("job", limits=GrantLimits(received_bytes=1 << 20, connections=1))
    async with tunnel(proxy, f"origin.test:{origin.port}", limited):
        async with session.get(origin.url("/echo"), proxy=limited.proxy_url) as response:
            assert response.status == 503
            assert "connection_limit_reached" in response.headers["Proxy-Status"]
        async with tunnel(proxy, f"origin.test:{origin.port}"):
            """Another grant has its own."""
    async with session.get(origin.url("/echo"), proxy=limited.proxy_url) as response:
        assert response.status == 200


async def test_a_grant_ends_after_so_many_bytes(
    proxy: EgressProxy, origin: Origin, session: ClientSession
) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(bytes(1000))
            await writer.drain()

    async with serving(flood) as port:
        limited = proxy.grant("job", limits=GrantLimits(received_bytes=10_000, connections=2))
        async with tunnel(proxy, f"127.0.0.1:{port}", limited) as (reader, _):
            with suppress(ConnectionResetError):
                while await asyncio.wait_for(reader.read(1 << 20), TIMEOUT_SECONDS):
                    """More than the grant allows."""
        assert limited.exhausted
        async with session.get(origin.url("/echo"), proxy=limited.proxy_url) as response:
            failure = failure_from_proxy_status(response.headers["Proxy-Status"], "origin.test")
    assert failure is not None
    assert failure.reason == reason_pb2.REASON_TOO_LARGE
    assert origin.requests == []


@pytest.mark.parametrize("how", ["tunnel", "request"])
async def test_revoking_closes_at_once(proxy: EgressProxy, origin: Origin, how: str) -> None:
    revoked, other = proxy.grant("job"), proxy.grant("job")
    request = f"GET http://origin.test:{origin.port}/endless HTTP/1.1"
    async with tunnel(proxy, f"origin.test:{origin.port}", other) as (_, other_writer):
        if how == "tunnel":
            client = tunnel(proxy, f"origin.test:{origin.port}", revoked)
        else:
            client = raw_client(proxy, request, revoked)
        async with client as (reader, writer):
            if how == "tunnel":
                writer.write(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.wait_for(origin.opened.wait(), TIMEOUT_SECONDS)
            revoked.revoke()
            revoked.revoke()
            # Sooner than a connection is ended in which nothing moves.
            await asyncio.wait_for(origin.left.wait(), TIMEOUT_SECONDS / 2)
            with suppress(ConnectionResetError):
                await asyncio.wait_for(reader.read(), TIMEOUT_SECONDS)
        async with raw_client(proxy, request, revoked) as (reader, _):
            assert (await reader.readline()).startswith(b"HTTP/1.1 407 ")
        other_writer.write(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
        async with tunnel(proxy, f"origin.test:{origin.port}", other):
            """The other grant is still valid."""


async def test_client_that_leaves_ends_the_download(
    proxy: EgressProxy, origin: Origin, session: ClientSession
) -> None:
    response = await session.get(origin.url("/endless"), proxy=proxy.grant("job").proxy_url)
    await origin.opened.wait()
    response.close()
    await asyncio.wait_for(origin.left.wait(), TIMEOUT_SECONDS)


async def test_half_closed_tunnel_leaves_nothing_open(proxy: EgressProxy, origin: Origin) -> None:
    async with tunnel(proxy, f"origin.test:{origin.port}") as (reader, writer):
        writer.write(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        await origin.opened.wait()
        writer.write_eof()
        await asyncio.wait_for(origin.left.wait(), TIMEOUT_SECONDS)
        with suppress(ConnectionResetError):
            await asyncio.wait_for(reader.read(), TIMEOUT_SECONDS)


async def test_connection_in_which_nothing_moves_is_ended(
    names: FakeResolver, origin: Origin
) -> None:
    async with (
        running_proxy(names, stall_timeout=timedelta(milliseconds=20)) as proxy,
        tunnel(proxy, f"origin.test:{origin.port}") as (reader, _),
    ):
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), TIMEOUT_SECONDS)


async def test_client_that_asks_for_nothing_is_turned_away(names: FakeResolver) -> None:
    async with running_proxy(names, connect_timeout=timedelta(milliseconds=20)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        answer = await asyncio.wait_for(reader.readline(), TIMEOUT_SECONDS)
        assert answer.startswith(b"HTTP/1.1 408 ")
        writer.close()
        await writer.wait_closed()


async def test_oversized_head_is_refused(proxy: EgressProxy) -> None:
    request = f"GET http://origin.test/{'x' * 70_000} HTTP/1.1"
    async with raw_client(proxy, request) as (reader, _):
        assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")


async def test_close_leaves_nothing_behind(names: FakeResolver, origin: Origin) -> None:
    descriptors, tasks = len([*Path("/dev/fd").iterdir()]), asyncio.all_tasks()
    async with running_proxy(names, connections_per_host=2) as proxy, AsyncExitStack() as clients:
        for authority in [f"origin.test:{origin.port}"] * 4 + ["slow.test:80"]:
            request = f"CONNECT {authority} HTTP/1.1"
            await clients.enter_async_context(raw_client(proxy, request))
        await clients.enter_async_context(tunnel(proxy, f"127.0.0.1:{origin.port}"))
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        clients.callback(writer.close)
        await proxy.close()
        left = {task for task in asyncio.all_tasks() - tasks if "egress" in task.get_name()}
        assert not left
    await until(lambda: len([*Path("/dev/fd").iterdir()]) <= descriptors)
