"""From CancelJob to nothing left of the job: of a live recording, and of a list of 60.

Nothing left means no file and no folder in scratch, which the last process of the job is waited for
before. The recording has some segments, the list as many downloads under way as run at once.
"""

from __future__ import annotations

import asyncio
import logging
import re
import statistics
import tempfile
import time
from pathlib import Path

from ingot import Client
from ingot.job import IngestJob
from ingot.v1.job_pb2 import IngestOptions
from tests.broadcast import broadcasting, encoded
from tests.installation import installation, names_below
from tests.origin import Page, running_origin

RUNS = 10
ENTRIES = 60
AT_ONCE = 8
LOOK_AGAIN = 0.002
OF_A_JOB = re.compile(r"[0-9a-v]{26}-\d+(\.d)?")


async def main() -> None:
    # Of answers that had not begun.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        segments, renditions = encoded(folder)
        slots = {"worker_slots": str(AT_ONCE), "jobs_per_host": str(AT_ONCE)}
        with installation(folder / "data", workers="1", stall_timeout="1m", **slots) as ingot:
            scratch = folder / "data" / "scratch"
            async with Client(ingot.grpc_address) as client:
                recordings = []
                for _ in range(RUNS):
                    async with broadcasting(segments, renditions) as broadcast:
                        recordings.append(await of_recording(client, broadcast.url, scratch))
                lists = [await of_list(client, run, scratch) for run in range(RUNS)]
    for what, seconds in (("recording", recordings), ("list", lists)):
        print(f"  {what}: median {statistics.median(seconds):.3f} s, most {max(seconds):.3f} s")


async def of_recording(client: Client, url: str, scratch: Path) -> float:
    options = IngestOptions()
    options.record_duration.FromSeconds(3600)
    job = await client.ingest_video(url, options=options)
    async for update in job:
        if update.progress.stage.bytes_done:
            break
    return await cancelled(job, scratch)


async def of_list(client: Client, run: int, scratch: Path) -> float:
    async with running_origin() as origin:
        paths = [f"/{run}-{number}.mp4" for number in range(ENTRIES)]
        urls = [origin.serve(path, Page(b"", gate=asyncio.Event(), size=1 << 20)) for path in paths]
        items = "".join(f"<item><link>{url}</link></item>" for url in urls)
        feed = f"<?xml version='1.0'?><rss version='2.0'><channel>{items}</channel></rss>"
        page = Page(feed.encode(), content_type="application/rss+xml")
        parent = await client.ingest_video(
            origin.serve("/feed.xml", page), options=IngestOptions(playlist=True)
        )
        await origin.asked_for(*paths[:AT_ONCE])
        return await cancelled(parent, scratch)


async def cancelled(job: IngestJob, scratch: Path) -> float:
    """Seconds until nothing is left of a job that is cancelled now."""
    assert any(map(OF_A_JOB.fullmatch, names_below(scratch)))
    begin = time.perf_counter()
    await job.cancel()
    while any(map(OF_A_JOB.fullmatch, names_below(scratch))):  # noqa: ASYNC110 - nothing reports it
        await asyncio.sleep(LOOK_AGAIN)
    return time.perf_counter() - begin
