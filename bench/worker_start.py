"""From the start of a worker, while a job waits, until the worker has claimed that job."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.clips import clip
from bench.origin import origin
from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Selection
from ingot_server.config import Settings
from ingot_server.jobs.records import Records
from ingot_server.library.blobs import Blobs
from ingot_server.library.identity import media_id
from ingot_server.redis import connect
from ingot_server.setting_values import Secret
from ingot_server.sources import pick
from tests.servers import stores

RUNS = 5
LOOK_SECONDS = 0.01


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory, stores("valkey-seaweedfs") as servers:
        folder = Path(directory)
        file = await clip(folder, 100_000)
        settings = Settings(
            redis_url=servers.redis_url,
            s3_endpoint=servers.s3_endpoint,
            s3_access_key=servers.s3_access_key,
            s3_secret_key=Secret(servers.s3_secret_key),
            data_dir=folder,
            scratch_dir=folder / "scratch",
            egress_allow_loopback=True,
        )
        blobs = Blobs(settings)
        await blobs.prepare()
        await blobs.close()
        async with origin(file) as address, connect(settings) as redis:
            records = Records(redis, settings)
            seconds = [
                await start(settings, records, f"{address}/{run}.mp4") for run in range(RUNS)
            ]
        print(f"  median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s")


async def start(settings: Settings, records: Records, url: str) -> float:
    """Queue a job, start a worker, and return the seconds until it has claimed the job."""
    _, identity = pick(url)
    job = Job(kind=job_pb2.JOB_KIND_INGEST, url=identity.url)
    job.media.CopyFrom(identity.media(media_id(identity.key, Selection())))
    created = await records.create(job)
    begin = time.perf_counter()
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ingot_server.cli", "worker"),
        env={**os.environ, **settings.environment()},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        while True:
            found = await records.get(created.job.id)
            if found is not None and found.state != job_pb2.JOB_STATE_QUEUED:
                return time.perf_counter() - begin
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        worker.terminate()
        await worker.wait()
