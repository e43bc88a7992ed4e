"""The command `ingot` with several URLs or files: one that fails does not stop the others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ingot import JobPriority, JobState
from ingot.v1 import reason_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot_server.errors import Failure
from tests.ingot_command import run_command
from tests.scripted_server import (
    JOB_ID,
    MEDIA_ID,
    URL,
    ScriptedServer,
    make_revisions,
    running_scripted_server,
)

OTHER = "http://origin.test/other.mp4"
REFUSED = Failure(reason_pb2.REASON_UNSUPPORTED_URL, "No source takes it.")


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with running_scripted_server() as server:
        yield server


@pytest.mark.parametrize(
    "outcomes", [[REFUSED, "respond"], ["respond", REFUSED]], ids=["first", "last"]
)
@pytest.mark.parametrize("how", [[], ["--no-wait"], ["--json"]], ids=["wait", "no wait", "json"])
async def test_an_ingest_of_several_urls_fails_when_one_of_them_is_refused(
    server: ScriptedServer, outcomes: list[Failure | str], how: list[str]
) -> None:
    server.outcomes = [*outcomes]  # type: ignore[list-item]

    code, stdout, stderr = await run_command(server.target, "ingest", URL, OTHER, *how)

    assert code == 2
    assert [request.url for request in server.received(IngestRequest)] == [URL, OTHER]
    assert "No source takes it." in stderr
    assert (JOB_ID if how else MEDIA_ID) in stdout


async def test_an_ingest_of_several_urls_names_the_one_that_is_refused(
    server: ScriptedServer,
) -> None:
    server.outcomes = ["respond", REFUSED]

    _, _, stderr = await run_command(server.target, "ingest", URL, OTHER)

    assert f"ingot: {OTHER}: No source takes it." in stderr


async def test_an_ingest_of_several_urls_succeeds_when_all_of_them_do(
    server: ScriptedServer,
) -> None:
    code, _, _ = await run_command(server.target, "ingest", URL, OTHER)

    assert code == 0


async def test_an_ingest_of_several_urls_fails_when_a_job_fails(server: ScriptedServer) -> None:
    server.updates = make_revisions(JobState.JOB_STATE_FAILED, REFUSED.status())

    code, _, stderr = await run_command(server.target, "ingest", URL, OTHER)

    assert code == 1
    assert "No source takes it." in stderr


@pytest.mark.parametrize("priority", ["low", "normal", "high"])
async def test_the_priority_of_the_command_line_is_that_of_the_request(
    server: ScriptedServer, priority: str
) -> None:
    code, _, _ = await run_command(server.target, "ingest", URL, "--priority", priority)

    assert code == 0
    expected = JobPriority.Value(f"JOB_PRIORITY_{priority.upper()}")
    assert [request.priority for request in server.received(IngestRequest)] == [expected]
