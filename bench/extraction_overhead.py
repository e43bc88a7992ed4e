"""50 small jobs of yt-dlp one after another, against the time spent in extraction itself.

Extraction itself is resolving and fetching in a process that has its imports done, with nothing
else running; an ingest is from the call to SUCCEEDED. The media are HLS of two segments on a site
that takes 200 ms to begin each answer. Jobs follow each other at once, so the process that waits
for the next job is made while the one before runs. The ratio is that of the means.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from bench.clips import segments
from bench.site import site
from ingot import Client
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Selection
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.extractor.pool import ExtractorPool
from tests.installation import installation

RUNS = 50
DELAY = 0.2
ALONE = 10
IMPORT_SECONDS = 4


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        files = await segments(folder, 2, 50_000)
        async with site(files, delay_seconds=DELAY) as address:
            alone = await extract(f"{address}/list.m3u8", folder)
            with installation(folder / "data", workers="1") as ingot:
                async with Client(ingot.grpc_address) as client:
                    begin = time.perf_counter()
                    for run in range(RUNS):
                        await (await client.ingest_video(f"{address}/list.m3u8?run={run}"))
                    whole = (time.perf_counter() - begin) / RUNS
    print(
        f"  {RUNS} jobs; extraction {alone:.3f} s, ingest {whole:.3f} s each, "
        f"ratio {whole / alone:.3f}"
    )


async def extract(url: str, folder: Path) -> float:
    """Seconds that an extraction takes by itself, the mean of ALONE runs."""
    settings = Settings(egress_allow_loopback=True)
    extractor, proxy = ExtractorPool(settings), EgressProxy(settings)
    await proxy.start()
    await extractor.start()
    spent = 0.0
    for run in range(ALONE):
        files = folder / f"alone-{run}"
        files.mkdir()
        async with extractor.session(
            url,
            selection=Selection(mode=Selection.MODE_BEST),
            options=IngestOptions(),
            proxy_url=proxy.grant("job").proxy_url,
            directory=files,
            manifest=True,
        ) as session:
            await asyncio.sleep(IMPORT_SECONDS)
            begin = time.perf_counter()
            await session.resolve()
            await session.fetch(files, lambda _done, _total: None)
            spent += time.perf_counter() - begin
    await extractor.close()
    await proxy.close()
    return spent / ALONE
