"""Watches through nginx with its default limits, configured as docs/proxies.md says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import grpc
import pytest

from ingot.v1.job_service_pb2 import WatchJobsRequest, WatchJobsResponse
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.local.ports import Ports
from ingot_server.process.launch import launch_command
from tests.integration.conftest import settings, stack
from tests.integration.gateway.running_gateway import CONNECT_JSON, WATCH_JOBS, frame, framed
from tests.waiting import TIMEOUT_SECONDS

__all__ = ["settings", "stack"]

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

IDLE_SECONDS = 300
DOCUMENTED = re.search(
    r"```nginx\n(.*?)```", (Path(__file__).parents[2] / "docs/proxies.md").read_text(), re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """The addresses on which nginx listens."""

    grpc: str
    http: str


@asynccontextmanager
async def nginx(directory: Path, *, grpc_address: str, http_address: str) -> AsyncIterator[Proxy]:
    """Run nginx with the documented servers in front of an API server."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        if os.environ.get("REQUIRE_ALL_SERVERS"):
            pytest.fail("nginx is not installed")
        pytest.skip("nginx is not installed")
    assert DOCUMENTED is not None
    with Ports() as ports:
        proxy = Proxy(*(f"127.0.0.1:{ports.reserve('127.0.0.1')}" for _ in range(2)))
        addresses = {
            "127.0.0.1:50052": proxy.grpc,
            "127.0.0.1:50051": grpc_address,
            "127.0.0.1:8081": proxy.http,
            "127.0.0.1:8080": http_address,
        }
        servers = re.sub(
            "|".join(map(re.escape, addresses)), lambda found: addresses[found[0]], DOCUMENTED[1]
        )
        temporary = "\n".join(
            f"{kind}_temp_path {directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration = directory / "nginx.conf"
        configuration.write_text(
            f"pid {directory}/pid;\ndaemon off;\nmaster_process off;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{temporary}\n{servers}\n}}\n"
        )
        process = await asyncio.create_subprocess_exec(
            *launch_command(program, "-c", str(configuration), "-e", "stderr")
        )
        try:
            await until_listening(proxy.http)
            yield proxy
        finally:
            process.terminate()
            await process.wait()


async def until_listening(address: str) -> None:
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


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
