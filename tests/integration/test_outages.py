"""A worker process waits while Redis cannot be used, says so, and then goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Final

import pytest

from ingot_server.config import Settings
from ingot_server.jobs.records import Records
from ingot_server.process.launch import launch_command
from ingot_server.redis import Redis
from tests.installation import names_below
from tests.records import new_job
from tests.servers import START_SECONDS
from tests.waiting import TIMEOUT_SECONDS, until

pytestmark = pytest.mark.any_stores

COMMAND: Final = ("-m", "ingot_server.cli", "worker")
BEGIN: Final = "WARNING ingot_server.outage: Redis cannot be used"
END: Final = "INFO ingot_server.outage: Redis can be used again"

# What begins each state of Redis, and what ends it.
AS_REPLICA = ("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")
NO_STALE_READS = (
    ("CONFIG", "SET", "replica-serve-stale-data", "no"),
    ("CONFIG", "SET", "replica-serve-stale-data", "yes"),
)
WITHOUT_REPLICAS = (
    ("CONFIG", "SET", "min-replicas-to-write", "1"),
    ("CONFIG", "SET", "min-replicas-to-write", "0"),
)
FULL = ("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")
FAULTS: Final[dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]]] = {
    "READONLY": [AS_REPLICA],
    "MASTERDOWN": [NO_STALE_READS, AS_REPLICA],
    "NOREPLICAS": [WITHOUT_REPLICAS],
    "OOM": [FULL],
}


DEFECT: Final = """
from ingot_server import celery_worker, cli

def fail(consumer):
    raise RuntimeError("a defect")

celery_worker._Consumer.on_ready = fail
cli.main(["worker"])
"""


class WorkerProcess:
    """A running `ingot-server worker`. `lines` has what it has logged so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.ready = asyncio.Event()
        self.reading = asyncio.create_task(self._read())

    async def logs(self, text: str, *, after: int = 0) -> None:
        await until(lambda: any(text in line for line in self.lines[after:]))

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode())
            if b"ready for 16 jobs" in line:
                self.ready.set()


@contextlib.asynccontextmanager
async def running_worker(settings: Settings, *command: str) -> AsyncIterator[WorkerProcess]:
    process = await asyncio.create_subprocess_exec(
        *launch_command(sys.executable, *(command or COMMAND)),
        env={**os.environ, **settings.environment()},
        stderr=asyncio.subprocess.PIPE,
    )
    worker = WorkerProcess(process)
    try:
        yield worker
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await worker.reading


async def send(redis: Redis, command: tuple[str, ...]) -> None:
    await redis.execute_command(*command)  # type: ignore[no-untyped-call]


async def test_a_worker_waits_while_redis_refuses_and_then_runs_what_was_queued(
    settings: Settings, redis: Redis
) -> None:
    records = Records(redis, settings)
    async with running_worker(settings) as worker:
        async with asyncio.timeout(START_SECONDS):
            await worker.ready.wait()
        for name, states in FAULTS.items():
            before = len(worker.lines)
            job = (await records.create(new_job(name))).job
            try:
                for begin, _ in states:
                    await send(redis, begin)
                await worker.logs(BEGIN, after=before)
                await asyncio.sleep(1.5)
            finally:
                for _, end in reversed(states):
                    await send(redis, end)
            await worker.logs(END, after=before)
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while (found := await records.get(job.id)) is None or not found.attempt:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.05)
            log = [line for line in worker.lines[before:] if "ingot_server.worker:" not in line]
            assert [BEGIN in log[0], END in log[-1], len(log)] == [True, True, 2], "".join(log)
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.process.wait() == 0
        # It had no job to wait for, and has cleared up all the same.
        assert names_below(settings.scratch_dir) == {"sweep.lock"}


async def test_a_worker_that_no_signal_stopped_does_not_end_with_0(settings: Settings) -> None:
    async with running_worker(settings, "-c", DEFECT) as worker, asyncio.timeout(START_SECONDS):
        assert await worker.process.wait() == 1
        await worker.reading
        assert "no signal had stopped it" in worker.lines[-1]
