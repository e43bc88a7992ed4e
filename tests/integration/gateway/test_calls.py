"""Calls over Connect, gRPC-Web and JSON: the same services as over gRPC, the same errors."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest, IngestResponse
from ingot.v1.job_service_pb2 import GetJobRequest, GetJobResponse, WatchJobRequest
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from ingot.v1.media_service_pb2 import GetMediaRequest
from ingot_server.api.caller import Caller
from ingot_server.config import Settings
from tests.integration.gateway.running_gateway import (
    CONNECT_JSON,
    DOWNLOAD,
    END_OF_GRPC_WEB,
    GET_JOB,
    GET_MEDIA,
    GRPC_WEB,
    INGEST,
    URL,
    WATCH_JOB,
    Api,
    frame,
    framed,
    reason,
    serving,
    slowly,
    trailers,
)
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores


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


async def test_calls_beyond_the_bound_are_refused(settings: Settings) -> None:
    async with serving(settings.replace(max_calls=0)) as api:
        async with api.http.post(GET_JOB, json={"jobId": "0" * 26}) as response:
            assert response.status == 429
            error = await response.json()
        assert (error["code"], reason(error["details"])) == ("resource_exhausted", "TOO_MANY_CALLS")
        assert any(each["type"] == "google.rpc.RetryInfo" for each in error["details"])


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
async def test_a_malformed_request_is_reported_as_such(api: Api, content: bytes) -> None:
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
            async with asyncio.timeout(TIMEOUT_SECONDS):
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
