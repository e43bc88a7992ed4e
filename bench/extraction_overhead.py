"""50 small jobs of yt-dlp one after another, against the time spent in extraction itself.

Extraction itself is resolving and fetching in a process that has its imports done, with nothing
else running; an ingest is from the call to SUCCEEDED. The media are HLS of two segments on a site
that takes 200 ms to begin each answer. Jobs follow each other at once, so the process that waits
for the next job is made while the one before runs. The ratio is that of the means.

The processor time of an extraction is that of its process, from the fork to its end, against that
of yt-dlp itself in a process that is not a new one (plain_extraction.py).
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from bench.clips import segments
from bench.processes import processor_seconds, role, tree
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


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        files = await segments(folder, 2, 50_000)
        async with site(files, delay_seconds=DELAY) as address:
            alone, processor = await extract(f"{address}/list.m3u8", folder)
            plain = await plain_processor_seconds(f"{address}/list.m3u8", folder)
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
    print(
        f"  processor time of an extraction {processor * 1000:.0f} ms, of yt-dlp itself "
        f"{plain * 1000:.0f} ms: {(processor - plain) * 1000:.0f} ms more"
    )


async def plain_processor_seconds(url: str, folder: Path) -> float:
    """Processor time of yt-dlp itself, the mean of ALONE runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.plain_extraction", url, str(folder), str(ALONE)),
        stdout=asyncio.subprocess.PIPE,
    )
    found, _ = await process.communicate()
    return float(found)


async def extract(url: str, folder: Path) -> tuple[float, float]:
    """Seconds and processor time that an extraction takes by itself, the mean of ALONE runs."""
    settings = Settings(egress_allow_loopback=True)
    extractor, proxy = ExtractorPool(settings), EgressProxy(settings)
    await proxy.start()
    await extractor.start()
    await extractor.check()
    spent, before = 0.0, _children_seconds()
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
            begin = time.perf_counter()
            await session.resolve()
            await session.fetch(files, lambda _done, _total: None)
            spent += time.perf_counter() - begin
    # It has ended when the process that it was forked from has noticed.
    await extractor.check()
    processor = _children_seconds() - before
    await extractor.close()
    await proxy.close()
    return spent / ALONE, processor / ALONE


def _children_seconds() -> float:
    """Of the process to fork from, and of what was forked from it."""
    return processor_seconds(pid for pid in tree(os.getpid()) if role(pid) == "extractions")
