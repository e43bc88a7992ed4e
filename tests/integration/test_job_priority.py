"""The priority of a request decides which of the waiting jobs a worker process takes first."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import pytest

from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED, IngestOptions, Job, JobPriority
from ingot.v1.job_service_pb2 import WatchJobRequest
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from tests.harness import Harness
from tests.origin import Origin, Page
from tests.waiting import JOB_SECONDS

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

PRIORITIES = {
    "low": JobPriority.JOB_PRIORITY_LOW,
    "unset": JobPriority.JOB_PRIORITY_UNSPECIFIED,
    "high": JobPriority.JOB_PRIORITY_HIGH,
}
"""In the order in which the jobs are asked for."""


@asynccontextmanager
async def worker_process(settings: Settings, *arguments: str) -> AsyncIterator[None]:
    """A worker that does one job at a time."""
    one_at_a_time = settings.replace(worker_slots=1, conversions=1)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ingot_server.cli", "worker", *arguments),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **one_at_a_time.environment()},
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def started(harness: Harness, job: Job) -> datetime:
    """When a job began that has succeeded by now."""
    call = harness.jobs.WatchJob(WatchJobRequest(job_id=job.id))
    async for answer in call:
        if answer.HasField("job"):
            job = answer.job
    assert job.state == JOB_STATE_SUCCEEDED, job.error
    return job.start_time.ToDatetime()


async def order_of(harness: Harness, jobs: dict[str, Job], *arguments: str) -> list[str]:
    """The names of jobs that wait, in the order in which a worker process does them."""
    async with asyncio.timeout(JOB_SECONDS), worker_process(harness.settings, *arguments):
        times = {name: await started(harness, job) for name, job in jobs.items()}
    return sorted(times, key=lambda name: times[name])


async def test_ingests_begin_by_the_priority_of_their_requests(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    jobs = {
        name: await harness.ask(origin.serve(f"/{name}.mp4", Page(clip)), priority=priority)
        for name, priority in PRIORITIES.items()
    }

    assert await order_of(harness, jobs) == ["high", "unset", "low"]


async def test_conversions_begin_by_the_priority_of_their_requests(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    parents = {
        name: await harness.ingest(origin.serve(f"/{name}.mp4", Page(clip))) for name in PRIORITIES
    }
    jobs = {}
    for name, priority in PRIORITIES.items():
        request = ConvertRequest(
            media_id=parents[name].media.id,
            recipe=Recipe(wav=Recipe.Wav()),
            priority=priority,
        )
        jobs[name] = (await harness.api.Convert(request)).job

    assert await order_of(harness, jobs, "--convert") == ["high", "unset", "low"]


async def test_the_entries_of_a_list_begin_after_what_others_ask_for_by_itself(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    urls = [origin.serve(f"/{number}.mp4", Page(clip)) for number in range(2)]
    items = "".join(f"<item><enclosure url='{url}' type='video/mp4'/></item>" for url in urls)
    feed = f"<?xml version='1.0'?><rss version='2.0'><channel>{items}</channel></rss>"
    page = Page(feed.encode(), content_type="application/rss+xml")
    options = IngestOptions(playlist=True)
    parent = await harness.ask(origin.serve("/feed.xml", page), options=options)
    await harness.worker.run_job(parent.id)
    entries = (await harness.record(parent.id)).child_job_ids
    jobs = {f"entry {number}": await harness.record(each) for number, each in enumerate(entries)}
    jobs["by itself"] = await harness.ask(origin.serve("/clip.mp4", Page(clip)))

    assert (await order_of(harness, jobs))[0] == "by itself"
