"""The API as browsers reach it: a real server, and an HTTP client that knows no RPC."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from google.protobuf.json_format import Parse
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from ingot.v1 import media_service_pb2
from ingot.v1.ingest_service_pb2 import IngestResponse
from ingot.v1.job_pb2 import Job
from ingot.v1.media_service_pb2 import DownloadResponse, GetMediaRequest, GetMediaResponse
from ingot_server.api.authentication import Authentication
from ingot_server.api.caller import Caller, Service
from ingot_server.api.gateway import Gateway
from ingot_server.api.http_connection import DEFAULT_LIMITS, TimeLimits
from ingot_server.api.metrics_report import MetricsReport
from ingot_server.app import Addresses, running
from ingot_server.config import Settings
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis, connect

URL = "http://127.0.0.1/clip.mp4"
PAGE = "https://page.example"
INGEST = "/ingot.v1.IngestService/Ingest"
GET_JOB = "/ingot.v1.JobService/GetJob"
WATCH_JOB = "/ingot.v1.JobService/WatchJob"
WATCH_JOBS = "/ingot.v1.JobService/WatchJobs"
GET_MEDIA = "/ingot.v1.MediaService/GetMedia"
DOWNLOAD = "/ingot.v1.MediaService/Download"

CONNECT_JSON = {"Content-Type": "application/connect+json"}
CONNECT_PROTO = {"Content-Type": "application/connect+proto"}
GRPC_WEB = {"Content-Type": "application/grpc-web+proto", "X-Grpc-Web": "1"}

END_OF_CONNECT = 0b10
END_OF_GRPC_WEB = 0b1000_0000


@dataclass
class Api:
    """A running server, an HTTP client of it, and the records behind it."""

    addresses: Addresses
    http: aiohttp.ClientSession
    records: Records

    async def ingest(self) -> Job:
        async with self.http.post(INGEST, json={"url": URL}) as response:
            return Parse(await response.text(), IngestResponse()).job

    async def run(self, job: Job) -> tuple[Job, str]:
        """Takes the job as a worker does."""
        claim = await self.records.claim(job.id)
        assert claim is not None
        return claim.job, claim.token


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Api]:
    connections = connect(settings)
    async with (
        running(settings) as addresses,
        aiohttp.ClientSession(f"http://{addresses.http}") as http,
    ):
        yield Api(addresses, http, Records(connections, settings))
    await connections.aclose()


class SlowService(Service):
    """A MediaService that answers when it is let to, and knows when its calls have ended."""

    descriptor = media_service_pb2.DESCRIPTOR.services_by_name["MediaService"]

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.released = asyncio.Event()
        self.ended = asyncio.Event()
        self.peers: list[str] = []

    async def get_media(self, request: GetMediaRequest, caller: Caller) -> GetMediaResponse:
        self.peers.append(caller.peer)
        self.began.set()
        try:
            await self.released.wait()
        finally:
            self.ended.set()
        if request.media_id == "defect":
            raise ZeroDivisionError("a secret")
        return GetMediaResponse()

    batch_get_media = list_media = update_media = get_media
    delete_media = create_download_url = get_storyboard = get_media

    async def download(
        self, _: Any, caller: Caller
    ) -> AsyncGenerator[DownloadResponse | bytes, None]:
        self.began.set()
        try:
            yield DownloadResponse(offset=1, data=b"first")
            await self.released.wait()
            # What a client that does not read cannot take.
            for _ in range(1000):
                yield DownloadResponse(data=bytes(256 << 10)).SerializeToString()
        finally:
            self.ended.set()


@dataclass
class Slow:
    service: SlowService
    gateway: Gateway
    http: aiohttp.ClientSession
    address: str


async def no_feed(scope: Any, _: Any) -> None:
    raise AssertionError(f"{scope['path']} is a feed")


def gateway_of(
    services: Sequence[Service],
    settings: Settings,
    time_limits: TimeLimits = DEFAULT_LIMITS,
    redis: Redis | None = None,
) -> Gateway:
    return Gateway(
        services,
        settings,
        Authentication(settings),
        redis or connect(settings),
        MetricsReport(),
        no_feed,
        time_limits=time_limits,
    )


@asynccontextmanager
async def slowly(
    *, time_limits: TimeLimits = DEFAULT_LIMITS, **settings: Any
) -> AsyncIterator[Slow]:
    service = SlowService()
    chosen = Settings(**{"http_address": "127.0.0.1:0", **settings})
    redis = connect(chosen)
    gateway = gateway_of([service], chosen, time_limits, redis)
    address = await gateway.start()
    async with aiohttp.ClientSession(f"http://{address}") as http:
        yield Slow(service, gateway, http, address)
    service.released.set()
    await gateway.stop()
    await redis.aclose()


def framed(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


async def frame(response: aiohttp.ClientResponse) -> tuple[int, bytes]:
    flags, size = struct.unpack(">BI", await response.content.readexactly(5))
    return flags, await response.content.readexactly(size)


def reason(details: list[dict[str, Any]]) -> str:
    """The reason in Connect's error details, which are base64 without padding."""
    found = [each for each in details if each["type"] == "google.rpc.ErrorInfo"]
    assert len(found) == 1
    info = ErrorInfo.FromString(base64.b64decode(found[0]["value"] + "=="))
    assert info.domain == "ingot.v1"
    assert found[0]["debug"]["reason"] == info.reason
    return str(info.reason)


def trailers(block: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in block.decode().splitlines())


def grpc_web_reason(found: dict[str, str]) -> str:
    """The reason in the trailers of gRPC-Web."""
    status = Status.FromString(base64.b64decode(found["grpc-status-details-bin"] + "=="))
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert status.message
    return str(info.reason)
