"""`ingot mcp`, called by the SDK's own client over both transports; behind it is a real server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import aiohttp
import pytest
from mcp.client.client import Client as Agent
from mcp.client.stdio import StdioServerParameters
from mcp_types import CallToolResult, TextContent

from tests.ingot_command import COMMAND, run_command
from tests.installation import Installation
from tests.origin import Origin, Page

VTT = b"WEBVTT\n\n00:00.000 --> 00:01.000\nDing &amp; dong.\n"
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
ACCEPT = {"Accept": "application/json, text/event-stream"}

Transport = Literal["stdio", "http"]


def serve_film(origin: Origin, clip: bytes) -> str:
    """A page that no other test has used, of a video with English subtitles; its URL."""
    name = uuid.uuid4().hex
    origin.serve(f"/{name}.mp4", Page(clip))
    origin.serve(f"/{name}.vtt", Page(VTT, content_type="text/vtt"))
    track = {"kind": "captions", "label": "en", "file": f"/{name}.vtt"}
    setup = json.dumps({"file": f"/{name}.mp4", "tracks": [track]})
    html = f"<html><title>A Bell</title><script>jwplayer('p').setup({setup});</script></html>"
    return origin.serve(f"/{name}", Page(html.encode(), content_type="text/html"))


@asynccontextmanager
async def serving_http(target: str, *options: str) -> AsyncIterator[str]:
    """Run `ingot mcp --http`; its URL."""
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *("--server", target, "mcp", "--http", "127.0.0.1:0", *options),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        line = (await process.stderr.readline()).decode()
        match = re.search(r"http://\S+", line)
        assert match is not None, line + (await process.stderr.read()).decode()
        yield match[0]
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        assert await process.stderr.read() == b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def agent(transport: Transport, target: str) -> AsyncIterator[Agent]:
    if transport == "http":
        async with serving_http(target) as url, Agent(url) as connected:
            yield connected
    else:
        command = StdioServerParameters(
            command=str(COMMAND), args=["mcp"], env={**os.environ, "INGOT_SERVER": target}
        )
        async with Agent(command) as connected:
            yield connected


def text(result: CallToolResult) -> str:
    return "".join(part.text for part in result.content if isinstance(part, TextContent))


async def call(agent: Agent, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool that succeeds; its result."""
    result = await agent.call_tool(tool, arguments)
    assert not result.is_error, text(result)
    assert result.structured_content is not None
    return dict(result.structured_content)


async def fail(agent: Agent, tool: str, **arguments: Any) -> str:
    """Call a tool that fails; its message."""
    result = await agent.call_tool(tool, arguments)
    assert result.is_error, text(result)
    return text(result)


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_an_agent_gets_from_a_url_to_the_media_and_its_transcript(
    ingot: Installation, origin: Origin, clip: bytes, transport: Transport
) -> None:
    url = serve_film(origin, clip)
    async with agent(transport, ingot.grpc_address) as connected:
        tools = [tool.name for tool in (await connected.list_tools()).tools]
        assert tools == ["ingest", "wait", "get_media", "get_transcript"]

        started = await call(connected, "ingest", url=url)
        ended = await call(connected, "wait", job_id=started["job_id"])
        assert (ended["state"], ended["percent"]) == ("succeeded", 100)

        media = await call(connected, "get_media", name=ended["media_id"])
        assert media["content_type"] == "video/mp4"
        assert media["subtitle_languages"] == ["en"]
        async with (
            aiohttp.ClientSession() as browser,
            browser.get(media["download_url"]) as response,
        ):
            assert await response.read() == clip

        said = await connected.call_tool("get_transcript", {"name": ended["media_id"]})
        assert text(said) == "Ding & dong."


async def test_a_failure_is_a_tool_error_with_its_reason_and_what_to_do(
    ingot: Installation, origin: Origin, clip: bytes
) -> None:
    async with agent("stdio", ingot.grpc_address) as connected:
        message = await fail(connected, "get_media", name=origin.url("/nothing.mp4"))
        assert "[MEDIA_NOT_FOUND]" in message
        assert "call ingest with its URL" in message

        page = origin.serve(f"/{uuid.uuid4().hex}.mp4", Page(b"no media", content_type="video/mp4"))
        job = await call(connected, "ingest", url=page)
        message = await fail(connected, "wait", job_id=job["job_id"])
        assert re.search(r"\[[A-Z_]+\]\n.", message)

        stored = serve_film(origin, clip)
        job = await call(connected, "ingest", url=stored)
        ended = await call(connected, "wait", job_id=job["job_id"])
        message = await fail(connected, "get_transcript", name=ended["media_id"], language="fr-CA")
        assert "the stored ones are: en." in message
        assert 'subtitle_languages ["fr-CA"]' in message


async def test_wait_returns_a_job_that_still_runs_and_reports_its_progress(
    ingot: Installation, origin: Origin, clip: bytes
) -> None:
    gate = asyncio.Event()
    url = origin.serve(f"/{uuid.uuid4().hex}.mp4", Page(clip, gate=gate))
    reports: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        reports.append(progress)

    async with agent("http", ingot.grpc_address) as connected:
        job = await call(connected, "ingest", url=url)
        running = await call(connected, "wait", job_id=job["job_id"], timeout_seconds=0.5)
        gate.set()
        ended = await connected.call_tool("wait", {"job_id": job["job_id"]}, progress_callback=note)

    assert running["media_id"] == ""
    assert not ended.is_error
    assert reports[-1] == 1
    assert reports == sorted(reports)


async def test_http_answers_only_allowed_hosts_and_origins(ingot: Installation) -> None:
    async def status(url: str, **headers: str) -> int:
        async with (
            aiohttp.ClientSession() as browser,
            browser.post(url, json=PING, headers={**ACCEPT, **headers}) as response,
        ):
            return response.status

    async with serving_http(ingot.grpc_address, "--allow-host", "agents.example") as url:
        refused = 421
        assert await status(url, Host="rebound.example") == refused
        assert await status(url, Host="localhost.rebound.example") == refused
        assert await status(url, Origin="http://rebound.example") == 403
        for host in ("agents.example", "agents.example:8443", "localhost:1234"):
            assert await status(url, Host=host) not in {refused, 403}


async def test_an_address_in_use_is_refused_with_what_to_do(ingot: Installation) -> None:
    async with serving_http(ingot.grpc_address) as url:
        address = url.removeprefix("http://").removesuffix("/mcp")
        code, _, stderr = await run_command(ingot.grpc_address, "mcp", "--http", address)

    assert code in {1, 2}
    assert "Address already in use" in stderr
    assert "Give --http an address of this machine that is not in use." in stderr


async def test_without_the_extra_the_command_says_how_to_install_it(ingot: Installation) -> None:
    # A module that is None in sys.modules is one that cannot be found.
    program = "import sys; sys.modules['mcp'] = None; from ingot.cli import main; sys.exit(main())"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, "--server", ingot.grpc_address, "mcp"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()

    assert (process.returncode, stdout) == (1, b"")
    assert "pip install 'ingot-client[mcp]'" in stderr.decode()
    assert "Traceback" not in stderr.decode()
