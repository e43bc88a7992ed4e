"""`ingot top` on a terminal of its own, and without one; `ingot watch` for all jobs."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import termios
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest
from google.protobuf.json_format import Parse

from ingot.v1.job_pb2 import JobState
from ingot.v1.job_service_pb2 import ListJobsResponse, WatchJobsRequest, WatchJobsResponse
from tests.ingot_command import COMMAND, run_command, start_command
from tests.scripted_server import JOB_ID, URL, ScriptedServer, running_scripted_server
from tests.waiting import until

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
async def server() -> AsyncGenerator[ScriptedServer, None]:
    """A server whose job is downloading, and stays so."""
    async with running_scripted_server() as server:
        server.last_revision = 3
        yield server


class Terminal:
    """A terminal, the command that runs on it, and what was drawn last."""

    def __init__(self, tty: int, process: asyncio.subprocess.Process) -> None:
        self.tty = tty
        self.process = process
        self.drawn = ""

    def screen(self) -> str:
        """The text of the last frame that was drawn completely."""
        frames = self.drawn.split("\x1b[H")
        return ESCAPE.sub("", frames[-2] if len(frames) > 1 else "")

    async def shows(self, *texts: str) -> None:
        """Wait until all texts are on the screen."""
        await until(lambda: all(text in self.screen() for text in texts))

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self.tty, (rows, columns))
        self.process.send_signal(signal.SIGWINCH)  # as to the process in its foreground


@asynccontextmanager
async def top_on_terminal(
    target: str, rows: int = 24, columns: int = 100
) -> AsyncIterator[Terminal]:
    ours, tty = pty.openpty()
    termios.tcsetwinsize(tty, (rows, columns))
    ignored = {"COLUMNS", "LINES"}
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, "top"),
        stdin=tty,
        stdout=tty,
        stderr=tty,
        env={
            **{name: text for name, text in os.environ.items() if name not in ignored},
            "INGOT_SERVER": target,
            "XDG_CONFIG_HOME": os.devnull,
            "TERM": "xterm-256color",
        },
    )
    terminal = Terminal(ours, process)

    def read() -> None:
        terminal.drawn += os.read(ours, 1 << 16).decode(errors="replace")

    asyncio.get_running_loop().add_reader(ours, read)
    try:
        yield terminal
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)
        os.close(tty)


@pytest.mark.slow
async def test_top_is_live_and_q_ends_it(server: ScriptedServer) -> None:
    async with top_on_terminal(server.target) as terminal:
        await terminal.shows("1 running", "downloading", "750 kB/s, 4.0 s left", URL)

        server.last_revision = 6
        await server.stop()
        await server.start()
        # At the end the script removes the record of the job.
        await terminal.shows("There are no jobs.")

        os.write(terminal.tty, b"q")
        assert await terminal.process.wait() == 0
        assert "\x1b[?1049l" in terminal.drawn, "what was on the screen before is there again"


async def test_ctrl_c_ends_top_and_gives_the_terminal_back(server: ScriptedServer) -> None:
    async with top_on_terminal(server.target) as terminal:
        await terminal.shows("1 running")
        assert not termios.tcgetattr(terminal.tty)[3] & termios.ECHO, "keys are not shown"

        terminal.process.send_signal(signal.SIGINT)
        assert await terminal.process.wait() == 130
        assert termios.tcgetattr(terminal.tty)[3] & termios.ECHO
        assert "\x1b[?1049l" in terminal.drawn
        assert "Traceback" not in terminal.drawn


@pytest.mark.slow
async def test_top_says_since_when_it_is_out_of_date_and_resumes(server: ScriptedServer) -> None:
    async with top_on_terminal(server.target) as terminal:
        await terminal.shows("1 running")
        await server.stop()
        await terminal.shows("Not up to date since", "1 running")

        server.last_revision = 4
        await server.start()
        await until(lambda: "Not up to date" not in terminal.screen())
        assert [request.resume_token for request in server.received(WatchJobsRequest)] == ["", "3"]


@pytest.mark.slow
async def test_top_adapts_to_the_size_of_the_terminal(server: ScriptedServer) -> None:
    async with top_on_terminal(server.target) as terminal:
        await terminal.shows("750 kB/s, 4.0 s left")
        terminal.resize(10, 40)
        await until(
            lambda: (
                max(map(len, terminal.screen().splitlines())) == 40
                and "750 kB/s, 4.0 s left" not in terminal.screen()
            )
        )


async def test_top_without_a_terminal_prints_one_snapshot(server: ScriptedServer) -> None:
    code, stdout, stderr = await run_command(server.target, "top")

    assert (code, stderr) == (0, "")
    assert stdout.splitlines()[0] == (
        "0 running, 1 queued, 0 succeeded, 0 failed, 0 cancelled, 0 B/s"
    )
    assert stdout.splitlines()[2].split()[:2] == [JOB_ID, "queued"]


async def test_top_as_json_is_one_message_with_the_counts(server: ScriptedServer) -> None:
    code, stdout, _ = await run_command(server.target, "--json", "top")

    (line,) = stdout.splitlines()
    message = Parse(line, ListJobsResponse())
    assert code == 0
    assert [job.id for job in message.jobs] == [JOB_ID]
    assert [(each.state, each.count) for each in message.state_counts] == [
        (JobState.JOB_STATE_QUEUED, 1)
    ]


async def test_top_without_a_server_says_so(server: ScriptedServer) -> None:
    await server.stop()

    async with top_on_terminal(server.target) as terminal:
        assert await terminal.process.wait() == 1
        await until(lambda: "Cannot connect" in terminal.drawn)


async def read_lines(server: ScriptedServer, count: int, *arguments: str) -> list[str]:
    """Run the command for its first lines of output."""
    process = await start_command(server.target, *arguments)
    assert process.stdout is not None
    lines = [(await process.stdout.readline()).decode() for _ in range(count)]
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 130
    return lines


async def test_watch_without_an_id_prints_every_change_of_all_jobs(server: ScriptedServer) -> None:
    server.last_revision = 6
    lines = [line.split() for line in await read_lines(server, 8, "watch")]

    assert [line[0] for line in lines[1:]] == [JOB_ID] * 7
    assert [line[1] for line in lines[1:5]] == ["queued", "resolving", "downloading", "downloading"]
    assert lines[-1][1] == "removed"


async def test_watch_without_an_id_leaves_out_what_had_ended(server: ScriptedServer) -> None:
    server.updates[0].state = JobState.JOB_STATE_FAILED
    (heading, first) = await read_lines(server, 2, "watch")

    assert heading.split()[0] == "id"
    assert first.split()[1] == "resolving"


async def test_watch_without_an_id_as_json_has_everything(server: ScriptedServer) -> None:
    server.last_revision = 6
    lines = await read_lines(server, 8, "--json", "watch")

    events = [Parse(line, WatchJobsResponse()).WhichOneof("event") for line in lines]
    assert events == ["job", "snapshot_end", *["job"] * 5, "removed_job_id"]
