"""1,000 watchers of a job's end, what each of them takes, and 10,000 with an update a second.

The watchers do little more than to note when a message arrives: they are on other machines, where
they do not take processor time from the server. A bare grpc.aio handler with the same watchers says
what the library takes of it.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from bench.held_job import held_job
from bench.known_caller import SETTINGS
from bench.processes import memory_bytes, processor_seconds
from bench.raw_watches import ConnectWatch, GrpcWatches, Watches, watching
from bench.serving import serving, serving_processes
from ingot.v1 import job_pb2
from tests.installation import Installation, installation

FEW = 50
WATCHERS = 1_000
ROUNDS = 7
MANY = 10_000
UPDATES = 20
KIBIBYTE = 1 << 10

Ending = tuple[str, Callable[[], Awaitable[object]]]
"""The id of a job that can be watched, and what ends it."""
Job = Callable[[str], AbstractAsyncContextManager[Ending]]
"""Makes a job with a name."""


async def main() -> None:
    async with serving("bench.bare_watch") as address:
        pids = serving_processes("bench.bare_watch")
        job = partial(bare_job, address)
        await measure_end("a bare handler", GrpcWatches, address, pids, job)
    with tempfile.TemporaryDirectory() as directory:
        for kind in (GrpcWatches, ConnectWatch):
            with installation(Path(directory, kind.__name__), workers="1", **SETTINGS) as ingot:
                address, pids = address_of(kind, ingot), ingot.children("serve")
                await measure_end(kind.name, kind, address, pids, partial(ingot_job, ingot))
                if kind is GrpcWatches:
                    await measure_updates(kind, ingot)


async def measure_end(
    name: str, kind: type[Watches], address: str, pids: Sequence[int], make_job: Job
) -> None:
    """Print how long the end of a job takes from the first watcher to the last."""
    async with make_job("first") as (job_id, _), watching(kind, address, job_id, FEW):
        before = memory_bytes(pids)
    spreads, seconds, taken = [], [], 0.0
    for number in range(ROUNDS):
        async with (
            make_job(f"clip-{number}") as (job_id, end),
            watching(kind, address, job_id, WATCHERS) as arrivals,
        ):
            if not number:
                taken = (memory_bytes(pids) - before) / (WATCHERS - FEW) / KIBIBYTE
            arrivals.expect()
            used = processor_seconds(pids)
            await end()
            states = {response.job.state for response in await arrivals.all()}
            seconds.append(processor_seconds(pids) - used)
            assert states == {job_pb2.JOB_STATE_SUCCEEDED}
            times = arrivals.times()
            spreads.append((max(times) - min(times)) * 1000)
    print(
        f"  {WATCHERS:,} watchers over {name}: the last hears of the end "
        f"{statistics.median(spreads):.0f} ms after the first, {min(spreads):.0f} to "
        f"{max(spreads):.0f}; {statistics.mean(seconds) * 1000:.0f} ms of the server's processor "
        f"time; {taken:.1f} KiB each"
    )


async def measure_updates(kind: type[Watches], ingot: Installation) -> None:
    """Print what many watchers of a job that reports progress each second take."""
    servers = ingot.children("serve")
    async with (
        held_job(ingot.redis_url, "long") as job,
        watching(kind, address_of(kind, ingot), job.job.id, MANY) as arrivals,
    ):
        delays = []
        used, begin = processor_seconds(servers), time.perf_counter()
        for number in range(UPDATES):
            await asyncio.sleep(begin + number - time.perf_counter())
            arrivals.expect()
            sent = time.perf_counter()
            await job.receive(1_000_000)
            responses = await arrivals.all()
            done = {response.job.progress.stage.bytes_done for response in responses}
            assert done == {1_000_000 * (number + 1)}
            delays.append(time.perf_counter() - sent)
        cores = (processor_seconds(servers) - used) / UPDATES
    print(
        f"  {MANY:,} watchers over {kind.name} with an update a second: {cores:.2f} cores, "
        f"and the last has it after {statistics.median(delays):.2f} s"
    )


@asynccontextmanager
async def ingot_job(ingot: Installation, name: str) -> AsyncIterator[Ending]:
    async with held_job(ingot.redis_url, name) as job:
        yield job.job.id, job.succeed


@asynccontextmanager
async def bare_job(address: str, name: str) -> AsyncIterator[Ending]:
    async with grpc.aio.insecure_channel(address) as channel:
        end: Any = channel.unary_unary("/ingot.v1.JobService/CancelJob")
        yield name, lambda: end(b"")


def address_of(kind: type[Watches], ingot: Installation) -> str:
    return ingot.wait_for(rf"^{kind.address}\s+(\S+)")[1]
