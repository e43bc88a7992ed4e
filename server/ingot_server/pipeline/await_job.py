"""Waiting for another job's result: that job makes the same media item, or a part of the work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job, JobWaiting
from ingot.v1.media_pb2 import Media
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.errors import Failure
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.jobs.records import Records

_RETRY_SECONDS: Final = 0.05
_SOON_SECONDS: Final = 0.5


class Postponed(Exception):
    """The job that is waited for does not run here: it has to wait, or another worker runs it."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} does not run here")
        self.job = job


class JobWaiter:
    """Waits for other jobs.

    `run_job` runs a job here if no worker holds it (`Worker.run_job`), and `run_started_job` also
    waits for a job that runs here already (`Worker.run_started_job`).
    """

    def __init__(
        self,
        records: Records,
        feed: Feed,
        run_job: Callable[[str], Coroutine[Any, Any, None]],
        run_started_job: Callable[[str], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._records = records
        self._feed = feed
        self.run_job = run_job
        self._run_started_job = run_started_job or run_job

    async def result(
        self,
        job_id: str,
        seen: Callable[[Job], None] = lambda _: None,
        *,
        is_new: bool = False,
    ) -> Media | None:
        """Return the media item that a job makes; None if it was cancelled or has no record.

        A queued job runs in the caller's slot, because that may be the last free one. If it cannot
        run here soon, raises Postponed: who waits must not hold a slot. `seen` is called with the
        changes of the job until then. Raises the Failure that the job failed with.

        `is_new`: the caller has just made the job. It may have been dispatched to this worker
        before the caller could run it, and then the caller waits for it here.
        """
        run = self._run_started_job if is_new else self.run_job
        running = asyncio.create_task(self._run_in_own_slot(job_id, run, is_new=is_new))
        showing = asyncio.create_task(self._show(job_id, seen))
        try:
            await asyncio.wait([running])
            job = running.result()
        finally:
            await cancel_and_wait(running, showing)
        if job is None:
            return None
        seen(job)
        if not has_ended(job):
            raise Postponed(job)
        if job.state == job_pb2.JOB_STATE_FAILED:
            raise Failure.from_status(job.error)
        return job.media if job.state == job_pb2.JOB_STATE_SUCCEEDED else None

    async def _run_in_own_slot(
        self, job_id: str, run: Callable[[str], Coroutine[Any, Any, None]], *, is_new: bool
    ) -> Job | None:
        """Run a job until it has ended, or waits, or runs elsewhere; return it as it is then."""
        while True:
            try:
                if is_new:
                    is_new = False
                    await run(job_id)
                job = await self._records.get(job_id)
                if job is None or job.state != job_pb2.JOB_STATE_QUEUED or not _is_due_soon(job):
                    return job
                await asyncio.sleep(_seconds_until_due(job))
                await run(job_id)
            except Failure as failure:
                # If that lasts, the caller loses its own lease.
                if failure.reason != reason_pb2.REASON_CACHE_UNAVAILABLE:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)

    async def _show(self, job_id: str, seen: Callable[[Job], None]) -> None:
        # Without the feed the job goes on; only its changes are not shown.
        with contextlib.suppress(Failure):
            async with aclosing(self._feed.watch(job_id)) as changes:
                async for job in changes:
                    seen(job)


def _is_due_soon(job: Job) -> bool:
    is_follower = job.waiting.cause == JobWaiting.CAUSE_SAME_MEDIA
    return not is_follower and _seconds_until_due(job) <= _SOON_SECONDS


def _seconds_until_due(job: Job) -> float:
    """Return the seconds until a queued job may be claimed."""
    if not job.waiting.HasField("end_time"):
        return _RETRY_SECONDS
    left = job.waiting.end_time.ToDatetime(UTC) - datetime.now(UTC)
    return max(left.total_seconds(), _RETRY_SECONDS)
