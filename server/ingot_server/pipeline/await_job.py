"""One job that ends as another: both make the same media, and the other began with it first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.errors import Failure
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.jobs.records import Records

_AGAIN_SECONDS: Final = 0.05


class JobWaiter:
    """`run` does a job in this process if nobody has it, as Worker.run does."""

    def __init__(
        self, records: Records, feed: Feed, run: Callable[[str], Coroutine[Any, Any, None]]
    ) -> None:
        self._records = records
        self._feed = feed
        self.run = run

    async def result(
        self, job_id: str, seen: Callable[[Job], None] = lambda _: None
    ) -> Media | None:
        """What a job makes; None when it was cancelled, or its record is gone.

        A job that waits in the queue is done here: who follows it may have the last free slot.
        `seen` gets the job whenever it has changed, also while it is done here. Raises Failure:
        what the job failed with.
        """
        lent: asyncio.Task[None] | None = None
        try:
            async with aclosing(self._feed.watch(job_id)) as changes:
                async for job in changes:
                    seen(job)
                    if job.state == job_pb2.JOB_STATE_QUEUED:
                        if lent is None or lent.done():
                            lent = asyncio.create_task(self._lend_slot(job_id))
                    elif has_ended(job):
                        if lent is not None:
                            # What it leaves behind is there, or gone, only when it is done.
                            await asyncio.wait([lent])
                        if job.state == job_pb2.JOB_STATE_FAILED:
                            raise Failure.from_status(job.error)
                        return job.media if job.state == job_pb2.JOB_STATE_SUCCEEDED else None
        except Failure as failure:
            if failure.reason != reason_pb2.REASON_JOB_NOT_FOUND:
                raise
        finally:
            if lent is not None:
                lent.cancel()
                # One that failed leaves the job to the queue.
                await asyncio.gather(lent, return_exceptions=True)
        return None

    async def _lend_slot(self, job_id: str) -> None:
        while True:
            job = await self._records.get(job_id)
            if job is None or job.state != job_pb2.JOB_STATE_QUEUED:
                return
            await asyncio.sleep(_wait(job))
            await self.run(job_id)


def _wait(job: Job) -> float:
    """Seconds until a queued job may be taken."""
    if not job.HasField("retry_time"):
        return _AGAIN_SECONDS
    left = job.retry_time.ToDatetime(UTC) - datetime.now(UTC)
    return max(left.total_seconds(), _AGAIN_SECONDS)
