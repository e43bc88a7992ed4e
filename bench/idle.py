"""`ingot-server up` with nothing to do: memory, processor time, and SeaweedFS after many puts.

No job has run, so there is no fork server: one ends when it was not used for some minutes.

The puts are like those of small jobs: a file of 90 KB and its manifest, and some are removed.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from bench.processes import MEBIBYTE, memory_bytes, processor_seconds, role, tree, wakeups
from ingot_server.library.blobs import Blobs
from tests.installation import Installation, installation

SETTLE_SECONDS = 12.0
IDLE_SECONDS = 30.0
FILE_BYTES, MANIFEST_BYTES = 90_000, 1_000
ROUNDS, PAIRS = 4, 1_000
REMOVED = 5
WRITERS = 8


async def main() -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        installation(Path(directory, "data"), lease="8s") as ingot,
    ):
        await asyncio.sleep(SETTLE_SECONDS)
        await measure_idle(ingot)
        [weed] = ingot.children("weed")
        blobs = Blobs(ingot.s3_settings())
        for round_number in range(ROUNDS):
            await put_many(blobs, round_number)
            print(
                f"  SeaweedFS after {2 * PAIRS * (round_number + 1):,} small puts: "
                f"{memory_bytes([weed]) / MEBIBYTE:.0f} MiB"
            )
        await blobs.close()
        await asyncio.sleep(SETTLE_SECONDS)
        print(f"  all processes, idle again: {_mebibytes(ingot):.0f} MiB")


async def measure_idle(ingot: Installation) -> None:
    """Print what each process takes, and all of them."""
    pids = tree(ingot.process.pid)
    before = {pid: (processor_seconds([pid]), wakeups(pid)) for pid in pids}
    await asyncio.sleep(IDLE_SECONDS)
    spent = {pid: (processor_seconds([pid]) - before[pid][0]) / IDLE_SECONDS for pid in pids}
    for pid in pids:
        memory = memory_bytes([pid]) / MEBIBYTE
        woken = (wakeups(pid) - before[pid][1]) / IDLE_SECONDS
        print(
            f"    {role(pid):20} {memory:6.1f} MiB {100 * spent[pid]:5.2f} % of a core, "
            f"{woken:.0f} wake-ups a second"
        )
    print(
        f"  {len(pids)} processes: {_mebibytes(ingot):.0f} MiB, "
        f"{100 * sum(spent.values()):.2f} % of a core"
    )


async def put_many(blobs: Blobs, round_number: int) -> None:
    content, manifest = os.urandom(FILE_BYTES), os.urandom(MANIFEST_BYTES)
    numbers = iter(range(PAIRS))

    async def write() -> None:
        for number in numbers:
            place = f"media/{round_number}-{number}"
            await blobs.put(f"{place}/a.mp4", content, content_type="video/mp4")
            await blobs.put(f"{place}/media.json", manifest, content_type="application/json")
            if number % REMOVED == 0:
                await blobs.remove_many([f"{place}/a.mp4", f"{place}/media.json"])

    await asyncio.gather(*(write() for _ in range(WRITERS)))


def _mebibytes(ingot: Installation) -> float:
    return memory_bytes(tree(ingot.process.pid)) / MEBIBYTE
