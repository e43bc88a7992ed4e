"""Lists of jobs, as the page and the command line ask for them, at 1,000 and at 100,000 jobs."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from bench.generated_jobs import CANCELLED, PARTS, add_jobs
from ingot.v1 import job_pb2
from ingot.v1.job_service_pb2 import ListJobsRequest, WatchJobsRequest
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from ingot_server.config import Settings
from ingot_server.redis import connect
from tests.installation import installation

FEW = 1_000
MANY = 100_000
PAGE = 50
SNAPSHOT = 1_000
ROUNDS = 15
FAILED, RARE = [job_pb2.JOB_STATE_FAILED], [job_pb2.JOB_STATE_CANCELLED]

Lists = Mapping[str, Callable[[], Awaitable[None]]]


async def main() -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        installation(Path(directory, "data"), workers="1") as ingot,
    ):
        settings = Settings(redis_url=ingot.redis_url)
        async with (
            connect(settings) as redis,
            grpc.aio.insecure_channel(ingot.grpc_address) as channel,
        ):
            parent_id = await add_jobs(redis, FEW)
            lists = lists_of(JobServiceStub(channel), parent_id)
            few = {name: await median_seconds(read) for name, read in lists.items()}
            await add_jobs(redis, MANY, begin=FEW)
            for name, read in lists.items():
                many = await median_seconds(read)
                print(
                    f"  {name}: {few[name] * 1000:.1f} ms at {FEW:,} jobs, {many * 1000:.1f} ms at "
                    f"{MANY:,}, ratio {many / few[name]:.2f}"
                )


def lists_of(stub: Any, parent_id: str) -> Lists:
    """Return what is measured, by name."""
    list_jobs, watch_jobs = partial(page, stub), partial(snapshot, stub)
    return {
        f"a page of {PAGE}": partial(list_jobs, PAGE, page_size=PAGE),
        f"a page of {PAGE} that have failed": partial(
            list_jobs, FEW // 25 - 1, page_size=PAGE, states=FAILED
        ),
        f"all {CANCELLED} that were cancelled, the oldest": partial(
            list_jobs, CANCELLED, page_size=PAGE, states=RARE
        ),
        f"the {PARTS} parts of the oldest job": partial(
            list_jobs, PARTS, page_size=PAGE, parent_job_id=parent_id
        ),
        "the counts": partial(list_jobs, 1, page_size=1),
        f"WatchJobs up to the end of the snapshot, {SNAPSHOT:,} jobs": partial(
            watch_jobs, SNAPSHOT, snapshot_size=SNAPSHOT
        ),
        f"the same of the {CANCELLED} that were cancelled": partial(
            watch_jobs, CANCELLED, snapshot_size=SNAPSHOT, states=RARE
        ),
    }


async def page(stub: Any, least: int, **fields: Any) -> None:
    response = await stub.ListJobs(ListJobsRequest(**fields))
    assert len(response.jobs) >= least, "the page has the jobs that match"


async def snapshot(stub: Any, count: int, **fields: Any) -> None:
    watch = stub.WatchJobs(WatchJobsRequest(**fields))
    found = 0
    async for response in watch:
        if response.HasField("snapshot_end"):
            break
        found += response.HasField("job")
    watch.cancel()
    assert found == count, "the snapshot has the jobs that match"


async def median_seconds(read: Callable[[], Awaitable[None]]) -> float:
    await read()
    taken = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        await read()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)
