"""What goes through the guard arrives unchanged, is counted, and cannot pose as the guard."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from aiohttp import ClientSession

from ingot.v1 import reason_pb2
from ingot_server.egress.bandwidth import Bandwidth
from ingot_server.egress.grants import EgressGrant
from ingot_server.egress.proxy import EgressProxy
from ingot_server.setting_values import ByteSize
from tests.integration.egress.running_proxy import (
    FakeResolver,
    Origin,
    raw_client,
    reason_for,
    running_proxy,
    serving,
    tunnel,
)

BLOCK = bytes(range(256)) * 256


async def test_request_arrives_in_origin_form_without_proxy_headers(
    proxy: EgressProxy, origin: Origin, session: ClientSession
) -> None:
    egress_grant = proxy.grant("job/1 @")
    async with session.post(
        origin.url("/echo?a=%26b"), data=b"hello", proxy=egress_grant.proxy_url
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

    egress_grant = proxy.grant("job")
    async with (
        serving(shout) as port,
        tunnel(proxy, f"127.0.0.1:{port}", egress_grant) as (reader, writer),
    ):
        writer.write(b"hello")
        assert await reader.read() == b"HELLOHELLO"
    assert (egress_grant.bytes_sent, egress_grant.bytes_received) == (5, 10)


@pytest.mark.parametrize("shared", ["source", "worker"])
async def test_connections_share_a_bandwidth_and_lose_nothing(shared: str) -> None:
    content = os.urandom(96 << 10)
    limit = 256 << 10

    async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()

    settings = {"bandwidth": ByteSize(limit)} if shared == "worker" else {}
    async with running_proxy(FakeResolver(), **settings) as proxy, serving(send) as port:
        bandwidth = Bandwidth(limit) if shared == "source" else None
        grants = [proxy.grant(name, bandwidth=bandwidth) for name in ("one", "two", "three")]

        async def receive(egress_grant: EgressGrant) -> bytes:
            async with tunnel(proxy, f"127.0.0.1:{port}", egress_grant) as (reader, _):
                return await reader.read()

        began = time.monotonic()
        received = await asyncio.gather(*map(receive, grants))
        took = time.monotonic() - began

    assert received == [content] * 3
    # All but the last read of each, and what may come at once, was waited for.
    assert took > (3 * (len(content) - (16 << 10))) / limit - 0.2


async def test_bytes_are_counted_while_they_flow(
    proxy: EgressProxy, origin: Origin, session: ClientSession
) -> None:
    egress_grant, other = proxy.grant("job"), proxy.grant("job")
    async with session.get(origin.url("/endless"), proxy=egress_grant.proxy_url) as response:
        await response.content.readexactly(1)
        assert egress_grant.bytes_received > 1
        assert egress_grant.bytes_sent > 1
    assert (other.bytes_received, other.bytes_sent) == (0, 0)


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

    egress_grant = proxy.grant("job")
    async with (
        serving(send) as port,
        tunnel(proxy, f"127.0.0.1:{port}", egress_grant) as (reader, _),
    ):
        await _settled(lambda: egress_grant.bytes_received)
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

    egress_grant = proxy.grant("job")
    async with serving(take) as port:
        request = f"POST http://127.0.0.1:{port}/ HTTP/1.1\r\nContent-Length: {blocks * len(BLOCK)}"
        async with raw_client(proxy, request, egress_grant) as (reader, writer):
            writer.writelines([BLOCK] * blocks)
            await _settled(lambda: egress_grant.bytes_sent)
            assert egress_grant.bytes_sent < blocks * len(BLOCK), "nothing held the client back"
            go_on.set()
            assert (await reader.readline()).startswith(b"HTTP/1.1 204 ")
    assert digest.digest() == hashlib.sha256(BLOCK * blocks).digest()


async def _settled(value: Callable[[], int]) -> None:
    """Returns when `value` has grown and grows no more."""
    before = 0
    while not before or value() != before:
        before = value()
        await asyncio.sleep(0.05)
