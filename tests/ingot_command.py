"""The installed command `ingot`, run as a process with or without a terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from tests.waiting import JOB_SECONDS

COMMAND: Final = Path(sys.executable).with_name("ingot")


class CommandResult(NamedTuple):
    """The exit code of a command and what it wrote."""

    code: int
    stdout: str
    stderr: str


async def start_command(
    target: str,
    *arguments: str | Path,
    directory: Path | None = None,
    stdout: int = asyncio.subprocess.PIPE,
    stderr: int = asyncio.subprocess.PIPE,
    columns: int = 120,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> asyncio.subprocess.Process:
    """Start the command for the server at `target`, without a configuration file.

    `environment` is added to that of the tests.
    """
    return await asyncio.create_subprocess_exec(
        COMMAND,
        *arguments,
        stdout=stdout,
        stderr=stderr,
        cwd=directory,
        env={
            **os.environ,
            "INGOT_SERVER": target,
            "XDG_CONFIG_HOME": os.devnull,
            "COLUMNS": str(columns),
            **environment,
        },
    )


async def run_command(
    target: str,
    *arguments: str | Path,
    directory: Path | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> CommandResult:
    """Run the command for the server at `target` until it ends, or kill it if it hangs."""
    process = await start_command(target, *arguments, directory=directory, environment=environment)
    try:
        async with asyncio.timeout(JOB_SECONDS):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return CommandResult(process.returncode, stdout.decode(), stderr.decode())


async def run_on_terminal(target: str, *arguments: str | Path, columns: int = 120) -> CommandResult:
    """Run the command with a terminal as its stderr, where it draws its progress."""
    terminal, tty = pty.openpty()
    process = await start_command(target, *arguments, stderr=tty, columns=columns)
    os.close(tty)
    drawn, (stdout, _) = await asyncio.gather(
        asyncio.to_thread(_read_all, terminal), process.communicate()
    )
    os.close(terminal)
    assert process.returncode is not None
    return CommandResult(process.returncode, stdout.decode(), drawn)


def _read_all(terminal: int) -> str:
    drawn = b""
    while True:
        try:
            block = os.read(terminal, 1 << 16)
        except OSError:  # EIO: the command has closed the terminal
            return drawn.decode()
        drawn += block
