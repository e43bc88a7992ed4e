"""How long the jobs of a killed worker wait until they run again, and what a sweep costs.

Two workers with the default lease take jobs from a long queue, and one of them is killed while it
runs some.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import cast

from bench.clips import clip
from bench.origin import origin
from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Selection
from ingot_server.config import Settings
from ingot_server.jobs.records import Records
from ingot_server.library.identity import media_id
from ingot_server.redis import Redis, connect
from ingot_server.sources import pick
from tests.installation import installation

QUEUED = 50_000
CALLERS = 4
AT_ONCE = 8
# A job takes some seconds, so a worker that is killed runs several.
CLIP_BYTES, BYTES_PER_SECOND = 300_000, 100_000
SWEEPS = 200
LEAST_LOST = 4
LOOK_SECONDS = 0.05


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        file = await clip(folder, CLIP_BYTES)
        with installation(folder / "data", workers="2", lease="8s") as ingot:
            # The workers keep the machine busy meanwhile.
            settings = Settings(redis_url=f"{ingot.redis_url}?socket_connect_timeout=30")
            async with (
                origin(file, bytes_per_second=BYTES_PER_SECOND) as address,
                connect(settings) as redis,
            ):
                records = Records(redis, settings)
                print(f"  a sweep without jobs: {await sweep_ms(records):.2f} ms")
                await fill(records, address)
                left = (await records.count_by_state())[job_pb2.JOB_STATE_QUEUED]
                print(f"  a sweep with {left} queued jobs: {await sweep_ms(records):.2f} ms")
                lost = await kill_a_worker(redis)
                begin = time.monotonic()
                await asyncio.gather(*(until_again(records, job_id) for job_id in lost))
                seconds = time.monotonic() - begin
                print(f"  the {len(lost)} jobs of a killed worker run again after {seconds:.1f} s")


async def fill(records: Records, address: str) -> None:
    async def queue(first: int) -> None:
        for number in range(first, QUEUED, AT_ONCE):
            _, identity = pick(f"{address}/{number}.mp4")
            job = Job(kind=job_pb2.JOB_KIND_INGEST, url=identity.url)
            job.media.CopyFrom(identity.media(media_id(identity.key, Selection())))
            await records.create(job, caller=f"10.0.0.{number % CALLERS}")

    await asyncio.gather(*map(queue, range(AT_ONCE)))


async def sweep_ms(records: Records) -> float:
    """Return the median time of what every worker does each second."""
    found = []
    for _ in range(SWEEPS):
        begin = time.perf_counter()
        await records.dispatch.sweep(1)
        found.append((time.perf_counter() - begin) * 1000)
    return statistics.median(found)


async def kill_a_worker(redis: Redis) -> list[str]:
    """Kill a worker that runs several jobs; return their ids."""
    while True:
        held = cast("dict[bytes, bytes]", await redis.hgetall(redis.key("held:fetch")))
        jobs: dict[str, list[str]] = {}
        for job_id, holder in held.items():
            token = await redis.hget(redis.key(f"job:{job_id.decode()}"), "token")
            if token:
                jobs.setdefault(holder.split()[0].decode(), []).append(job_id.decode())
        for worker, job_ids in jobs.items():
            if len(job_ids) >= LEAST_LOST:
                os.kill(int(worker.rpartition(":")[2]), signal.SIGKILL)
                return job_ids
        await asyncio.sleep(LOOK_SECONDS)


async def until_again(records: Records, job_id: str) -> None:
    """Wait until another worker has begun the job, or until it had ended before the kill."""
    while (job := await records.get(job_id)) is not None:
        is_again = job.state == job_pb2.JOB_STATE_RUNNING and job.attempt > 1
        if is_again or job.state == job_pb2.JOB_STATE_SUCCEEDED:
            return
        await asyncio.sleep(LOOK_SECONDS)
