"""A small job: its processor time by process, how many there are in a second, how long one takes.

A job is an ingest of 90 KB, from the call until its caller sees that it has SUCCEEDED. Source,
stores and caller are on the same machine. Processor time is without what an idle system takes, and
that of the callers and of the source is not counted. With one core, everything runs on one. At 70 %
load, calls come at random times (a Poisson process), whether or not earlier jobs have ended.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.clips import clip
from bench.origin import origin
from bench.processes import (
    INGOT,
    STORES,
    busy_seconds,
    processor_seconds_by_role,
    use_processors,
)
from ingot import Client
from tests.installation import descendants, installation

CORES = 2
ALONE = 150
AT_ONCE = 16
SECONDS = 10.0
LOAD = 0.7
LOAD_SECONDS = 20.0
IDLE_SECONDS = 5.0
WARM_UP = 32


class SmallJobs:
    """Runs jobs, and knows what an idle Ingot costs."""

    def __init__(self, client: Client, address: str, pid: int) -> None:
        self._client = client
        self._urls = (f"{address}/{number}.mp4" for number in itertools.count())
        self._pid = pid
        self._idle = defaultdict[str, float](float)

    async def learn_idle_cost(self) -> None:
        before = processor_seconds_by_role(self._pid)
        await asyncio.sleep(IDLE_SECONDS)
        for role, seconds in processor_seconds_by_role(self._pid).items():
            self._idle[role] = (seconds - before[role]) / IDLE_SECONDS

    async def run(self) -> float:
        """Run one job, and return how many seconds it took."""
        begin = time.perf_counter()
        await (await self._client.ingest_video(next(self._urls)))
        return time.perf_counter() - begin

    async def one_after_another(self, jobs: int) -> list[float]:
        return [await self.run() for _ in range(jobs)]

    async def at_once(self, jobs: Iterator[object]) -> list[float]:
        """Run 16 at a time, for as long as there are more `jobs`."""
        seconds = []

        async def caller() -> None:
            seconds.extend([await self.run() for _ in jobs])

        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
        return seconds

    async def at_random(self, rate: float) -> list[float]:
        """Begin `rate` jobs a second."""
        times, running = random.Random(1), []
        begin = due = time.perf_counter()
        while due - begin < LOAD_SECONDS:
            await asyncio.sleep(due - time.perf_counter())
            running.append(asyncio.create_task(self.run()))
            due += times.expovariate(rate)
        return await asyncio.gather(*running)

    @contextmanager
    def costing(self, jobs: list[float], name: str) -> Iterator[None]:
        """Print what each of the `jobs` has cost that are run within."""
        before, begin = processor_seconds_by_role(self._pid), time.perf_counter()
        yield
        lasted = time.perf_counter() - begin
        cost = defaultdict[str, float](float)
        for role, seconds in processor_seconds_by_role(self._pid).items():
            spent = seconds - before[role] - lasted * self._idle[role]
            cost[role] = round(1000 * spent / len(jobs), 1)
        whole = sum(cost[role] for role in INGOT)
        parts = ", ".join(f"{role} {cost[role]}" for role in INGOT if cost[role] >= 1)
        stores = ", ".join(f"{role} {cost[role]}" for role in STORES)
        print(f"  processor time of a job, {name}: {whole:.0f} ms ({parts}); besides, {stores}")


async def main() -> None:
    every_host = {"jobs_per_host": str(AT_ONCE), "connections_per_host": str(AT_ONCE)}
    processors = sorted(os.sched_getaffinity(0))[:CORES]
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        path = await clip(folder, 90_000)
        with installation(folder / "data", **every_host) as ingot:
            async with origin(path) as address, Client(ingot.grpc_address) as client:
                jobs = SmallJobs(client, address, ingot.process.pid)
                await _measure(jobs, processors)


async def _measure(jobs: SmallJobs, processors: Collection[int]) -> None:
    rates: dict[int, float] = {}
    for count in range(len(processors), 0, -1):
        use_processors([os.getpid(), *descendants(os.getpid())], list(processors)[:count])
        await jobs.at_once(iter(range(WARM_UP)))
        if not rates:
            await jobs.learn_idle_cost()
            seconds: list[float] = []
            with jobs.costing(seconds, "one after another"):
                seconds += await jobs.one_after_another(ALONE)
            print(f"  one after another: {_described(seconds)}")
        seconds = []
        with jobs.costing(seconds, f"{AT_ONCE} at once on {_cores(count)}"):
            begin, used = time.perf_counter(), busy_seconds()
            seconds += await jobs.at_once(_for_seconds(SECONDS))
            lasted, used = time.perf_counter() - begin, busy_seconds() - used
        rates[count] = len(seconds) / lasted
        print(
            f"  {AT_ONCE} at once on {_cores(count)}: {rates[count]:.1f} jobs a second, "
            f"{1000 * used / len(seconds):.0f} ms of all processes each, {used / lasted:.2f} busy"
        )
        if count == len(processors):
            seconds = await jobs.at_random(LOAD * rates[count])
            print(f"  at {LOAD:.0%} of that: {_described(seconds)}")
    if len(rates) > 1:
        print(f"  {_cores(max(rates))} against one: {rates[max(rates)] / rates[1]:.2f}")


def _for_seconds(seconds: float) -> Iterator[None]:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        yield


def _cores(count: int) -> str:
    return f"{count} cores" if count > 1 else "one core"


def _described(seconds: list[float]) -> str:
    percentiles = statistics.quantiles(seconds, n=100)
    median, most = (f"{1000 * percentiles[each - 1]:.0f} ms" for each in (50, 99))
    return f"{len(seconds)} jobs, median {median}, 99 % within {most}"
