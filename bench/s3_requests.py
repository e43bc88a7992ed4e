"""S3 requests of a small job, and of a file of 1 GB, counted by a proxy before the S3 server."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections import Counter
from pathlib import Path

from bench.clips import clip
from bench.origin import origin
from ingot import Client
from tests.bucket_proxy import BucketProxy
from tests.installation import Installation
from tests.servers import minio
from tests.web_server import web_server

SMALL_JOBS = 20
LARGE = 1000 * 1000 * 1000
IDLE_SECONDS = 20.0
# Until the ends of the last jobs are in the journal.
SETTLE_SECONDS = 15.0
_NAMES = re.compile(r"[0-9a-v]{26}|[a-z2-7]{52}")


class Requests:
    """The requests that a proxy has seen, by method and kind of object."""

    def __init__(self) -> None:
        self.counts = Counter[str]()

    def note(self, method: str, path: str) -> bool:
        """Count a request; False, so that it goes on."""
        key, _, query = path.partition("?")
        part = " (part)" if "partNumber" in query else " (multipart)" if "upload" in query else ""
        self.counts[f"{method} {_NAMES.sub('*', key)}{part}"] += 1
        return False


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory, minio(Path(directory) / "minio") as s3:
        requests, proxy = Requests(), BucketProxy(s3["s3_endpoint"])
        proxy.refuses = requests.note
        async with web_server(proxy.forward) as endpoint:
            settings = {**s3, "s3_endpoint": endpoint}
            await _measure(Path(directory), settings, requests)


async def _measure(folder: Path, settings: dict[str, str], requests: Requests) -> None:
    small, large = await clip(folder, 90_000), await clip(folder, LARGE)

    # In a thread, because the proxy answers in this one.
    ingot = await asyncio.to_thread(Installation, folder / "data", settings)
    try:
        async with (
            Client(ingot.grpc_address) as client,
            origin(small) as small_address,
            origin(large) as large_address,
        ):
            await (await client.ingest_video(f"{small_address}/first.mp4"))
            await asyncio.sleep(SETTLE_SECONDS)
            requests.counts.clear()
            await asyncio.sleep(IDLE_SECONDS)
            idle = requests.counts.copy()

            async def measure(name: str, address: str, jobs: int) -> None:
                requests.counts.clear()
                loop = asyncio.get_running_loop()
                begin = loop.time()
                for number in range(jobs):
                    await (await client.ingest_video(f"{address}/{number}.mp4"))
                await asyncio.sleep(SETTLE_SECONDS)
                share = (loop.time() - begin) / IDLE_SECONDS
                found = {
                    each: (count - share * idle[each]) / jobs
                    for each, count in requests.counts.items()
                }
                print(f"  {name}: {sum(found.values()):.1f} requests")
                for each in sorted(found, key=lambda each: -found[each]):
                    print(f"    {each:60} {found[each]:6.1f}")

            await measure("a small job", small_address, SMALL_JOBS)
            await measure(f"{large.stat().st_size:,} bytes", large_address, 1)
    finally:
        await asyncio.to_thread(ingot.close)
