"""The installed command `ingot`, run as a process: exit codes, output, signals."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pty
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from google.protobuf.json_format import Parse
from google.rpc.status_pb2 import Status

import ingot
from ingot import Job, JobState, Media
from ingot.arguments import build_parser
from ingot.cli import main
from ingot.v1 import reason_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.job_pb2 import JobWaiting
from ingot.v1.job_service_pb2 import CancelJobRequest, WatchJobsResponse
from ingot.v1.media_service_pb2 import DownloadRequest
from ingot_server.errors import Failure
from tests.ingot_command import COMMAND, run_command, start_command
from tests.scripted_server import (
    JOB_ID,
    MEDIA_ID,
    URL,
    Request,
    ScriptedServer,
    make_media,
    make_revisions,
    running_scripted_server,
)


@pytest.fixture
async def server() -> AsyncGenerator[ScriptedServer, None]:
    async with running_scripted_server() as server:
        yield server


def lines(output: str, kind: type[Request]) -> list[Request]:
    return [Parse(line, kind()) for line in output.splitlines()]


async def test_the_command_ingests_and_shows_the_media(server: ScriptedServer) -> None:
    code, stdout, stderr = await run_command(
        server.target, "ingest", URL, "--max-age", "1h", "--label", "a=b", "--audio-only"
    )

    assert code == 0
    assert MEDIA_ID in stdout
    assert stderr.split() == ["queued", "resolving", "downloading", "committing", "succeeded"]
    request = server.received(IngestRequest)[0]
    assert request.max_age.seconds == 3600
    assert request.labels == {"a": "b"}
    assert request.selection.mode == ingot.Selection.MODE_AUDIO_ONLY


async def test_the_command_prints_json_with_one_message_per_line(server: ScriptedServer) -> None:
    code, stdout, stderr = await run_command(server.target, "--json", "ingest", URL)
    assert (code, stderr) == (0, "")
    assert lines(stdout, Job) == server.updates
    assert json.loads(stdout.splitlines()[2])["progress"]["stage"]["bytesDone"] == "1000000"

    code, stdout, stderr = await run_command(server.target, "media", MEDIA_ID, "--json")
    assert (code, lines(stdout, Media)) == (0, [make_media()])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["list"], [MEDIA_ID, "7 B", "video/mp4", "Clip"]),
        (["jobs", "--state", "succeeded"], [JOB_ID, "succeeded", URL]),
        (["job", JOB_ID], [JOB_ID, "queued", URL]),
        (["ingest", URL, "--no-wait"], [JOB_ID, "queued", URL]),
        (["ingest", URL, "--validate-only"], ["queued", URL]),
        (["watch", JOB_ID], [MEDIA_ID, "Clip"]),
        (["url", MEDIA_ID, "--lifetime", "90s"], ["http://store.test/signed"]),
        (["rm", MEDIA_ID, URL], [f"Deleted {MEDIA_ID}.", f"Deleted {URL}."]),
        (["pin", MEDIA_ID, URL], [f"Pinned {MEDIA_ID}.", f"Pinned {URL}."]),
        (["unpin", MEDIA_ID], [f"Unpinned {MEDIA_ID}."]),
    ],
    ids=lambda value: value[0] if value[0].islower() else None,
)
async def test_each_command_prints_its_result(
    server: ScriptedServer, arguments: list[str], expected: list[str]
) -> None:
    code, stdout, _ = await run_command(server.target, *arguments)

    assert code == 0
    assert not [text for text in expected if text not in stdout]


async def test_cancelling_a_job_that_has_ended_fails_and_shows_it(server: ScriptedServer) -> None:
    code, stdout, _ = await run_command(server.target, "cancel", JOB_ID)
    assert code == 1
    assert "succeeded" in stdout

    server.updates[-1].state = JobState.JOB_STATE_CANCELLED
    assert (await run_command(server.target, "cancel", JOB_ID))[0] == 0


async def test_the_command_says_what_failed_and_what_to_do(server: ScriptedServer) -> None:
    server.media = []

    code, stdout, stderr = await run_command(server.target, "media", URL)
    assert (code, stdout) == (1, "")
    assert stderr.splitlines() == [
        "ingot: Not stored. [MEDIA_NOT_FOUND]",
        "Store it with `ingot ingest URL`. `ingot list` shows what is stored.",
    ]

    failure = Failure(reason_pb2.REASON_NOT_MEDIA, "A page.")
    server.updates = make_revisions(JobState.JOB_STATE_FAILED, failure.status())
    code, stdout, stderr = await run_command(server.target, "--json", "watch", JOB_ID)
    assert code == 1
    assert lines(stdout, Job) == server.updates
    assert lines(stderr, Status) == [failure.status()]


async def test_the_command_says_that_it_cannot_connect(server: ScriptedServer) -> None:
    await server.stop()

    code, _, stderr = await run_command(server.target, "jobs")

    assert code == 1
    assert stderr.startswith(f"ingot: Cannot connect to an Ingot server at {server.target}")
    assert "ingot-server up" in stderr.splitlines()[1]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fetch"],
        ["ingest"],
        ["ingest", URL, "--max-age", "soon"],
        ["ingest", URL, "--label", "news"],
        ["ingest", URL, "--no-wait", "--validate-only"],
        ["jobs", "--state", "gone"],
        ["--server", "http://localhost", "jobs"],
        ["jobs", "--header", "team"],
        ["config", "set", "colour", "red"],
        ["ingest", "http://origin.test/\udcff.mp4"],
        ["watch", "\udcff"],
        ["upload", "clip.mp4", "--label", "a=\udcff"],
        ["download", URL, "-o", "-"],
        ["mp3", URL, "-o", ""],
    ],
    ids=ascii,
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)

    assert exit_.value.code == 2
    assert "usage: ingot" in capsys.readouterr().err


def test_every_command_and_option_is_documented() -> None:
    documentation = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    parser = build_parser()
    (subparsers,) = (
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    commands: dict[str, argparse.ArgumentParser] = subparsers.choices
    options = {
        option
        for parser in (parser, *commands.values())
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--") and option not in {"--help", "--version", "--output"}
    }

    assert not [name for name in commands if f"`ingot {name}" not in documentation]
    assert not [option for option in options if option not in documentation]


async def test_the_command_downloads(server: ScriptedServer, tmp_path: Path) -> None:
    content = server.store(500_000)
    (tmp_path / "clip.mp4.part").write_bytes(content[:123_456])

    code, stdout, _ = await run_command(
        server.target, "download", URL, "-o", str(tmp_path / "clip.mp4")
    )
    assert (code, (tmp_path / "clip.mp4").read_bytes()) == (0, content)
    assert "checksum verified" in stdout
    assert server.received(DownloadRequest)[0].offset == 123_456

    code, _, stderr = await run_command(
        server.target, "download", URL, "-o", str(tmp_path / "no" / "x")
    )
    assert code == 2
    assert "No such file or directory" in stderr


async def test_ctrl_c_leaves_the_job_and_says_how_to_watch_it(server: ScriptedServer) -> None:
    server.last_revision = 3
    process = await start_command(server.target, "ingest", URL)
    assert process.stderr is not None
    async for line in process.stderr:
        if line == b"downloading\n":
            break
    process.send_signal(signal.SIGINT)
    _, stderr = await process.communicate()

    assert process.returncode == 130
    assert f"ingot watch {JOB_ID}" in stderr.decode()
    assert f"ingot cancel {JOB_ID}" in stderr.decode()
    assert not server.received(CancelJobRequest)


async def test_watched_jobs_are_a_table_and_then_changes_and_removals(
    server: ScriptedServer,
) -> None:
    process = await start_command(server.target, "jobs", "--watch")
    assert process.stdout is not None
    lines = [(await process.stdout.readline()).decode().split() for _ in range(8)]
    process.send_signal(signal.SIGINT)
    await process.communicate()

    assert lines[0][0].lower() == "id"
    assert lines[1][:2] == [JOB_ID, "queued"]
    assert [line[0] for line in lines[2:]] == [JOB_ID] * 6
    assert lines[-1][1] == "removed"


async def test_watched_jobs_are_json_with_the_end_of_the_snapshot(server: ScriptedServer) -> None:
    process = await start_command(server.target, "--json", "jobs", "--watch")
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(8)]
    process.send_signal(signal.SIGINT)
    await process.communicate()

    events = [Parse(line, WatchJobsResponse()).WhichOneof("event") for line in lines]
    assert events == ["job", "snapshot_end", *["job"] * 5, "removed_job_id"]


async def test_a_closed_output_pipe_ends_the_command_quietly(server: ScriptedServer) -> None:
    server.media = [make_media(media_id=f"{number:052}") for number in range(1000)]
    reading, writing = os.pipe()
    process = await start_command(server.target, "--json", "list", "--limit", "0", stdout=writing)
    os.close(writing)
    await asyncio.to_thread(os.read, reading, 1)
    os.close(reading)
    _, stderr = await process.communicate()

    assert (process.returncode, stderr) == (141, b"")


@pytest.mark.parametrize(
    ("closed", "environment"),
    [(">&-", {}), ("2>&-", {}), (">&- 2>&-", {}), ("", {"PYTHONIOENCODING": "ascii"})],
    ids=["no stdout", "no stderr", "neither", "ascii"],
)
async def test_closed_outputs_and_unprintable_titles_do_no_harm(
    server: ScriptedServer, closed: str, environment: dict[str, str]
) -> None:
    server.updates[-1].media.title = "Füße \N{SNOWMAN}"
    process = await asyncio.create_subprocess_shell(
        f'"{COMMAND}" watch {JOB_ID} {closed}',
        stdout=-1,
        stderr=-1,
        env={**os.environ, "INGOT_SERVER": server.target, **environment},
    )
    stdout, stderr = await process.communicate()

    assert process.returncode == 0
    assert b"Traceback" not in stderr
    assert not environment or b"F??e ?" in stdout


async def test_options_are_named_if_their_fields_are_wrong(server: ScriptedServer) -> None:
    violations = {
        "selection.max_height": "must be at most 16384",
        "labels['k'] (the value)": "must be short",
    }
    server.outcomes = [
        Failure(reason_pb2.REASON_INVALID_REQUEST, "Not valid.", violations=violations)
    ]
    code, _, stderr = await run_command(server.target, "ingest", URL, "--max-height", "99999")
    assert code == 2
    assert stderr.splitlines() == [
        "ingot: Not valid. [INVALID_REQUEST]",
        "Correct --max-height: it must be at most 16384; --label: it must be short.",
    ]

    server.outcomes = [
        Failure(
            reason_pb2.REASON_UNSUPPORTED_URL, "No source.", violations={"url": "has no scheme"}
        )
    ]
    code, _, stderr = await run_command(server.target, "ingest", URL)
    assert code == 2
    assert stderr.splitlines()[1] == "Correct URL: it has no scheme."


async def test_converting_a_list_refers_to_ingest(server: ScriptedServer) -> None:
    failure = Failure(
        reason_pb2.REASON_INVALID_REQUEST, "A list.", violations={"options.playlist": "must be set"}
    )
    for command, advice in (
        (["ingest", URL], "Correct --playlist: it must be set."),
        (
            ["mp3", URL],
            "To convert all entries, run `ingot ingest URL --playlist --recipe FORMAT`.",
        ),
    ):
        server.outcomes = [failure]
        _, _, stderr = await run_command(server.target, *command)
        assert stderr.splitlines() == ["ingot: A list. [INVALID_REQUEST]", advice]


async def test_a_validated_job_has_no_state(server: ScriptedServer) -> None:
    server.updates = [Job(url=URL, media=make_media())]
    _, stdout, _ = await run_command(server.target, "ingest", URL, "--validate-only")
    assert stdout.split() == ["url", URL, "media", MEDIA_ID]


async def test_a_terminal_shows_a_bar_with_bytes_rate_and_remaining_time(
    server: ScriptedServer,
) -> None:
    server.last_revision = 3
    retry = server.updates[3]
    retry.state = JobState.JOB_STATE_QUEUED
    stalled = Failure(reason_pb2.REASON_STALLED, "Too \x1b[31mslow.")
    retry.last_attempt_error.CopyFrom(stalled.status())
    retry.waiting.cause = JobWaiting.CAUSE_RETRY
    retry.waiting.end_time.GetCurrentTime()
    terminal, tty = pty.openpty()
    process = await start_command(server.target, "ingest", URL, stderr=tty)
    os.close(tty)
    drawn = await read_until(terminal, "1 MB of 5 MB, 750 kB/s, 4.0 s left")
    await server.stop()
    server.last_revision = 6
    await server.start()
    drawn += await read_until(terminal, "succeeded")
    await process.communicate()
    os.close(terminal)

    assert process.returncode == 0
    assert "downloading" in drawn
    assert "Attempt 1 failed: Too \N{REPLACEMENT CHARACTER}[31mslow." in drawn
    assert "GOAWAY" not in drawn.upper()


async def read_until(terminal: int, text: str) -> str:
    drawn = b""
    while text.encode() not in drawn:
        drawn += await asyncio.to_thread(os.read, terminal, 1 << 16)
    # The block may end in the middle of a character, after the text.
    return drawn.decode(errors="ignore")
