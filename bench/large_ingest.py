"""Ingest of 1 GB from a fast source into MinIO, against a put of the same file with its own client.

Both in turn; the ratio is of each pair. Processor time is that of all processes of Ingot, without
Redis, S3 and the source.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from minio import Minio

from bench.clips import clip
from bench.origin import origin
from bench.processes import STORES, processor_seconds, role, tree
from ingot import Client
from tests.installation import Installation, installation
from tests.servers import minio

SIZE = 1000 * 1000 * 1000
RUNS = 5


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        path = await clip(folder, SIZE)
        with (
            minio(folder / "minio") as s3,
            installation(folder / "data", workers="1", **s3) as ingot,
        ):
            sdk = Minio(s3["s3_endpoint"], s3["s3_access_key"], s3["s3_secret_key"], secure=False)
            async with origin(path) as address, Client(ingot.grpc_address) as client:
                ratios, costs = [], []
                for run in range(RUNS):
                    begin = time.perf_counter()
                    await asyncio.to_thread(sdk.fput_object, "ingot", f"put-{run}", str(path))
                    put = time.perf_counter() - begin
                    before, begin = _spent(ingot), time.perf_counter()
                    await (await client.ingest_video(f"{address}/{run}.mp4"))
                    ingest = time.perf_counter() - begin
                    spent = (_spent(ingot) - before) * 1e9 / path.stat().st_size
                    ratios.append(ingest / put)
                    costs.append(spent)
                    print(
                        f"  put {put:.2f} s  ingest {ingest:.2f} s  ratio {ingest / put:.3f}  "
                        f"processor {spent:.2f} s per GB"
                    )
                print(
                    f"  {path.stat().st_size:,} bytes; median ratio "
                    f"{statistics.median(ratios):.3f}, processor {statistics.median(costs):.2f} s"
                )


def _spent(ingot: Installation) -> float:
    return processor_seconds(pid for pid in tree(ingot.process.pid) if role(pid) not in STORES)
