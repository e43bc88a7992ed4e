"""Redis commands of a small job, from Ingest to SUCCEEDED: those sent, and those in scripts."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis.asyncio

from bench.clips import clip
from bench.origin import origin
from ingot import Client
from ingot.v1 import job_pb2
from ingot_server.jobs.history import read_message
from tests.installation import installation

JOBS = 30
IDLE_SECONDS = 20.0
# What is counted less often is not shown.
LEAST = 0.1
_SCRIPTS = {"EVALSHA", "EVAL"}
# What is different in each job, and in each start.
_NAMES = re.compile(r"(?<=[:/])([a-z2-7]{52}|[0-9a-v]{26}|[0-9a-f-]{36})(?=$|\D)")
_WORKER = re.compile(r"ingot\.[^:]+:\d+")


@dataclass
class Count:
    """Commands by what they are about, within some seconds."""

    sent: dict[str, float] = field(default_factory=dict)
    """A script counts as one."""
    in_scripts: dict[str, float] = field(default_factory=dict)
    """By the operation of the script."""
    keys: dict[str, float] = field(default_factory=dict)
    """Both, by key."""
    seconds: float = 0.0

    @classmethod
    def of(cls, commands: Iterable[dict[str, Any]], seconds: float) -> Count:
        sent, in_scripts, keys = Counter[str](), Counter[str](), Counter[str]()
        operation = ""
        for each in commands:
            words = each["command"].split(" ")
            if each["client_type"] == "lua":
                in_scripts[operation] += 1
            elif words[0] in _SCRIPTS:
                # EVALSHA, the script, the number of its keys, these, its operation
                operation = words[3 + int(words[2])] or "queue binding"
                sent[operation] += 1
                continue
            else:
                operation = " ".join(words[:1] + [without_names(word) for word in words[1:2]])
                sent[operation] += 1
            keys[without_names(words[1]) if len(words) > 1 else words[0]] += 1
        return cls(dict(sent), dict(in_scripts), dict(keys), seconds)

    def per_job(self, idle: Count, jobs: int) -> Count:
        """What one job costs, without what `idle` says of a system that has none."""
        share = self.seconds / idle.seconds

        def rest(mine: dict[str, float], background: dict[str, float]) -> dict[str, float]:
            return {
                name: (number - share * background.get(name, 0)) / jobs
                for name, number in mine.items()
            }

        return Count(
            rest(self.sent, idle.sent),
            rest(self.in_scripts, idle.in_scripts),
            rest(self.keys, idle.keys),
        )


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        path = await clip(folder, 90_000)
        with installation(folder / "data") as ingot:
            async with (
                origin(path) as address,
                Client(ingot.grpc_address) as client,
                redis.asyncio.Redis.from_url(ingot.redis_url) as monitored,
                monitoring(monitored) as commands,
            ):
                await watched(client, f"{address}/first")
                await asyncio.sleep(IDLE_SECONDS / 4)  # until its end is in the journal

                async def measure(name: str, run: Any) -> None:
                    del commands[:]
                    begin = time.perf_counter()
                    for number in range(JOBS):
                        await run(f"{address}/{name.replace(' ', '-')}-{number}.mp4")
                    # The ends of the last ones are written a little later.
                    await asyncio.sleep(IDLE_SECONDS / 4)
                    measured = Count.of(commands, time.perf_counter() - begin)
                    del commands[:]
                    await asyncio.sleep(IDLE_SECONDS)
                    report(name, measured.per_job(Count.of(commands, IDLE_SECONDS), JOBS))

                await measure("one watcher", lambda url: watched(client, url))
                async with ends(monitored) as ended:
                    await measure("no watcher", lambda url: unwatched(client, url, ended))


async def watched(client: Client, url: str) -> None:
    await (await client.ingest_video(url))


async def unwatched(client: Client, url: str, ended: asyncio.Queue[str]) -> None:
    job = await client.ingest_video(url)
    while await ended.get() != job.id:
        pass


@asynccontextmanager
async def monitoring(client: redis.asyncio.Redis) -> AsyncIterator[list[dict[str, Any]]]:
    """Yields the commands of all clients, as they come."""
    commands: list[dict[str, Any]] = []
    async with client.monitor() as monitor:

        async def read() -> None:
            while True:
                commands.append(await monitor.next_command())

        task = asyncio.create_task(read())
        try:
            yield commands
        finally:
            task.cancel()


@asynccontextmanager
async def ends(client: redis.asyncio.Redis) -> AsyncIterator[asyncio.Queue[str]]:
    """Yields the ids of the jobs that have succeeded, as Redis publishes them."""
    found: asyncio.Queue[str] = asyncio.Queue()
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("ingot:jobs")

        async def read() -> None:
            async for message in pubsub.listen():
                if message["type"] == "message":
                    change = read_message(message["data"])
                    if change.job and change.job.state == job_pb2.JOB_STATE_SUCCEEDED:
                        found.put_nowait(change.job_id)

        task = asyncio.create_task(read())
        try:
            yield found
        finally:
            task.cancel()


def report(name: str, count: Count) -> None:
    sent, inside = sum(count.sent.values()), sum(count.in_scripts.values())
    celery = sum(number for key, number in count.keys.items() if ":queue:" in key)
    print(f"  {name}: {sent:.1f} commands are sent, {celery:.1f} of them for Celery's queue;")
    print(f"  {inside:.1f} more run within scripts; INFO commandstats counts {sent + inside:.1f}")
    print(f"    {'by command, or by operation of a script':50} {'sent':>6} {'within':>7}")
    both = {each: number + count.in_scripts.get(each, 0) for each, number in count.sent.items()}
    for each in _most(both):
        print(f"    {each:50} {count.sent[each]:6.1f} {count.in_scripts.get(each, 0):7.1f}")
    print(f"    {'by key':50} {'both':>6}")
    for key in _most(count.keys):
        print(f"    {key:50} {count.keys[key]:6.1f}")


def _most(numbers: dict[str, float]) -> list[str]:
    named = sorted(numbers, key=lambda name: -numbers[name])
    return [name for name in named if numbers[name] >= LEAST]


def without_names(word: str) -> str:
    """The key without the names that only one job or start has."""
    return _NAMES.sub("*", _WORKER.sub("ingot.*", word))
