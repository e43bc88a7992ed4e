"""The command `ingot` with several URLs or files: one that fails is told, and the others go on."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingot import JobState
from ingot.v1 import reason_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot_server.errors import Failure
from tests.scripted_server import (
    JOB_ID,
    MEDIA_ID,
    URL,
    ScriptedServer,
    make_revisions,
    running_scripted_server,
)
from tests.waiting import TIMEOUT_SECONDS

COMMAND = Path(sys.executable).with_name("ingot")
OTHER = "http://origin.test/other.mp4"
REFUSED = Failure(reason_pb2.REASON_UNSUPPORTED_URL, "No source takes it.")


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with running_scripted_server() as server:
        yield server


async def ingot_command(server: ScriptedServer, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "INGOT_SERVER": server.target, "COLUMNS": "120"},
    )
    async with asyncio.timeout(TIMEOUT_SECONDS):
        stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stdout.decode(), stderr.decode()


@pytest.mark.parametrize(
    "outcomes", [[REFUSED, "respond"], ["respond", REFUSED]], ids=["first", "last"]
)
@pytest.mark.parametrize("how", [[], ["--no-wait"], ["--json"]], ids=["wait", "no wait", "json"])
async def test_an_ingest_of_several_urls_fails_when_one_of_them_is_refused(
    server: ScriptedServer, outcomes: list[Failure | str], how: list[str]
) -> None:
    server.outcomes = [*outcomes]  # type: ignore[list-item]

    code, stdout, stderr = await ingot_command(server, "ingest", URL, OTHER, *how)

    assert code == 1
    assert [request.url for request in server.received(IngestRequest)] == [URL, OTHER]
    assert "No source takes it." in stderr
    assert (JOB_ID if how else MEDIA_ID) in stdout


async def test_an_ingest_of_several_urls_names_the_one_that_is_refused(
    server: ScriptedServer,
) -> None:
    server.outcomes = ["respond", REFUSED]

    _, _, stderr = await ingot_command(server, "ingest", URL, OTHER)

    assert f"ingot: {OTHER}: No source takes it." in stderr


async def test_an_ingest_of_several_urls_succeeds_when_all_of_them_do(
    server: ScriptedServer,
) -> None:
    code, _, _ = await ingot_command(server, "ingest", URL, OTHER)

    assert code == 0


async def test_an_ingest_of_several_urls_fails_when_a_job_fails(server: ScriptedServer) -> None:
    server.updates = make_revisions(JobState.JOB_STATE_FAILED, REFUSED.status())

    code, _, stderr = await ingot_command(server, "ingest", URL, OTHER)

    assert code == 1
    assert "No source takes it." in stderr


@pytest.mark.parametrize("priority", ["low", "normal", "high"])
async def test_the_priority_of_the_command_line_is_that_of_the_request(
    server: ScriptedServer, priority: str
) -> None:
    code, _, _ = await ingot_command(server, "ingest", URL, "--priority", priority)

    assert code == 0
    expected = IngestRequest.Priority.Value(f"PRIORITY_{priority.upper()}")
    assert [request.priority for request in server.received(IngestRequest)] == [expected]
