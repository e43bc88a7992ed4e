"""Command lines that are completed by real shells, which have read the script for them."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from ingot.completion_command import SHELLS
from tests.ingot_command import COMMAND
from tests.waiting import TIMEOUT_SECONDS

# How each shell starts without the files of its user, and how it reads the script.
START: Final[Mapping[str, tuple[list[str], str]]] = {
    "bash": (["--norc", "--noprofile", "-i"], 'eval "$({script})"'),
    "zsh": (["-f", "-i"], 'autoload -Uz compinit && compinit -u -D && eval "$({script})"'),
    "fish": (["--no-config", "-i"], "{script} | source"),
}
# The arguments of a line, by what is typed of it.
LINES: Final[Mapping[str, list[str]]] = {
    "conf\tse\tca\t": ["config", "set", "ca"],
    "--json completion f\t": ["--json", "completion", "fish"],
    "mp3 --normal\t": ["mp3", "--normalize-loudness"],
    "retry x --no-w\t": ["retry", "x", "--no-wait"],
    "jobs --state fa\t": ["jobs", "--state", "failed"],
    "convert x --format op\t": ["convert", "x", "--format", "opus"],
    "upload cl\t": ["upload", "clip.mp4"],
    "--ca cl\t": ["--ca", "clip.mp4"],
}
RECORDER: Final = """#!/bin/sh
printf '%s\\n' "$@" >typed.new && mv typed.new typed
"""


class Shell:
    """A shell on a terminal, in whose directory the command `ingot` records its arguments."""

    def __init__(self, terminal: int, directory: Path) -> None:
        self._terminal = terminal
        self._directory = directory

    def run(self, line: str) -> list[str]:
        """Type a line, and return the arguments that the command got."""
        recorded = self._directory / "typed"
        recorded.unlink(missing_ok=True)
        shown = b""
        os.write(self._terminal, line.encode() + b"\n")
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not recorded.exists():
            # A shell whose output is not read stops.
            if select.select([self._terminal], [], [], 0.05)[0]:
                shown += os.read(self._terminal, 1 << 16)
            assert time.monotonic() < deadline, shown.decode(errors="replace")
        return recorded.read_text().split("\n")[:-1]


@contextmanager
def running_shell(name: str, directory: Path) -> Iterator[Shell]:
    (directory / "clip.mp4").touch()
    command = directory / "bin/ingot"
    command.parent.mkdir()
    command.write_text(RECORDER)
    command.chmod(0o755)
    arguments, setup = START[name]
    terminal, tty = pty.openpty()
    shell = subprocess.Popen(
        ["setsid", "--ctty", "--wait", name, *arguments],
        stdin=tty,
        stdout=tty,
        stderr=tty,
        cwd=directory,
        env={
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "TERM": "xterm",
            "LANG": "C.UTF-8",
        },
    )
    os.close(tty)
    try:
        running = Shell(terminal, directory)
        setup = setup.format(script=f"{COMMAND} completion {name}")
        running.run(f"{setup}; ingot ready")
        yield running
    finally:
        os.close(terminal)  # the shell ends with its terminal
        shell.wait(TIMEOUT_SECONDS)


@pytest.mark.parametrize("name", SHELLS)
def test_the_shell_completes_commands_options_values_and_files(name: str, tmp_path: Path) -> None:
    if shutil.which(name) is None:
        if os.environ.get("REQUIRE_ALL_SERVERS"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")

    with running_shell(name, tmp_path) as shell:
        assert {line: shell.run(f"ingot {line}") for line in LINES} == LINES


def test_every_shell_can_be_started_here() -> None:
    assert tuple(START) == SHELLS
