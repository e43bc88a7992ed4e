"""Watches over HTTP: live, and ended with a reason."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from google.protobuf.json_format import Parse

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import WatchJobRequest, WatchJobResponse
from ingot_server.config import Settings
from tests.integration.gateway.running_gateway import (
    CONNECT_JSON,
    CONNECT_PROTO,
    END_OF_CONNECT,
    END_OF_GRPC_WEB,
    GRPC_WEB,
    WATCH_JOB,
    WATCH_JOBS,
    Api,
    frame,
    framed,
    reason,
    serving,
    trailers,
)
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores


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
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while "error" in refusal:
                third, refusal = await watch()
                third.close()


async def test_watches_end_with_a_reason_when_the_server_stops(settings: Settings) -> None:
    async with aiohttp.ClientSession() as http:
        async with serving(settings) as api:
            await api.ingest()
            response = await http.post(
                f"http://{api.addresses.http}{WATCH_JOBS}", data=framed(b"{}"), headers=CONNECT_JSON
            )
            for _ in ("the job", "the end of the snapshot"):
                flags, _ = await frame(response)
                assert flags == 0
        flags, end = await frame(response)
        assert flags == END_OF_CONNECT
        assert reason(json.loads(end)["error"]["details"]) == "SHUTTING_DOWN"
