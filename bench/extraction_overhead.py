"""50 small jobs of yt-dlp one after another, against the time spent in extraction itself.

Extraction itself is resolving and fetching in a process that has its imports done, with nothing
else running; an ingest is from the call to SUCCEEDED. The media are HLS of two segments on a site
that takes 200 ms to begin each answer. Jobs follow each other at once, so the process that waits
for the next job is made while the one before runs. The ratio is that of the means.

The processor time of an extraction is that of its process, from the fork to its end, with the
ffmpeg that it starts, against that of yt-dlp itself in a process that is not a new one
(plain_extraction.py). Besides, it prints that of a child that is forked and tells its version, and
that of the worker, which has the guard and the session.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

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
            alone = await extract(f"{address}/list.m3u8", folder)
            plain, ffmpeg = await plain_processor_seconds(f"{address}/list.m3u8", folder)
            with installation(folder / "data", workers="1") as ingot:
                async with Client(ingot.grpc_address) as client:
                    begin = time.perf_counter()
                    for run in range(RUNS):
                        await (await client.ingest_video(f"{address}/list.m3u8?run={run}"))
                    whole = (time.perf_counter() - begin) / RUNS
    print(
        f"  {RUNS} jobs; extraction {alone.wall:.3f} s, ingest {whole:.3f} s each, "
        f"ratio {whole / alone.wall:.3f}"
    )
    more = alone.processor - plain - ffmpeg
    print(
        f"  processor time of an extraction {alone.processor * 1000:.0f} ms, of yt-dlp itself "
        f"{plain * 1000:.0f} ms and {ffmpeg * 1000:.0f} ms of ffmpeg: {more * 1000:.0f} ms more; "
        f"a child that does nothing takes {alone.fork * 1000:.0f} ms, the worker "
        f"{alone.worker * 1000:.0f} ms"
    )


class Extraction(NamedTuple):
    """What an extraction takes by itself, in seconds: the mean of ALONE runs."""

    wall: float
    """For resolving and fetching."""
    processor: float
    """Of its process, and of what that starts."""
    fork: float
    """Processor time of a child that does nothing."""
    worker: float
    """Processor time of the process with the guard and the session."""


async def plain_processor_seconds(url: str, folder: Path) -> tuple[float, float]:
    """Processor time of yt-dlp itself and of its ffmpeg, the mean of ALONE runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.plain_extraction", url, str(folder), str(ALONE)),
        stdout=asyncio.subprocess.PIPE,
    )
    found, _ = await process.communicate()
    plain, ffmpeg = map(float, found.split())
    return plain, ffmpeg


async def extract(url: str, folder: Path) -> Extraction:
    """Measure extractions with nothing else running."""
    settings = Settings(egress_allow_loopback=True)
    extractor, proxy = ExtractorPool(settings), EgressProxy(settings)
    await proxy.start()
    await extractor.start()
    await extractor.check()
    before = _children_seconds()
    for _ in range(ALONE):
        await extractor.check()
    fork = (_children_seconds() - before) / ALONE
    spent, before, worker = 0.0, _children_seconds(), time.process_time()
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
    worker = (time.process_time() - worker) / ALONE
    # It has ended when the process that it was forked from has noticed.
    await extractor.check()
    processor = (_children_seconds() - before) / ALONE
    await extractor.close()
    await proxy.close()
    return Extraction(spent / ALONE, processor, fork, worker)


def _children_seconds() -> float:
    """Of the process to fork from, and of what was forked from it."""
    return processor_seconds(pid for pid in tree(os.getpid()) if role(pid) == "extractions")
