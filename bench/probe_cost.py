"""Probes of a small clip in forked processes, against those in processes that are started for them.

Wall time and processor time, of the process that probes and of all its children.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from bench.clips import clip
from ingot_server.config import Settings
from ingot_server.probe.prober import Prober

PROBES = 40
ROUNDS = 3


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = await clip(Path(directory), 100_000)
        for _ in range(ROUNDS):
            wall, processor = await cost(path, forks=True)
            started_wall, started_processor = await cost(path, forks=False)
            print(
                f"  a probe: {wall * 1000:.0f} ms, ratio {wall / started_wall:.2f}; "
                f"processor {processor * 1000:.0f} ms, ratio {processor / started_processor:.2f}"
            )


async def cost(path: Path, *, forks: bool) -> tuple[float, float]:
    """Return the seconds of wall time and of processor time for one probe."""
    prober = Prober(Settings())
    if forks:
        prober.start()
        await prober.probe(path)
    begin, begin_processor = time.perf_counter(), sum(os.times()[:4])
    for _ in range(PROBES):
        await prober.probe(path)
    wall = time.perf_counter() - begin
    # The time of the children counts when the process that they were forked from has ended.
    await prober.close()
    return wall / PROBES, (sum(os.times()[:4]) - begin_processor) / PROBES
