"""Ingest of 1 GB from a fast source into MinIO, against a put of the same file with its own client.

Both in turn; the ratio is of each pair. Processor time is that of all processes of Ingot, without
Redis, S3 and the source. For each run it prints the processor time of all others, too: what a put
and an ingest need of two processors in all limits their ratio. At the end, what the steps cost in
plain Python on the same machine.

A virtual machine may get memory from its host only when it is touched. Then writing 1 GB, to
scratch and in S3, takes up to 2 s of processor time each instead of 0.25: compare the runs that
take least.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from minio import Minio

from bench.byte_costs import byte_costs
from bench.clips import clip
from bench.origin import origin
from bench.processes import INGOT, processor_seconds_by_role
from ingot import Client
from tests.installation import installation
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
                gigabytes = path.stat().st_size / 1e9
                for run in range(RUNS):
                    before, begin = _spent(), time.perf_counter()
                    await asyncio.to_thread(sdk.fput_object, "ingot", f"put-{run}", str(path))
                    put = time.perf_counter() - begin
                    put_spent = _difference(before, _spent())
                    before, begin = _spent(), time.perf_counter()
                    await (await client.ingest_video(f"{address}/{run}.mp4"))
                    ingest = time.perf_counter() - begin
                    spent = _difference(before, _spent())
                    ratios.append(ingest / put)
                    costs.append(sum(spent.get(each, 0) for each in INGOT) / gigabytes)
                    print(
                        f"  put {put:.2f} s  ingest {ingest:.2f} s  ratio {ingest / put:.3f}  "
                        f"processor {costs[-1]:.2f} s per GB\n"
                        f"    put: {_listed(put_spent)}\n    ingest: {_listed(spent)}"
                    )
                print(
                    f"  {path.stat().st_size:,} bytes; median ratio "
                    f"{statistics.median(ratios):.3f}, processor {statistics.median(costs):.2f} s, "
                    f"at least {min(costs):.2f} s"
                )
                least = await asyncio.to_thread(byte_costs, address, path, folder, sdk)
                per_gigabyte = {step: each / gigabytes for step, each in least.items()}
                print(f"  in plain Python, per GB: {_listed(per_gigabyte)}")


def _spent() -> Mapping[str, float]:
    """The processor time of this process, which puts, and of all that it has started."""
    return processor_seconds_by_role(os.getpid())


def _difference(before: Mapping[str, float], after: Mapping[str, float]) -> Mapping[str, float]:
    return {each: seconds - before.get(each, 0) for each, seconds in after.items()}


def _listed(seconds: Mapping[str, float]) -> str:
    """All that count, the largest first, and their sum."""
    largest = sorted(seconds.items(), key=lambda each: -each[1])
    parts = [f"{name} {each:.2f}" for name, each in largest if each >= 0.01]
    return f"{', '.join(parts)}; {sum(seconds.values()):.2f} s in all"
