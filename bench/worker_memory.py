"""Memory of a worker with its children: idle, while it ingests 2 GB, and with 16 jobs at once.

Proportional set size (PSS) of the whole process tree, sampled ten times a second: memory that
processes share counts once (proc_pid_smaps(5)).
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable
from pathlib import Path

from bench.clips import clip
from bench.origin import origin
from bench.processes import MEBIBYTE, memory_bytes, tree
from ingot import Client
from tests.installation import installation

LARGE = 2_000_000_000
SMALL = 64_000_000
JOBS = 16
RATE = 200_000_000
SAMPLE_SECONDS = 0.1


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        large, small = await clip(folder, LARGE), await clip(folder, SMALL)
        many_at_once = {"jobs_per_host": str(JOBS), "connections_per_host": str(JOBS)}
        with installation(folder / "data", workers="1", **many_at_once) as ingot:
            async with (
                origin(large, bytes_per_second=RATE) as large_address,
                origin(small, bytes_per_second=RATE / JOBS) as small_address,
                Client(ingot.grpc_address) as client,
            ):
                [worker] = ingot.children("worker")

                async def ingest(url: str) -> None:
                    await (await client.ingest_video(url))

                # The first job loads what every later one needs.
                await ingest(f"{small_address}/first.mp4")
                idle = await peak(worker, asyncio.sleep(3))
                one = await peak(worker, ingest(f"{large_address}/large.mp4"))
                many = await peak(
                    worker,
                    asyncio.gather(
                        *(ingest(f"{small_address}/{number}.mp4") for number in range(JOBS))
                    ),
                )
                print(f"  idle {idle} MiB")
                print(f"  ingesting 2 GB: {one - idle} MiB above idle")
                print(f"  {JOBS} jobs at once: {many - idle} MiB above idle, {many} MiB in all")


async def peak(pid: int, work: Awaitable[object]) -> int:
    """The most memory in MiB that the tree below `pid` has while `work` goes on."""
    task = asyncio.ensure_future(work)
    most = 0
    while not task.done():
        most = max(most, memory_bytes(tree(pid)))
        await asyncio.wait([task], timeout=SAMPLE_SECONDS)
    await task
    return most // MEBIBYTE
