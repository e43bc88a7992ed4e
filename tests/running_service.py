"""The API server on a port, with both kinds of worker, which take jobs as they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from ingot import Client, Job, JobState
from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.jobs.lifecycle import is_conversion
from ingot_server.jobs.placement import Work
from ingot_server.worker import Worker


@asynccontextmanager
async def running_service(settings: Settings) -> AsyncIterator[str]:
    """Yields the address that it listens on; all of it is gone afterwards."""
    async with AsyncExitStack() as stack:
        addresses = await stack.enter_async_context(running(settings.replace(http_address="")))
        worker, converter = Worker(settings), Worker(settings, [Work.CONVERT])
        for each in worker, converter:
            await each.start()
            stack.push_async_callback(each.stop)
        client = await stack.enter_async_context(Client(addresses.grpc))

        async def work() -> None:
            async with asyncio.TaskGroup() as jobs:
                async for job in client.watch_jobs(states=[JobState.JOB_STATE_QUEUED]):
                    if isinstance(job, Job) and job.state == JobState.JOB_STATE_QUEUED:
                        taker = converter if is_conversion(job) else worker
                        jobs.create_task(taker.run_job(job.id))

        working = asyncio.create_task(work())
        try:
            yield addresses.grpc
        finally:
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
