"""A whole Ingot, as a user runs it: `ingot-server up` in a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 30.0
STOP_SECONDS = 15.0

# Quick where a person's patience is long: a test that fails for good should not take minutes.
ENVIRONMENT = {
    "INGOT_EGRESS_ALLOW_LOOPBACK": "on",
    "INGOT_LEASE": "3s",
    "INGOT_RETRY_BACKOFF": "100ms",
    "INGOT_STALL_TIMEOUT": "2s",
    "INGOT_CONNECT_TIMEOUT": "2s",
}


@dataclass(slots=True)
class Installation:
    """A running `ingot-server up`."""

    process: asyncio.subprocess.Process
    data_dir: Path
    grpc_address: str
    output: list[str]

    def children(self, role: str) -> list[int]:
        """Process ids of the children that run `role`: serve, worker, valkey-server or weed."""
        return [
            pid
            for pid in descendants(self.process.pid)
            if role in _command_line(pid)[:4]
            or any(Path(word).name == role for word in _command_line(pid)[:1])
        ]

    def kill_tree(self, pid: int) -> None:
        """SIGKILL to a child and all below it, at once."""
        for victim in (*descendants(pid), pid):
            os.kill(victim, signal.SIGKILL)

    async def stop(self) -> int:
        """One Ctrl-C; answers with the exit code."""
        self.process.send_signal(signal.SIGINT)
        return await asyncio.wait_for(self.process.wait(), STOP_SECONDS)


@asynccontextmanager
async def installation(data_dir: Path, **settings: str) -> AsyncIterator[Installation]:
    """Runs `ingot-server up` on `data_dir` and on free ports until the context is left.

    `settings` are INGOT_ variables without their prefix, in lower case.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("INGOT_")},
        **ENVIRONMENT,
        "INGOT_SCRATCH_DIR": str(data_dir / "scratch"),
        **{f"INGOT_{name.upper()}": value for name, value in settings.items()},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ingot_server.cli",
        "up",
        "--data-dir",
        str(data_dir),
        "--grpc-address",
        "127.0.0.1:0",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        limit=1 << 20,
    )
    output: list[str] = []
    reader: asyncio.Task[None] | None = None
    try:
        address = await asyncio.wait_for(_address(process, output), START_SECONDS)
        reader = asyncio.create_task(_collect(process, output))
        yield Installation(process, data_dir, address, output)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        if reader is not None:
            await reader


async def _address(process: asyncio.subprocess.Process, output: list[str]) -> str:
    assert process.stdout is not None
    while line := (await process.stdout.readline()).decode():
        output.append(line)
        if match := re.match(r"gRPC\s+(\S+)", line):
            return match[1]
    raise AssertionError("Ingot did not start:\n" + "".join(output))


async def _collect(process: asyncio.subprocess.Process, output: list[str]) -> None:
    assert process.stdout is not None
    while line := (await process.stdout.readline()).decode():
        output.append(line)


def descendants(pid: int) -> Iterator[int]:
    """All processes below `pid`, the nearest first."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if parent == pid:
            child = int(entry.parent.name)
            yield child
            yield from descendants(child)


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []
