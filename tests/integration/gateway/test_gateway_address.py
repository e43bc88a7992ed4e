"""Where the gateway listens, and how it stops."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta

import aiohttp
import pytest

from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.setting_values import SettingError
from tests.integration.gateway.running_gateway import (
    CONNECT_JSON,
    DOWNLOAD,
    GET_MEDIA,
    framed,
    gateway_of,
    reason,
    slowly,
)
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingError, match=f"port {port} is in use"):
            await gateway_of([], Settings(http_address=f"127.0.0.1:{port}")).start()
    for address in ("8080", "localhost", "localhost:http", "127.0.0.1:70000"):
        with pytest.raises(SettingError, match=address):
            await gateway_of([], Settings(http_address=address)).start()


@pytest.mark.parametrize("taken", ["grpc_address", "http_address"])
async def test_an_address_that_cannot_be_had_leaves_nothing_running(
    taken: str, settings: Settings
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        addresses = {"grpc_address": "127.0.0.1:0", taken: f"127.0.0.1:{port}"}
        with pytest.raises(SettingError, match=f"port {port} is in use"):
            async with asyncio.timeout(TIMEOUT_SECONDS), running(settings.replace(**addresses)):
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
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {headers}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await slow.service.began.wait()
        if path == DOWNLOAD:
            slow.service.released.set()
            await asyncio.sleep(0.05)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await slow.gateway.stop()
        assert slow.service.ended.is_set()
        writer.transport.abort()
    assert not caplog.records
