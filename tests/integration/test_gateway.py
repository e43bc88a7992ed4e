"""The API as browsers reach it: a real server, and an HTTP client that knows no RPC."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf.json_format import Parse, ParseDict
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from ingot.v1 import job_pb2, media_service_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest, IngestResponse
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import (
    GetJobRequest,
    GetJobResponse,
    WatchJobRequest,
    WatchJobResponse,
)
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from ingot.v1.media_service_pb2 import DownloadResponse, GetMediaRequest, GetMediaResponse
from ingot_server.api.caller import Caller, Service
from ingot_server.api.gateway import Gateway
from ingot_server.app import Addresses, running
from ingot_server.config import SettingError, Settings
from ingot_server.connections import connect
from ingot_server.jobs.records import Records
from tests.waiting import PATIENCE_SECONDS

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
        claimed = await self.records.claim(job.id)
        assert claimed is not None
        return claimed


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Api]:
    connections = connect(settings)
    async with (
        running(settings) as addresses,
        aiohttp.ClientSession(f"http://{addresses.http}") as http,
    ):
        yield Api(addresses, http, Records(connections, settings))
    await connections.aclose()


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    async with serving(settings) as api:
        yield api


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

    list_media = delete_media = create_download_url = get_media

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


@asynccontextmanager
async def slowly(**settings: Any) -> AsyncIterator[Slow]:
    service = SlowService()
    gateway = Gateway([service], Settings(**{"http_address": "127.0.0.1:0", **settings}))
    address = await gateway.start()
    async with aiohttp.ClientSession(f"http://{address}") as http:
        yield Slow(service, gateway, http, address)
    service.released.set()
    await gateway.stop()


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


async def test_json_over_http_calls_the_same_services_as_grpc(api: Api) -> None:
    async with api.http.post(INGEST, json={"url": URL, "labels": {"team": "x"}}) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        job = ParseDict(await response.json(), IngestResponse()).job
    assert (job.state, dict(job.labels)) == (job_pb2.JOB_STATE_QUEUED, {"team": "x"})

    async with grpc.aio.insecure_channel(api.addresses.grpc) as channel:
        stub: Any = JobServiceStub(channel)
        assert (await stub.GetJob(GetJobRequest(job_id=job.id))).job == job
    query = {"encoding": "json", "message": json.dumps({"jobId": job.id})}
    async with api.http.get(GET_JOB, params=query) as response:
        assert ParseDict(await response.json(), GetJobResponse()).job == job


async def test_connects_binary_format_is_protobuf(api: Api) -> None:
    body = IngestRequest(url=URL).SerializeToString()
    headers = {"Content-Type": "application/proto"}
    async with api.http.post(INGEST, data=body, headers=headers) as response:
        assert response.content_type == "application/proto"
        assert IngestResponse.FromString(await response.read()).job.url == URL


ERRORS: list[tuple[str, dict[str, Any], int, str, str]] = [
    (INGEST, {}, 400, "invalid_argument", "INVALID_REQUEST"),
    (INGEST, {"url": "ftp://example.com/"}, 400, "invalid_argument", "UNSUPPORTED_URL"),
    (INGEST, {"url": "http://10.0.0.1/"}, 403, "permission_denied", "ADDRESS_FORBIDDEN"),
    (INGEST, {"url": ["no", "text"]}, 400, "invalid_argument", "INVALID_REQUEST"),
    (GET_JOB, {"jobId": "nothing"}, 404, "not_found", "JOB_NOT_FOUND"),
    (GET_MEDIA, {"url": URL}, 404, "not_found", "MEDIA_NOT_FOUND"),
]


async def test_errors_have_code_reason_and_fields(api: Api) -> None:
    for path, body, status, code, expected in ERRORS:
        async with api.http.post(path, json=body) as response:
            error = await response.json()
            assert (response.status, error["code"]) == (status, code), body
            assert reason(error["details"]) == expected
            assert len(error["message"]) > 20
    async with api.http.post(INGEST, json={}) as response:
        debug = [detail["debug"] for detail in (await response.json())["details"]]
        assert debug[1] == {
            "fieldViolations": [{"field": "url", "description": "must not be empty"}]
        }


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff", b"null", b'{"jobId":7}'])
async def test_what_is_no_request_is_told_so(api: Api, content: bytes) -> None:
    json_type = {"Content-Type": "application/json; charset=utf-8"}
    async with api.http.post(GET_JOB, data=content, headers=json_type) as response:
        assert response.status == 400
        assert reason((await response.json())["details"]) == "INVALID_REQUEST"


async def test_a_request_may_have_four_megabytes(api: Api) -> None:
    body = io.BytesIO(json.dumps({"url": "x" * (4 << 20)}).encode())
    headers = {"Content-Type": "application/json"}
    async with api.http.post(INGEST, data=body, headers=headers) as response:
        assert response.status == 429
        assert (await response.json())["code"] == "resource_exhausted"


async def test_grpc_web_carries_errors_with_their_details(api: Api) -> None:
    job = await api.ingest()
    body = framed(GetJobRequest(job_id=job.id).SerializeToString())
    async with api.http.post(GET_JOB, data=body, headers=GRPC_WEB) as response:
        flags, message = await frame(response)
        assert (flags, GetJobResponse.FromString(message).job) == (0, job)
        flags, block = await frame(response)
        assert (flags, trailers(block)["grpc-status"]) == (END_OF_GRPC_WEB, "0")

    unknown = framed(WatchJobRequest(job_id="nothing").SerializeToString())
    for path in (GET_JOB, WATCH_JOB):
        async with api.http.post(path, data=unknown, headers=GRPC_WEB) as response:
            flags, block = await frame(response)
            found = trailers(block)
            assert (flags, found["grpc-status"]) == (END_OF_GRPC_WEB, "5")
            status = Status.FromString(base64.b64decode(found["grpc-status-details-bin"] + "=="))
            info = ErrorInfo()
            assert status.details[0].Unpack(info)
            assert info.reason == "JOB_NOT_FOUND"


@pytest.mark.parametrize("headers", [CONNECT_JSON, CONNECT_PROTO, GRPC_WEB])
async def test_a_job_is_watched_live(api: Api, headers: dict[str, str]) -> None:
    job = await api.ingest()
    request = WatchJobRequest(job_id=job.id)
    text = json.dumps({"jobId": request.job_id}).encode()
    is_json = headers is CONNECT_JSON
    body = framed(text if is_json else request.SerializeToString())
    async with api.http.post(WATCH_JOB, data=body, headers=headers) as response:

        async def update() -> Job:
            flags, message = await frame(response)
            assert flags == 0
            if is_json:
                return Parse(message, WatchJobResponse()).job
            return WatchJobResponse.FromString(message).job

        assert await update() == job
        claimed, token = await api.run(job)
        assert await update() == claimed
        claimed.state = job_pb2.JOB_STATE_FAILED
        ended = await api.records.write(claimed, token)
        assert await update() == ended
        flags, end = await frame(response)
        if headers is GRPC_WEB:
            assert (flags, trailers(end)["grpc-status"]) == (END_OF_GRPC_WEB, "0")
        else:
            assert (flags, end) == (END_OF_CONNECT, b"{}")
        assert await response.content.read() == b""


async def test_an_aborted_page_ends_its_watch(settings: Settings) -> None:
    async with serving(settings.replace(watches_per_caller=1)) as api:
        body = framed(json.dumps({"jobId": (await api.ingest()).id}).encode())

        async def watch() -> tuple[aiohttp.ClientResponse, dict[str, Any]]:
            response = await api.http.post(WATCH_JOB, data=body, headers=CONNECT_JSON)
            return response, json.loads((await frame(response))[1])

        first, update = await watch()
        assert "job" in update
        second, refusal = await watch()
        assert refusal["error"]["code"] == "resource_exhausted"
        assert reason(refusal["error"]["details"]) == "TOO_MANY_WATCHES"
        second.close()
        first.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "error" in refusal:
                third, refusal = await watch()
                third.close()


async def test_a_hang_up_cancels_the_handler() -> None:
    for path, body, headers in (
        (GET_MEDIA, b'{"mediaId":"a"}', {"Content-Type": "application/json"}),
        (GET_MEDIA, framed(GetMediaRequest(media_id="a").SerializeToString()), GRPC_WEB),
        (DOWNLOAD, framed(b'{"mediaId":"a"}'), CONNECT_JSON),
    ):
        async with slowly() as slow:
            call = asyncio.create_task(slow.http.post(path, data=body, headers=headers))
            await slow.service.began.wait()
            if path == DOWNLOAD:
                (await call).close()
            call.cancel()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await slow.service.ended.wait()


async def test_a_deadline_cancels_the_handler() -> None:
    for headers in (
        {"Content-Type": "application/json", "Connect-Timeout-Ms": "500"},
        {**GRPC_WEB, "Grpc-Timeout": "500m"},
    ):
        web = "Grpc-Timeout" in headers
        request = GetMediaRequest(media_id="a").SerializeToString()
        body = framed(request) if web else b'{"mediaId":"a"}'
        async with slowly() as slow:
            async with slow.http.post(GET_MEDIA, data=body, headers=headers) as response:
                if web:
                    assert trailers((await frame(response))[1])["grpc-status"] == "4"
                else:
                    assert (await response.json())["code"] == "deadline_exceeded"
            # On a busy machine the deadline may pass before the handler begins.
            assert slow.service.ended.is_set() == slow.service.began.is_set()


async def test_a_defect_is_answered_without_its_inside() -> None:
    async with slowly() as slow:
        slow.service.released.set()
        async with slow.http.post(GET_MEDIA, json={"mediaId": "defect"}) as response:
            text = await response.text()
            assert response.status == 500
            assert reason(json.loads(text)["details"]) == "INTERNAL"
            assert "secret" not in text
            assert "correlation_id" in text


@pytest.mark.parametrize(("host", "kind"), [("127.0.0.1", "ipv4"), ("[::1]", "ipv6")])
async def test_a_caller_is_named_as_on_grpc(host: str, kind: str) -> None:
    async with slowly(http_address=f"{host}:0") as slow:
        assert slow.address.rpartition(":")[0] == host
        slow.service.released.set()
        await slow.http.post(GET_MEDIA, json={"mediaId": "a"})
        written = {"ipv4": "ipv4:127.0.0.1", "ipv6": "ipv6:%5B::1%5D"}
        assert Caller(slow.service.peers[0]).address == written[kind].partition(":")[2]


async def test_pages_of_other_origins_are_let_in_by_the_setting() -> None:
    preflight = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,connect-protocol-version",
    }
    call = {"Origin": PAGE}
    async with slowly(cors_origins=f"https://other.example, {PAGE}") as slow:
        slow.service.released.set()
        async with slow.http.options(GET_MEDIA, headers=preflight) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == PAGE
            assert "POST" in response.headers["Access-Control-Allow-Methods"]
            assert "Connect-Protocol-Version" in response.headers["Access-Control-Allow-Headers"]
        for body in ({"mediaId": "a"}, {}):
            async with slow.http.post(GET_MEDIA, json=body, headers=call) as response:
                assert response.headers["Access-Control-Allow-Origin"] == PAGE
                assert "Origin" in response.headers.getall("Vary")[-1]
                exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
                assert exposed == ["grpc-status", "grpc-message", "grpc-status-details-bin"]
        async with slow.http.post(
            GET_MEDIA, json={}, headers={"Origin": "https://else.example"}
        ) as response:
            assert "Access-Control-Allow-Origin" not in response.headers
    async with (
        slowly() as slow,
        slow.http.options(GET_MEDIA, headers=preflight) as response,
    ):
        assert not [name for name in response.headers if name.startswith("Access-Control")]
    async with (
        slowly(cors_origins="*") as slow,
        slow.http.options(GET_MEDIA, headers=preflight) as r,
    ):
        assert r.headers["Access-Control-Allow-Origin"] == PAGE


@pytest.mark.parametrize("origins", ["example.com", "https://example.com/", "http://a b.example"])
def test_origins_that_are_none_are_refused(origins: str) -> None:
    with pytest.raises(SettingError, match="cors_origins"):
        Gateway([], Settings(cors_origins=origins))


async def test_what_a_page_may_send_unasked_reaches_no_service() -> None:
    async with slowly() as slow:
        for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            headers = {"Content-Type": content_type, "Origin": PAGE}
            async with slow.http.post(
                GET_MEDIA, data=b'{"mediaId":"a"}', headers=headers
            ) as response:
                assert response.status == 415
        assert not slow.service.began.is_set()


async def test_nothing_else_is_served(caplog: pytest.LogCaptureFixture) -> None:
    grpc_type = {"Content-Type": "application/grpc", "TE": "trailers"}
    async with slowly() as slow:
        for method, path, headers, status in (
            ("GET", "/", {}, 404),
            ("POST", "/ingot.v1.MediaService/Nothing", {}, 404),
            ("GET", "/ingot.v1.MediaService/DeleteMedia", {}, 405),
            ("PUT", GET_MEDIA, {}, 405),
            ("POST", "/healthz", {}, 405),
            ("POST", GET_MEDIA, grpc_type, 415),
            ("POST", GET_MEDIA, {"Upgrade": "websocket", "Connection": "upgrade"}, 415),
        ):
            async with slow.http.request(method, path, headers=headers) as response:
                assert response.status == status, (method, path)
        reader, writer = await asyncio.open_connection(*slow.address.split(":"))
        writer.write(
            f"POST {GET_MEDIA} HTTP/1.1\r\nHost: a\r\nX-Odd: \xff\r\n\r\n".encode("latin-1")
        )
        assert b" 400 " in await reader.readline()
        writer.close()
    assert not caplog.records


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingError, match=f"port {port} is in use"):
            await Gateway([], Settings(http_address=f"127.0.0.1:{port}")).start()
    for address in ("8080", "localhost", "localhost:http", "127.0.0.1:70000"):
        with pytest.raises(SettingError, match=address):
            await Gateway([], Settings(http_address=address)).start()


@pytest.mark.parametrize("taken", ["grpc_address", "http_address"])
async def test_an_address_that_cannot_be_had_leaves_nothing_running(
    taken: str, settings: Settings
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        addresses = {"grpc_address": "127.0.0.1:0", taken: f"127.0.0.1:{port}"}
        with pytest.raises(SettingError, match=f"port {port} is in use"):
            async with asyncio.timeout(PATIENCE_SECONDS), running(settings.replace(**addresses)):
                pass


async def test_the_empty_address_turns_it_off(settings: Settings) -> None:
    async with running(settings.replace(http_address="")) as addresses:
        assert addresses.http == ""


async def test_health_says_draining_while_calls_finish() -> None:
    async with slowly() as slow:
        async with slow.http.get("/healthz") as response:
            assert (response.status, await response.text()) == (200, "serving\n")
        call = asyncio.create_task(slow.http.post(GET_MEDIA, json={"mediaId": "a"}))
        await slow.service.began.wait()
        stopping = asyncio.create_task(slow.gateway.stop())
        await asyncio.sleep(0)
        async with slow.http.get("/healthz") as response:
            assert (response.status, await response.text()) == (503, "draining\n")
        async with slow.http.post(GET_MEDIA, json={"mediaId": "b"}) as response:
            assert response.status == 503
            assert reason((await response.json())["details"]) == "SHUTTING_DOWN"
        slow.service.released.set()
        assert (await call).status == 200
        await stopping
        with pytest.raises(aiohttp.ClientConnectionError):
            await slow.http.get("/healthz")


@pytest.mark.parametrize("path", [GET_MEDIA, DOWNLOAD])
async def test_a_call_without_end_does_not_hold_up_the_stop(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with slowly(shutdown_timeout=timedelta(milliseconds=100)) as slow:
        # A client that sends, and never reads.
        _, writer = await asyncio.open_connection(*slow.address.split(":"), limit=1)
        body, headers = b'{"mediaId":"a"}', "application/json"
        if path == DOWNLOAD:
            body, headers = framed(body), CONNECT_JSON["Content-Type"]
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {headers}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await slow.service.began.wait()
        if path == DOWNLOAD:
            slow.service.released.set()
            await asyncio.sleep(0.05)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await slow.gateway.stop()
        assert slow.service.ended.is_set()
        writer.transport.abort()
    assert not caplog.records


async def test_watches_end_with_a_reason_when_the_server_stops(settings: Settings) -> None:
    async with aiohttp.ClientSession() as http:
        async with serving(settings) as api:
            await api.ingest()
            response = await http.post(
                f"http://{api.addresses.http}{WATCH_JOBS}", data=framed(b"{}"), headers=CONNECT_JSON
            )
            flags, _ = await frame(response)
            assert flags == 0
        flags, end = await frame(response)
        assert flags == END_OF_CONNECT
        assert reason(json.loads(end)["error"]["details"]) == "SHUTTING_DOWN"
