"""A mixed load as in production: percentiles by kind of call, failures, memory and processor time.

    python -m bench load            for a minute, on an installation of its own
    python -m bench.load --server HOST:PORT --pid PID --minutes 30 --rate 5

Calls come at random times (Poisson), whether or not the calls before them were answered, and the
time of each counts from when it was due. So a service that stops for a second is seen to delay all
calls of that second. Besides, three callers watch all jobs, one of them slowly. The mix of calls is
in mixed_calls.py; `--rate` is the number of new URLs a second.

An Ingot that runs already must reach the sites, which are on this machine: it needs
INGOT_EGRESS_ALLOW_LOOPBACK. `--pid` is that of its `ingot-server up`; without it, the memory and
the processor time of its processes are not shown.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.arrivals import arrivals
from bench.latencies import Latencies
from bench.mixed_calls import MIX, SLOW_WATCHER_SECONDS, MixedCalls, sites, watch_all
from bench.processes import (
    MEBIBYTE,
    memory_bytes,
    processor_seconds_by_role,
    role,
    tree,
)
from ingot import Client
from tests.installation import installation

WATCHERS = 2
# What is not answered this long after the last call counts as failed.
LAST_ANSWER_SECONDS = 60.0
SAMPLES = 12
LEAST_SAMPLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """What to do to which Ingot."""

    server: str = ""
    """Address; empty for an installation of its own."""
    pid: int = 0
    minutes: float = 1.0
    rate: float = 4.0
    """New URLs a second."""
    seed: int = 1


async def main(options: Options | None = None) -> None:
    options = options or Options()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        if options.server:
            await _load(folder, options, options.server, options.pid)
        else:
            with installation(folder / "data") as ingot:
                await _load(folder, options, ingot.grpc_address, ingot.process.pid)


async def _load(folder: Path, options: Options, server: str, pid: int) -> None:
    latencies = Latencies()
    async with AsyncExitStack() as stack:
        addresses = await stack.enter_async_context(sites(folder))
        clients = [await stack.enter_async_context(Client(server)) for _ in range(WATCHERS + 2)]
        calls = MixedCalls(clients[0], addresses, latencies, seed=options.seed)
        await calls.prepare()
        background: list[Coroutine[object, object, None]] = [
            watch_all(client, latencies, "watch of all jobs: an end") for client in clients[2:]
        ]
        slow = "slow watch of all jobs: an end"
        background.append(
            watch_all(clients[1], latencies, slow, pause_seconds=SLOW_WATCHER_SECONDS)
        )
        seconds = 60 * options.minutes
        background.append(_show_use(pid, max(LEAST_SAMPLE_SECONDS, seconds / SAMPLES)))
        running = [asyncio.create_task(each) for each in background]
        await _send(calls, latencies, options)
        for task in running:
            task.cancel()
        for task in running:
            # What ended before has failed.
            with suppress(asyncio.CancelledError):
                await task
    print(f"  {options.minutes:g} minutes, {options.rate:g} new URLs a second; seed {options.seed}")
    print(latencies.report())


async def _send(calls: MixedCalls, latencies: Latencies, options: Options) -> None:
    rates = {kind: share * options.rate for kind, share in MIX.items()}
    running = set[asyncio.Task[None]]()
    begin = time.perf_counter()
    for moment, kind in arrivals(rates, 60 * options.minutes, seed=options.seed):
        due = begin + moment
        await asyncio.sleep(due - time.perf_counter())
        latencies.add("(lateness of the generator)", time.perf_counter() - due)
        task = asyncio.create_task(calls.perform(kind, due))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        _, late = await asyncio.wait(running, timeout=LAST_ANSWER_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


async def _show_use(pid: int, interval: float) -> None:
    """Print the cores that each kind of process uses, and its memory, until cancelled."""
    begin = before = time.perf_counter()
    earlier = _processor_seconds(pid)
    while True:
        await asyncio.sleep(interval)
        now, seconds = time.perf_counter(), _processor_seconds(pid)
        memory = await asyncio.to_thread(_memory_bytes, pid)
        parts = (
            f"{name} {(seconds[name] - earlier[name]) / (now - before):.2f}"
            + (f", {memory[name] / MEBIBYTE:.0f} MiB" if name in memory else "")
            for name in sorted(seconds)
        )
        print(f"  {now - begin:5.0f} s: {'; '.join(parts)}", flush=True)
        before, earlier = now, seconds


def _processor_seconds(pid: int) -> Mapping[str, float]:
    seconds: dict[str, float] = dict(processor_seconds_by_role(pid)) if pid else {}
    # A program that a worker has started counts for the worker as soon as it has ended.
    if others := seconds.pop("others", 0):
        seconds["worker"] = seconds.get("worker", 0) + others
    seconds["caller"] = time.process_time()
    return seconds


def _memory_bytes(pid: int) -> Mapping[str, int]:
    sizes = Counter[str]()
    for each in tree(pid) if pid else ():
        name = role(each)
        sizes["worker" if name == "others" else name] += memory_bytes([each])
    return sizes


def _options() -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m bench.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Options()
    parser.add_argument("--server", default=default.server, metavar="HOST:PORT")
    parser.add_argument("--pid", default=default.pid, type=int)
    parser.add_argument("--minutes", default=default.minutes, type=float)
    parser.add_argument("--rate", default=default.rate, type=float)
    parser.add_argument("--seed", default=default.seed, type=int)
    return Options(**vars(parser.parse_args()))


if __name__ == "__main__":
    asyncio.run(main(_options()))
