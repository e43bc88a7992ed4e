"""Random calls and random bytes: every one ends, with a result or a reason, and leaves nothing."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from ingot.v1 import (
    ingest_service_pb2,
    job_service_pb2,
    media_service_pb2,
    source_service_pb2,
    system_service_pb2,
    webhook_service_pb2,
)
from ingot_server.app import Addresses, running
from ingot_server.config import Settings
from ingot_server.redis import Redis
from ingot_server.setting_values import Secret
from tests.growth import kept, stray_keys
from tests.random_messages import random_message
from tests.waiting import until

pytestmark = pytest.mark.any_stores

CASES: Final = 10_000
SEED: Final = 14
REPEATED: Final = 2000
# What repeated calls may leave. Measured were up to 0.5 blocks, 300 bytes and 0.2 bytes of Redis.
BLOCKS_PER_CALL: Final = 1.5
BYTES_PER_CALL: Final = 10_000
REDIS_BYTES_PER_CALL: Final = 16
AT_ONCE: Final = 32
SECONDS: Final = 120.0
"""What takes longer hangs."""
_DEFECTS: Final = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
_METHODS: Final = [
    method
    for module in (
        ingest_service_pb2,
        job_service_pb2,
        media_service_pb2,
        source_service_pb2,
        system_service_pb2,
        webhook_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


@dataclass(frozen=True)
class Case:
    """One call."""

    method: MethodDescriptor
    request: Message
    over_http: bool
    cut: int
    """Where the text of the request is cut and repeated; negative for not at all."""

    @property
    def path(self) -> str:
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    def __str__(self) -> str:
        return f"{self.path} {self.over_http=} {self.cut=} {self.request!r}"


def random_cases() -> Sequence[Case]:
    """The same cases each time, each method as often as any other."""
    source = random.Random(SEED)
    return [_random_case(_METHODS[number % len(_METHODS)], source) for number in range(CASES)]


def _random_case(method: MethodDescriptor, source: random.Random) -> Case:
    is_unary = not (method.client_streaming or method.server_streaming)
    return Case(
        method,
        random_message(method.input_type, source),
        over_http=is_unary and source.random() < 0.5,
        cut=source.randrange(-100, 40),
    )


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Addresses]:
    """A server without workers, which asks no source."""
    secret = "whsec_" + "bm5u" * 11 + "bg=="
    async with running(
        settings.replace(
            preflight=False,
            extraction_timeout=timedelta(milliseconds=10),
            webhook_secrets=Secret(secret),
        )
    ) as addresses:
        yield addresses


async def call(case: Case, channel: grpc.aio.Channel) -> str:
    """Make a call over gRPC; return what is wrong with how it ended."""
    method = case.method
    options: dict[str, Any] = {
        "request_serializer": lambda message: message.SerializeToString(),
        "response_deserializer": GetMessageClass(method.output_type).FromString,
    }

    async def requests() -> AsyncIterator[Message]:
        for _ in range(2):
            yield case.request

    try:
        async with asyncio.timeout(SECONDS):
            if method.client_streaming:
                await channel.stream_unary(case.path, **options)(requests())
            elif method.server_streaming:
                stream = channel.unary_stream(case.path, **options)(case.request)
                async for _ in stream:
                    break
                stream.cancel()
            else:
                await channel.unary_unary(case.path, **options)(case.request)
    except TimeoutError:
        return "it hangs"
    except grpc.aio.AioRpcError as error:
        return f"{error.code()}: {error.details()}" if error.code() in _DEFECTS else ""
    return ""


async def post(case: Case, http: aiohttp.ClientSession) -> str:
    """Make a call with JSON, or in binary if JSON cannot say it; return as `call` does."""
    try:
        text = json_format.MessageToJson(case.request, indent=None)
    except (ValueError, json_format.Error):
        data, kind = case.request.SerializeToString(), "application/proto"
    else:
        if case.cut >= 0:
            text = text[: case.cut] + text[case.cut // 2 :]
        data, kind = text.encode(errors="surrogatepass"), "application/json"
    try:
        async with (
            asyncio.timeout(SECONDS),
            http.post(case.path, data=data, headers={"Content-Type": kind}) as response,
        ):
            body = await response.read()
    except TimeoutError:
        return "it hangs"
    return f"{response.status}: {body!r}" if response.status == 500 else ""


async def make_all(
    cases: Sequence[Case], channel: grpc.aio.Channel, http: aiohttp.ClientSession
) -> None:
    """Make calls, some at once, and check how each one ends."""
    waiting = iter(cases)
    wrong: list[str] = []

    async def work() -> None:
        for case in waiting:
            problem = await (post(case, http) if case.over_http else call(case, channel))
            if problem:
                wrong.append(f"{problem[:300]}\n  {str(case)[:600]}")

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong[:20])


async def test_random_messages_end_with_a_result_or_a_reason_and_leave_nothing(
    server: Addresses, redis: Redis
) -> None:
    cases = random_cases()
    async with (
        grpc.aio.insecure_channel(server.grpc) as channel,
        aiohttp.ClientSession(f"http://{server.http}") as http,
    ):
        await channel.channel_ready()
        tasks_before = len(asyncio.all_tasks())
        await make_all(cases, channel, http)
        # Nothing goes on for calls that have ended.
        await until(lambda: len(asyncio.all_tasks()) <= tasks_before + 5)
        # All caches have these requests now, and all their jobs exist.
        before = await kept(redis)
        await make_all(cases[:REPEATED], channel, http)
        await until(lambda: len(asyncio.all_tasks()) <= tasks_before + 5)
        after = await kept(redis)
    assert after.blocks - before.blocks < BLOCKS_PER_CALL * REPEATED
    assert after.resident_bytes - before.resident_bytes < BYTES_PER_CALL * REPEATED
    assert after.redis_bytes - before.redis_bytes < REDIS_BYTES_PER_CALL * REPEATED
    assert await stray_keys(redis) == []


async def test_random_bytes_on_both_ports_leave_no_connection(server: Addresses) -> None:
    source = random.Random(SEED)
    begins = (
        b"",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: ",
        b"\x16\x03\x01",
    )
    gc.collect()
    before = open_descriptors()

    async def disturb(address: str) -> None:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        with suppress(ConnectionError):
            writer.write(source.choice(begins) + source.randbytes(source.randrange(2000)))
            await writer.drain()
            if source.random() < 0.5:
                writer.write_eof()
                async with asyncio.timeout(SECONDS):
                    await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    for _ in range(20):
        await asyncio.gather(*(disturb(each) for each in (server.grpc, server.http) * 10))
    async with (
        grpc.aio.insecure_channel(server.grpc) as channel,
        aiohttp.ClientSession(f"http://{server.http}") as http,
    ):
        listing = next(each for each in _METHODS if each.name == "ListSources")
        request = source_service_pb2.ListSourcesRequest()
        for over_http in (False, True):
            case = Case(listing, request, over_http, -1)
            assert await (post(case, http) if over_http else call(case, channel)) == ""
    await until(lambda: open_descriptors() <= before + 20)
