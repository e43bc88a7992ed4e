"""`ingot-server up` where it is inconvenient: what surrounds it never decides whether it runs."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from ingot import Client, IngotError
from ingot_server.local.ports import Ports
from ingot_server.process.launch import launch_command
from tests.installation import QUICK_SETTINGS, STOP_SECONDS, kill_tree, running_children
from tests.origin import Origin, Page
from tests.recipes import make_recipe
from tests.waiting import JOB_SECONDS, until

pytestmark = pytest.mark.slow  # a whole installation

# As `nohup` does, with few descriptors, and without standard output.
SHELL: Final = 'trap "" HUP; ulimit -n 256; exec "$@" >&-'
DATA: Final = "a #name? of%2Fdata"


@contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe that takes no byte more, because nobody reads it."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
    try:
        while True:
            os.write(writer, bytes(1 << 12))
    except BlockingIOError:
        fcntl.fcntl(writer, fcntl.F_SETFL, 0)
    try:
        yield reader, writer
    finally:
        os.close(writer)


@contextmanager
def up(data_dir: Path, port: int, stderr: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [
            *("sh", "-c", SHELL, "sh"),
            *launch_command(sys.executable, "-m", "ingot_server.cli", "up"),
            *("--data-dir", str(data_dir), "--workers", "1"),
            *("--grpc-address", f"127.0.0.1:{port}"),
        ],
        stderr=stderr,
        env={
            **{
                name: text
                for name, text in os.environ.items()
                if name[:6] != "INGOT_" and name != "HOME"
            },
            **QUICK_SETTINGS,
        },
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            kill_tree(process.pid)
            process.wait()


async def answers(client: Client) -> None:
    async with asyncio.timeout(JOB_SECONDS):
        while True:
            try:
                await client.sources()
            except IngotError:
                await asyncio.sleep(0.1)
            else:
                return


async def test_it_runs_with_a_full_log_without_a_home_and_in_an_odd_directory(
    origin: Origin, clip: bytes, tmp_path: Path
) -> None:
    with (
        Ports() as ports,
        full_pipe() as (reader, writer),
        up(tmp_path / DATA, port := ports.reserve("127.0.0.1"), writer) as process,
    ):
        async with Client(f"127.0.0.1:{port}") as client:
            await answers(client)
            async with asyncio.timeout(JOB_SECONDS):
                stored = await (await client.ingest_video(origin.serve("/a.mp4", Page(clip))))
                for recipe in ("mp3", "image"):
                    await (await client.convert(stored.id, make_recipe(recipe)))

            # Its reader is gone now, and `up` has something to say about a worker.
            os.close(reader)
            (worker,) = running_children(process.pid, "worker")
            os.kill(worker, signal.SIGKILL)
            await until(lambda: running_children(process.pid, "worker") not in ([], [worker]))
            async with asyncio.timeout(JOB_SECONDS):
                await (await client.ingest_video(origin.serve("/b.mp4", Page(clip + bytes(1)))))

            process.send_signal(signal.SIGHUP)
            await asyncio.sleep(0.5)
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0
