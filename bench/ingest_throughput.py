"""Ingest of 512 MB from a source limited to 60 MB/s into MinIO, against `curl -o /dev/null`.

Both in turn, five times; the ratio is of each pair.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from bench.clips import clip
from bench.origin import origin
from ingot import Client
from tests.installation import installation
from tests.servers import minio

SIZE = 512 * 1000 * 1000
RATE = 60 * 1000 * 1000
RUNS = 5


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        path = await clip(folder, SIZE)
        with (
            minio(folder / "minio") as s3,
            installation(folder / "data", workers="1", **s3) as ingot,
        ):
            async with (
                origin(path, bytes_per_second=RATE) as address,
                Client(ingot.grpc_address) as client,
            ):
                ratios = []
                for run in range(RUNS):
                    curl = await fetch(f"{address}/{run}.mp4")
                    begin = time.perf_counter()
                    await (await client.ingest_video(f"{address}/{run}.mp4"))
                    ingest = time.perf_counter() - begin
                    ratios.append(ingest / curl)
                    print(f"  curl {curl:.2f} s  ingest {ingest:.2f} s  ratio {ingest / curl:.3f}")
                print(
                    f"  {path.stat().st_size:,} bytes; median ratio {statistics.median(ratios):.3f}"
                )


async def fetch(url: str) -> float:
    begin = time.perf_counter()
    process = await asyncio.create_subprocess_exec("curl", "-s", "-o", "/dev/null", url)
    await process.wait()
    return time.perf_counter() - begin
