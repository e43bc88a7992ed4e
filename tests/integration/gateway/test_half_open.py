"""Clients that send half a request, and what they keep from others."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ingot_server.api.http_connection import LEAST_BODY_BYTES, TimeLimits
from ingot_server.config import Settings
from ingot_server.local.ports import Ports
from ingot_server.process.supervisor import Program, SupervisedProgram
from tests.integration.gateway.running_gateway import (
    CONNECT_JSON,
    DOWNLOAD,
    GET_MEDIA,
    frame,
    framed,
    slowly,
)
from tests.waiting import TIMEOUT_SECONDS

HALF_A_HEAD = f"POST {GET_MEDIA} HTTP/1.1\r\nHost: localhost\r\nX-".encode()
HEAD = f"POST {GET_MEDIA} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
QUICK = timedelta(milliseconds=200)


@asynccontextmanager
async def connections(
    address: str, number: int, data: bytes
) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Open connections that send `data`, and then nothing more."""
    opened = [await asyncio.open_connection(*address.split(":")) for _ in range(number)]
    try:
        for _, writer in opened:
            writer.write(data)
        yield [reader for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.close()
        await asyncio.gather(*(each.wait_closed() for _, each in opened), return_exceptions=True)


async def closed(reader: asyncio.StreamReader) -> None:
    """Wait until the server closes a connection."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        with suppress(ConnectionResetError):
            assert await reader.read() == b""


@pytest.mark.parametrize("data", [b"", b"P", HALF_A_HEAD])
async def test_heads_that_do_not_end_are_closed(data: bytes) -> None:
    async with (
        slowly(time_limits=TimeLimits(head=QUICK)) as slow,
        connections(slow.address, 300, data) as readers,
    ):
        await asyncio.gather(*map(closed, readers))
        async with slow.http.get("/healthz") as response:
            assert response.status == 200


async def test_a_second_head_has_the_same_time() -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with slowly(time_limits=TimeLimits(head=QUICK)) as slow:
        reader, writer = await asyncio.open_connection(*slow.address.split(":"))
        writer.write(request)
        assert (await reader.readuntil(b"serving\n")).startswith(b"HTTP/1.1 200")
        writer.write(HALF_A_HEAD)
        await closed(reader)
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"{", b"{" + b" " * (LEAST_BODY_BYTES - 10)])
async def test_a_body_that_does_not_go_on_is_closed(sent: bytes) -> None:
    head = f"{HEAD}Content-Length: 9999\r\n\r\n".encode()
    async with (
        slowly(time_limits=TimeLimits(body=QUICK)) as slow,
        connections(slow.address, 20, head + sent) as readers,
    ):
        await asyncio.gather(*map(closed, readers))
        assert not slow.service.began.is_set()


async def test_a_body_that_goes_on_may_take_its_time() -> None:
    limits = TimeLimits(head=QUICK, body=5 * QUICK)
    body = b'{"mediaId":"a"}'.ljust(8 * LEAST_BODY_BYTES)
    async with slowly(time_limits=limits) as slow:
        slow.service.released.set()
        reader, writer = await asyncio.open_connection(*slow.address.split(":"))
        writer.write(f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode())
        for start in range(0, len(body), LEAST_BODY_BYTES):
            writer.write(body[start : start + LEAST_BODY_BYTES])
            async with connections(slow.address, 1, HALF_A_HEAD) as (other,):
                await closed(other)  # a fifth of the limit later
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_response_may_take_its_time() -> None:
    async with (
        slowly(time_limits=TimeLimits(head=QUICK, body=QUICK)) as slow,
        slow.http.post(DOWNLOAD, data=framed(b'{"mediaId":"a"}'), headers=CONNECT_JSON) as response,
    ):
        await frame(response)
        async with connections(slow.address, 1, HALF_A_HEAD) as (other,):
            await closed(other)  # the limits have passed
        assert not response.content.at_eof()


async def test_one_address_is_bounded_and_gets_room_back() -> None:
    async with slowly(http_connections=10, http_connections_per_address=3) as slow:
        async with connections(slow.address, 3, HALF_A_HEAD) as held:
            async with connections(slow.address, 5, HALF_A_HEAD) as refused:
                await asyncio.gather(*map(closed, refused))
            assert not any(reader.at_eof() for reader in held)
        async with asyncio.timeout(TIMEOUT_SECONDS), slow.http.get("/healthz") as response:
            assert response.status == 200


@pytest.mark.any_stores
async def test_half_sent_heads_do_not_stop_grpc(settings: Settings) -> None:
    descriptors, sent = 1024, 1100
    room = descriptors // 4  # for one address
    waiting, refused = set[asyncio.Task[None]](), asyncio.Event()

    def ended(task: asyncio.Task[None]) -> None:
        waiting.discard(task)
        if len(waiting) == room:
            refused.set()

    async with (
        limited_server(settings, descriptors) as server,
        connections(server.http_address, sent, HALF_A_HEAD) as readers,
    ):
        waiting |= {asyncio.create_task(closed(reader)) for reader in readers}
        for task in list(waiting):
            task.add_done_callback(ended)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await refused.wait()
        async with grpc.aio.insecure_channel(server.grpc_address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            response = await health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        assert response.status == health_pb2.HealthCheckResponse.SERVING
        for task in waiting:
            task.remove_done_callback(ended)
            task.cancel()


@asynccontextmanager
async def limited_server(settings: Settings, descriptors: int) -> AsyncIterator[Settings]:
    """Run `ingot-server serve` with few descriptors; yield its settings."""
    with Ports() as ports:
        settings = settings.replace(
            grpc_address=f"127.0.0.1:{ports.reserve('127.0.0.1')}",
            http_address=f"127.0.0.1:{ports.reserve('127.0.0.1')}",
        )
        serve = f'ulimit -n {descriptors} && exec "$0" -m ingot_server.cli serve'
        program = Program(
            name="serve",
            arguments=("/bin/sh", "-c", serve, sys.executable),
            ready=re.compile("serving gRPC on"),
            environment=settings.environment(),
        )
        server = SupervisedProgram(program, log=io.StringIO())
        server.start()
        try:
            await server.wait_until_ready()
            yield settings
        finally:
            await server.stop(1)
