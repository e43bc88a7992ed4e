"""What more cores, workers and API servers would carry: a simulation with measured service times.

What a job of 90 KB takes of each process is measured on one core. From that the simulation predicts
the jobs a second on one core and on two, which are measured as well: the difference is its error.
Then it predicts what cannot be measured here. docs/scaling.md says what it leaves out.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.clips import clip
from bench.ingot_model import SLOTS, Deployment, Job, Outcome, closed, opened
from bench.origin import origin
from bench.processes import processor_seconds_by_role, use_processors
from ingot import Client
from tests.installation import command_line, descendants, installation

AT_ONCE = 16
SECONDS = 12.0
ALONE = 30
# What is not on the machine that runs the jobs, if there is more than one.
OTHERS = frozenset({"caller", "site"})
STORES = frozenset({"caller", "site", "Redis", "S3"})
JOBS_A_DAY, PEAK = 1_000_000, 3.0
"""The busiest hour has three times as many jobs as the average hour."""
LARGE_BYTES, LARGE_BYTES_PER_SECOND = 50_000_000, 10_000_000
LARGE_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Measured:
    """Jobs of one size on some cores."""

    jobs_per_second: float
    processor_seconds: Mapping[str, float]
    """Of a job, by process."""


class Bench:
    """A running Ingot, a caller and a site."""

    def __init__(self, pid: int, client: Client, address: str, large_address: str) -> None:
        self._pid = pid
        self._client = client
        self._addresses = (address, large_address)
        self._names = itertools.count()

    async def job(self, *, large: bool = False) -> float:
        """Run one job, and return the seconds that it took."""
        begin = time.perf_counter()
        url = f"{self._addresses[large]}/{next(self._names)}.mp4"
        await (await self._client.ingest_video(url))
        return time.perf_counter() - begin

    async def at_once(self) -> Measured:
        """Run jobs for some seconds, 16 at a time."""
        jobs = 0
        before, begin = self._processor_seconds(), time.perf_counter()

        async def caller() -> None:
            nonlocal jobs
            while time.perf_counter() < begin + SECONDS:
                await self.job()
                jobs += 1

        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
        seconds = time.perf_counter() - begin
        return Measured(jobs / seconds, self._since(before, jobs))

    async def large(self) -> Mapping[str, float]:
        """Return the processor seconds of a large job, of some that run at the same time."""
        before = self._processor_seconds()
        await asyncio.gather(*(self.job(large=True) for _ in range(LARGE_AT_ONCE)))
        return self._since(before, LARGE_AT_ONCE)

    def _processor_seconds(self) -> Mapping[str, float]:
        seconds = defaultdict[str, float](float, processor_seconds_by_role(self._pid))
        for pid in descendants(os.getpid()):
            if "bench.origin" in command_line(pid):
                seconds["site"] += sum(processor_seconds_by_role(pid).values())
        seconds["caller"] = time.process_time()
        return seconds

    def _since(self, before: Mapping[str, float], jobs: int) -> Mapping[str, float]:
        return {
            name: (seconds - before.get(name, 0)) / jobs
            for name, seconds in self._processor_seconds().items()
        }


async def main() -> None:
    every_host = {"jobs_per_host": str(AT_ONCE), "connections_per_host": str(AT_ONCE)}
    processors = sorted(os.sched_getaffinity(0))[:2]
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        small, large = await clip(folder, 90_000), await clip(folder, LARGE_BYTES)
        with installation(folder / "data", **every_host) as ingot:
            async with (
                origin(small) as address,
                origin(large, bytes_per_second=LARGE_BYTES_PER_SECOND) as large_address,
                Client(ingot.grpc_address) as client,
            ):
                bench = Bench(ingot.process.pid, client, address, large_address)
                await bench.at_once()  # what only the first jobs need
                measured = {}
                for count in range(1, len(processors) + 1):
                    use_processors([os.getpid(), *descendants(os.getpid())], processors[:count])
                    measured[count] = await bench.at_once()
                alone = statistics.median([await bench.job() for _ in range(ALONE)])
                large_job = await bench.large()
    _predict(measured, alone, large_job)


def _predict(measured: Mapping[int, Measured], alone: float, large: Mapping[str, float]) -> None:
    cost = measured[1].processor_seconds
    small = Job(cost, max(0.0, alone - sum(cost.values())))
    print(f"  a job of 90 KB takes {_milliseconds(cost)}")
    print(f"  and waits {1000 * small.waits_seconds:.0f} ms")
    for count, each in measured.items():
        predicted = closed(small, Deployment(count), at_once=AT_ONCE).jobs_per_second
        print(
            f"  {_cores(count)}: {each.jobs_per_second:.1f} jobs a second measured, "
            f"{predicted:.1f} simulated ({predicted / each.jobs_per_second - 1:+.0%})"
        )
    print("  as measured, with everything on the machine, and with as many workers as it takes:")
    for cores, workers in ((1, 1), (2, 1), (4, 1), (4, 2)):
        deployment = Deployment(cores, workers, api_servers=max(1, cores // 4))
        _show(small, deployment)
    print("  callers, sites, Redis and S3 on other machines:")
    for cores, workers in ((2, 1), (4, 2), (16, 8), (64, 32)):
        deployment = Deployment(cores, workers, max(1, cores // 4), STORES)
        _show(small, deployment)
    rate = JOBS_A_DAY * PEAK / 86400
    print(f"  {rate:.1f} jobs a second, {JOBS_A_DAY:,} a day and {PEAK:g} times that at the peak:")
    print(f"  a job of {LARGE_BYTES:,} bytes takes {_milliseconds(large)}")
    for name, job, cores, workers in (
        *(("90 KB", small, cores, 2) for cores in (3, 4, 6)),
        *(
            ("50 MB", Job(large, LARGE_BYTES / LARGE_BYTES_PER_SECOND), cores, 16)
            for cores in (16, 24, 32)
        ),
    ):
        deployment = Deployment(cores, workers, max(1, cores // 4), STORES)
        outcome = opened(job, deployment, rate=rate)
        print(f"    {name}: {_described(deployment)}: {_latencies(outcome)}; {_loads(outcome)}")


def _show(job: Job, deployment: Deployment) -> None:
    outcome = closed(job, deployment, at_once=SLOTS * deployment.workers)
    print(
        f"    {_described(deployment)}: {outcome.jobs_per_second:6.1f} jobs a second; "
        f"{_loads(outcome)}"
    )


def _described(deployment: Deployment) -> str:
    return (
        f"{_cores(deployment.cores)}, {deployment.workers} workers, "
        f"{deployment.api_servers} API servers"
    )


def _latencies(outcome: Outcome) -> str:
    median, most = (outcome.within(share) for share in (0.5, 0.99))
    return f"median {median:.2f} s, 99 % within {most:.2f} s"


def _loads(outcome: Outcome) -> str:
    return ", ".join(f"{name} {load:.0%}" for name, load in outcome.loads.items()) + " busy"


def _milliseconds(seconds: Mapping[str, float]) -> str:
    return (
        f"{1000 * sum(seconds.values()):.0f} ms of processor time ("
        + ", ".join(f"{name} {1000 * each:.1f}" for name, each in seconds.items() if each > 1e-4)
        + ")"
    )


def _cores(count: int) -> str:
    return f"{count} cores" if count > 1 else "1 core"
