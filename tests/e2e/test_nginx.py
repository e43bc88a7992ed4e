"""Watches through nginx with its default limits, configured as docs/proxies.md says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import grpc
import pytest

from ingot.v1.job_service_pb2 import WatchJobsRequest, WatchJobsResponse
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from ingot_server.app import running
from ingot_server.config import Settings
from tests.integration.conftest import settings, stack
from tests.integration.gateway.running_gateway import CONNECT_JSON, WATCH_JOBS, frame, framed
from tests.nginx import nginx

__all__ = ["settings", "stack"]

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

IDLE_SECONDS = 300


async def idle_grpc_watch(address: str, stopped: asyncio.Event) -> int:
    """Watch all jobs over gRPC until `stopped`; return the number of heartbeats."""
    heartbeats = 0
    async with grpc.aio.insecure_channel(address) as channel:
        call = JobServiceStub(channel).WatchJobs(WatchJobsRequest())
        responses = aiter(call)
        while not stopped.is_set():
            response: WatchJobsResponse = await anext(responses)
            heartbeats += response.HasField("heartbeat")
        call.cancel()
    return heartbeats


async def idle_connect_watch(address: str, stopped: asyncio.Event) -> int:
    """The same over Connect, in JSON."""
    heartbeats = 0
    async with (
        aiohttp.ClientSession(f"http://{address}", timeout=aiohttp.ClientTimeout()) as http,
        http.post(WATCH_JOBS, data=framed(b"{}"), headers=CONNECT_JSON) as response,
    ):
        while not stopped.is_set():
            flags, message = await frame(response)
            assert flags == 0, message
            heartbeats += "heartbeat" in json.loads(message)
    return heartbeats


@pytest.mark.timeout(IDLE_SECONDS + 120)
async def test_an_idle_watch_lives_for_five_minutes_behind_nginx(
    settings: Settings, tmp_path: Path
) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().call_later(IDLE_SECONDS, stopped.set)
    async with (
        running(settings) as addresses,
        nginx(tmp_path, grpc_address=addresses.grpc, http_address=addresses.http) as proxy,
    ):
        counts = await asyncio.gather(
            idle_grpc_watch(proxy.grpc, stopped), idle_connect_watch(proxy.http, stopped)
        )

    assert all(count >= IDLE_SECONDS // 20 for count in counts)
