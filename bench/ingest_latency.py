"""From Ingest to SUCCEEDED for a clip of 100 KB on an idle system, 50 times."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from bench.clips import clip
from bench.origin import origin
from ingot import Client
from tests.installation import installation

RUNS = 50


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        path = await clip(folder, 100_000)
        with installation(folder / "data") as ingot:
            async with origin(path) as address, Client(ingot.grpc_address) as client:
                seconds = []
                for run in range(RUNS):
                    begin = time.perf_counter()
                    await (await client.ingest_video(f"{address}/{run}.mp4"))
                    seconds.append(time.perf_counter() - begin)
                seconds.sort()
                print(
                    f"  {path.stat().st_size:,} bytes; "
                    f"median {statistics.median(seconds) * 1000:.0f} ms, "
                    f"90 % within {seconds[RUNS * 9 // 10] * 1000:.0f} ms"
                )
