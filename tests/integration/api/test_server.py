"""What the server does for every service: not found, health, reflection, draining, defects."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import time
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from ingot import Client
from ingot.v1.job_service_pb2 import (
    CancelJobRequest,
    GetJobRequest,
    WatchJobRequest,
    WatchJobsRequest,
)
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    DeleteMediaRequest,
    DownloadRequest,
    DownloadResponse,
    GetMediaRequest,
    GetMediaResponse,
)
from ingot_server.api import calls
from ingot_server.api.authentication import Authentication
from ingot_server.api.caller import Caller
from ingot_server.api.grpc_server import ApiServer
from ingot_server.api.media_service import MediaService
from ingot_server.api.resume_token import of_job
from ingot_server.config import Settings
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.position import Version
from ingot_server.jobs.records import Records
from ingot_server.redis import connect
from ingot_server.setting_values import SettingError
from tests.integration.api.running_api import URL, Api, serving
from tests.refusals import refused
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores

UNREAD_DOWNLOAD = """
import sys, threading, grpc
from ingot.v1 import media_service_pb2, media_service_pb2_grpc
stub = media_service_pb2_grpc.MediaServiceStub(grpc.insecure_channel(sys.argv[1]))
call = stub.Download(media_service_pb2.DownloadRequest(media_id="a" * 52))
next(call)
threading.Event().wait()
"""
SERVICES = ("ingot.v1.IngestService", "ingot.v1.JobService", "ingot.v1.MediaService")


@pytest.mark.slow  # gRPC drops calls from the 1,000th waiting one on
async def test_a_burst_of_calls_is_answered(api: Api) -> None:
    async def call() -> str:
        return (await refused(api.jobs.GetJob(GetJobRequest(job_id="0" * 26)))).reason

    answers = await asyncio.gather(*(call() for _ in range(3000)))
    assert set(answers) == {"JOB_NOT_FOUND"}


class GatedMediaService(MediaService):
    """A call of GetMedia ends when the gate is open."""

    gate: ClassVar[asyncio.Event]
    waiting: ClassVar[asyncio.Event]

    async def get_media(self, request: GetMediaRequest, caller: Caller) -> Any:
        self.waiting.set()
        await self.gate.wait()
        return await super().get_media(request, caller)


async def test_calls_beyond_the_bound_are_refused_and_a_client_repeats_them_later(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_BUSY_SECONDS", (0.3, 0.3))
    GatedMediaService.gate, GatedMediaService.waiting = asyncio.Event(), asyncio.Event()
    async with (
        serving(settings.replace(max_calls=1), GatedMediaService) as api,
        Client(api.address) as client,
        asyncio.timeout(TIMEOUT_SECONDS),
    ):
        media = await api.store()
        running = asyncio.create_task(client.media(media.id))
        await GatedMediaService.waiting.wait()
        get_media = api.media.GetMedia(GetMediaRequest(media_id=media.id))
        found = await refused(get_media)
        assert (found.code, found.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "TOO_MANY_CALLS",
        )
        assert ("grpc-retry-pushback-ms", "300") in tuple(await get_media.trailing_metadata())
        # A watch is no part of the bound.
        await api.jobs.WatchJobs(WatchJobsRequest()).read()
        begin = time.monotonic()
        repeated = asyncio.create_task(client.media(media.id))
        await asyncio.wait([repeated], timeout=0.1)
        assert not repeated.done()
        GatedMediaService.gate.set()
        assert await running == await repeated == media
        assert time.monotonic() - begin >= 0.3


async def test_what_is_unknown_is_not_found(api: Api) -> None:
    unknown, token = "a" * 52, of_job("nothing", Version(1, 7))
    calls = {
        "MEDIA_NOT_FOUND": [
            api.media.GetMedia(GetMediaRequest(media_id=unknown)),
            api.media.GetMedia(GetMediaRequest(media_id="../../etc")),
            api.media.GetMedia(GetMediaRequest(url=URL)),
            api.media.DeleteMedia(DeleteMediaRequest(media_id=unknown)),
            api.media.DeleteMedia(DeleteMediaRequest(media_id="..")),
            api.media.Download(DownloadRequest(media_id=unknown)),
            api.media.CreateDownloadUrl(CreateDownloadUrlRequest(url=URL)),
        ],
        "JOB_NOT_FOUND": [
            api.jobs.GetJob(GetJobRequest(job_id="nothing")),
            api.jobs.CancelJob(CancelJobRequest(job_id="nothing")),
            api.jobs.WatchJob(WatchJobRequest(job_id="nothing")),
            api.jobs.WatchJob(WatchJobRequest(job_id="nothing", resume_token=token)),
        ],
    }
    for reason, each in calls.items():
        for call in each:
            found = await refused(call)
            assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, reason)


async def test_health_knows_every_service(api: Api) -> None:
    health: Any = health_pb2_grpc.HealthStub(api.channel)
    for name in ("", *SERVICES):
        response = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert response.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_tells_the_whole_contract(api: Api, version: str) -> None:
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        *(
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
            for symbol in (*SERVICES, "ingot.v1.JobService.WatchJob", "google.rpc.ErrorInfo")
        ),
        reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="ingot.v1.JobService.Nothing"
        ),
    ]
    call = api.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(iter(requests))
    listed, *files, unknown = [response async for response in call]
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert {service.name for service in listed.list_services_response.service} >= set(SERVICES)
    for response in files:
        described = [
            FileDescriptorProto.FromString(content)
            for content in response.file_descriptor_response.file_descriptor_proto
        ]
        assert {name for file in described for name in file.dependency} <= {
            file.name for file in described
        }
        assert described
        # The rules of the fields are told too, although the server's modules do not import them.
        contract = [file for file in described if file.name.startswith("ingot/")]
        assert all("buf/validate/validate.proto" in file.dependency for file in contract)


async def test_draining_ends_every_stream_and_says_why(settings: Settings) -> None:
    async with serving(settings) as api:
        job = await api.submit()
        health: Any = health_pb2_grpc.HealthStub(api.channel)
        ready = health.Watch(health_pb2.HealthCheckRequest())
        assert (await ready.read()).status == health_pb2.HealthCheckResponse.SERVING
        watches = [
            api.jobs.WatchJob(WatchJobRequest(job_id=job.id)),
            api.jobs.WatchJobs(WatchJobsRequest()),
        ]
        for watch in watches:
            await watch.read()
        stopping = asyncio.create_task(api.server.stop())
        assert (await ready.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for watch in watches:
            found = await refused(watch)
            assert (found.code, found.reason) == (
                grpc.StatusCode.UNAVAILABLE,
                "SHUTTING_DOWN",
            )
        async with asyncio.timeout(settings.shutdown_timeout.total_seconds() / 2):
            await stopping


class Broken(MediaService):
    """A service with a defect."""

    async def get_media(self, request: GetMediaRequest, _: Caller) -> GetMediaResponse:
        raise KeyError(f"secret {request.media_id}")


async def test_a_defect_is_reported_without_internals(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(settings, Broken) as api:
        found = await refused(api.media.GetMedia(GetMediaRequest(media_id="abc")))
        assert (found.code, found.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert "secret" not in found.message
        (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
        assert "ingot.v1.MediaService.GetMedia" in record.getMessage()


async def test_a_port_in_use_is_named(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        store = connect(settings)
        feed = Feed(store, Records(store, settings), settings)
        settings = settings.replace(grpc_address=f"127.0.0.1:{port}")
        server = ApiServer([], feed, settings, Authentication(settings))
        with pytest.raises(SettingError, match=f"port {port} is in use"):
            await server.start()
        await server.stop()
        await store.aclose()


class EndlessMediaService(MediaService):
    """A Download without end."""

    sent: ClassVar[asyncio.Event]
    ended: ClassVar[asyncio.Event]

    async def download(self, request: DownloadRequest, caller: Caller) -> AsyncGenerator[Any, None]:
        try:
            while True:
                yield DownloadResponse(data=bytes(64 << 10))
                self.sent.set()
        finally:
            self.ended.set()


async def test_a_connection_that_breaks_during_a_response_is_no_defect(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    EndlessMediaService.sent, EndlessMediaService.ended = sent, ended = (
        asyncio.Event(),
        asyncio.Event(),
    )
    async with serving(settings, EndlessMediaService) as api, asyncio.timeout(TIMEOUT_SECONDS):
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", UNREAD_DOWNLOAD, api.address)
        )
        await sent.wait()
        # The client reads nothing, so soon a response waits for it.
        with contextlib.suppress(TimeoutError):
            while True:
                sent.clear()
                await asyncio.wait_for(sent.wait(), 0.5)
        client.kill()
        await client.wait()
        await ended.wait()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
