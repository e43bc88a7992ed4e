"""What Redis does for each second that a job runs, by who watches it.

The jobs are downloads from a site so slow that they outlast the measurement. What an idle system
takes is subtracted.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis.asyncio

from bench.clips import clip
from bench.origin import origin
from ingot import Client
from tests.installation import installation

JOBS = 16
SECONDS = 12.0
# Longer than a watcher that has left counts.
PAUSE_SECONDS = 15.0
FILE_BYTES, BYTES_PER_SECOND = 8_000_000, 80_000
"""A download of 100 s: the measurements take 80."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What Redis has done in a second."""

    processor_seconds: float
    commands: float


async def main() -> None:
    every_host = {"jobs_per_host": str(JOBS), "connections_per_host": str(JOBS)}
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        path = await clip(folder, FILE_BYTES)
        with installation(folder / "data", **every_host) as ingot:
            async with (
                origin(path, bytes_per_second=BYTES_PER_SECOND) as address,
                Client(ingot.grpc_address) as client,
                redis.asyncio.Redis.from_url(ingot.redis_url) as store,
            ):
                # What only the first job needs.
                await (await client.ingest_video(f"{address}/first.mp4")).cancel()
                await asyncio.sleep(PAUSE_SECONDS)
                idle = await measure(store)
                jobs = [
                    await client.ingest_video(f"{address}/{number}.mp4") for number in range(JOBS)
                ]
                await asyncio.sleep(PAUSE_SECONDS)
                report("nobody", idle, await measure(store))
                async with reading([client.watch_jobs()]):
                    report("a watcher of the list", idle, await measure(store))
                async with reading(jobs):
                    report("a watcher of each job", idle, await measure(store))
                for job in jobs:
                    assert not job.done
                    await job.cancel()


@asynccontextmanager
async def reading(watches: Sequence[Any]) -> AsyncIterator[None]:
    """Read what watches yield, each in a task of its own."""

    async def read(watch: Any) -> None:
        async for _ in watch:
            pass

    tasks = [asyncio.create_task(read(watch)) for watch in watches]
    await asyncio.sleep(1)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def measure(store: redis.asyncio.Redis) -> Taken:
    before = await counters(store)
    await asyncio.sleep(SECONDS)
    after = await counters(store)
    return Taken(
        (after.processor_seconds - before.processor_seconds) / SECONDS,
        (after.commands - before.commands) / SECONDS,
    )


async def counters(store: redis.asyncio.Redis) -> Taken:
    info = await store.info("everything")
    return Taken(
        info["used_cpu_user"] + info["used_cpu_sys"], float(info["total_commands_processed"])
    )


def report(who: str, idle: Taken, taken: Taken) -> None:
    seconds = (taken.processor_seconds - idle.processor_seconds) / JOBS
    commands = (taken.commands - idle.commands) / JOBS
    print(
        f"  {who}: {1000 * seconds:.2f} ms of Redis and {commands:.1f} commands for each second "
        f"of a job, so one Redis carries {1 / seconds:,.0f} jobs at a time"
    )
