"""Holding a job while it is worked on.

    async with hold(records, feed, job, token) as lease:
        await lease.update(...)      # in the task that does the job, or in tasks it waits for

The lease is renewed four times in its length. Redis may be away for less than that: what is to be
written waits. Once the lease is lost, by silence, by a cancel or because the record is gone, the
body is cancelled at once and `hold` raises LeaseLost, or JobCancelled, in the place of
CancelledError. A cancellation from outside stays one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from google.rpc.status_pb2 import Status

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.errors import Failure
from ingot_server.jobs.children import Orphaned
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lifecycle import copy_of, has_ended, is_workflow
from ingot_server.jobs.records import LeaseLost, Records
from ingot_server.jobs.transition import SlotTaken

PROGRESS_SECONDS: Final = 0.2
RETRY_SECONDS: Final = 0.1

_Answer = TypeVar("_Answer")


class JobCancelled(LeaseLost):
    """The lease is lost because a caller cancelled the job."""


class Lease:
    """The right to change one job. Made by `hold`.

    `job` is what the holder has made of it, written or not; `lost` is why the body is being
    cancelled, None while all is well.
    """

    def __init__(self, records: Records, job: Job, token: str, body: asyncio.Task[Any]) -> None:
        self.job = copy_of(job)
        self.lost: LeaseLost | None = None
        self._records = records
        self._token = token
        self._body = body
        self._written = copy_of(job)
        self._written_at = 0.0
        # Counted from before the call that renewed it: it never ends later here than in Redis.
        self._length = records.settings.lease.total_seconds()
        self._ends_at = _now() + self._length
        # Held during every use of the token, so that the end of the job is no loss of the lease.
        self._writing = asyncio.Lock()
        self._done = False
        self._flusher: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def update(self, mutate: Callable[[Job], None]) -> Job:
        """Changes the job; answers with it.

        A change of progress alone is written soon, five times a second at most; any other is
        written, with the progress made so far, before this returns. A new stage begins without
        progress. After the job has ended nothing is written any more. Raises LeaseLost.
        """
        self.note(mutate)
        if not _is_progress(self._written, self.job):
            await self._write()
        return self.job

    def note(self, mutate: Callable[[Job], None]) -> None:
        """Like `update`, for code that cannot wait: the change is written soon."""
        before = copy_of(self.job)
        mutate(self.job)
        entered = self.job.stage != before.stage and self.job.progress == before.progress
        if entered and not is_workflow(self.job):
            self.job.ClearField("progress")
        if self._flusher is None or self._flusher.done():
            self._flusher = self._spawn(self._flush())

    async def adopt(self, mutate: Callable[[Job], None]) -> str:
        """Moves the job to the media that `mutate` gives it, and with it the right to make it.

        Answers with the id of the job that makes that media already, and then changes nothing;
        empty when the job has moved. Raises LeaseLost.
        """
        async with self._writing:
            job = copy_of(self.job)
            mutate(job)
            try:
                written = await self._persistently(lambda: self._records.adopt(job, self._token))
            except SlotTaken as taken:
                return taken.job_id
            mutate(self.job)
            self.job.revision = written.revision
            self._written = written
        return ""

    async def add_child(self, child: Job, *, entry: str, order: int, slot: str = "") -> Job | None:
        """A child of the job for one of its entries, see `Children.add`. Raises LeaseLost."""
        add = partial(
            self._records.children.add,
            child,
            parent_id=self.job.id,
            token=self._token,
            entry=entry,
            order=order,
            slot=slot,
        )
        try:
            return await self._persistently(add, renews=False)
        except Orphaned as orphaned:
            raise await self._explained(LeaseLost(str(orphaned))) from orphaned

    async def detach_children(self) -> None:
        """Forgets the job's children, see `Children.detach_children`. Raises LeaseLost."""
        try:
            detach_children = partial(
                self._records.children.detach_children, self.job.id, self._token
            )
            await self._persistently(detach_children, renews=False)
        except Orphaned as orphaned:
            raise await self._explained(LeaseLost(str(orphaned))) from orphaned

    async def wait(self, child_ids: Sequence[str]) -> None:
        """Leaves the job to its children: nothing is written afterwards. Raises LeaseLost."""
        async with self._writing:
            self._done = True
            wait = partial(self._records.children.wait, self.job, self._token, child_ids)
            if await self._persistently(wait) is None:
                raise await self._explained(LeaseLost(f"job {self.job.id}: the lease is lost"))

    async def release(
        self, *, retry_time: datetime | None, error: Status | None, deferred: bool = False
    ) -> Job:
        """Gives the job back, see `Records.release`; nothing is written afterwards."""
        async with self._writing:
            self._done = True
            release = partial(
                self._records.release,
                self.job.id,
                self._token,
                retry_time=retry_time,
                error=error,
                deferred=deferred,
            )
            return await self._persistently(release)

    def begin(self, feed: Feed) -> None:
        """Begins to look after the lease."""
        self._spawn(self._keep())
        self._spawn(self._follow(feed))

    def stop(self) -> None:
        """From here on nothing is written and the body is not cancelled."""
        self._done = True
        for task in self._tasks:
            task.cancel()

    async def stopped(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _flush(self) -> None:
        try:
            # What is noted during a write that takes long waits its time, too.
            while not self._done and self.job != self._written:
                await asyncio.sleep(self._written_at + PROGRESS_SECONDS - _now())
                await self._write()
        except LeaseLost as lost:
            self._lose(lost)

    async def _write(self) -> None:
        async with self._writing:
            if self.lost is not None:
                # Before Python 3.12 the body's cancellation may be lost, see Worker.stop.
                raise self.lost
            if not self._done and self.job != self._written:
                job = copy_of(self.job)
                self._written_at = _now()
                written = await self._persistently(partial(self._records.write, job, self._token))
                self._done = has_ended(written)
                if self.job == job:
                    self.job.CopyFrom(written)
                else:
                    # More was noted meanwhile.
                    self.job.revision = written.revision
                self._written = written

    async def _renew(self) -> None:
        async with self._writing:
            if not self._done:
                await self._persistently(lambda: self._records.renew(self.job.id, self._token))

    async def _persistently(
        self, call: Callable[[], Awaitable[_Answer]], *, renews: bool = True
    ) -> _Answer:
        """Makes a call that `renews` the lease, again while Redis is away and the lease lasts."""
        while True:
            began = _now()
            try:
                async with asyncio.timeout_at(self._ends_at):
                    answer = await call()
            except LeaseLost as lost:
                raise await self._explained(lost) from lost
            except (Failure, TimeoutError) as error:
                if (
                    isinstance(error, Failure)
                    and error.reason != reason_pb2.REASON_CACHE_UNAVAILABLE
                ):
                    raise
                if _now() + RETRY_SECONDS >= self._ends_at:
                    raise LeaseLost(f"job {self.job.id}: the lease was not renewed") from error
                await asyncio.sleep(RETRY_SECONDS)
            else:
                if renews:
                    self._ends_at = began + self._length
                return answer

    async def _explained(self, lost: LeaseLost) -> LeaseLost:
        with contextlib.suppress(Failure):
            job = await self._records.get(self.job.id)
            if job is not None and job.state == job_pb2.JOB_STATE_CANCELLED:
                return self._cancelled()
        return lost

    def _cancelled(self) -> JobCancelled:
        return JobCancelled(f"job {self.job.id}: a caller cancelled it")

    def _lose(self, lost: LeaseLost) -> None:
        if self.lost is None and not self._done:
            self.lost = lost
            self._done = True
            self._body.cancel()

    async def _keep(self) -> None:
        while not self._done:
            await asyncio.sleep(self._length / 4)
            await self._renew_or_lose()

    async def _renew_or_lose(self) -> None:
        try:
            await self._renew()
        except LeaseLost as lost:
            self._lose(lost)

    async def _follow(self, feed: Feed) -> None:
        """Learns from the feed, sooner than by the next renewal, that the lease is lost."""
        while not self._done:
            try:
                async with contextlib.aclosing(feed.watch(self.job.id)) as changes:
                    async for job in changes:
                        if job.state == job_pb2.JOB_STATE_CANCELLED:
                            self._lose(self._cancelled())
                        elif (job.state, job.attempt) != (
                            job_pb2.JOB_STATE_RUNNING,
                            self.job.attempt,
                        ):
                            await self._renew_or_lose()
                        if self._done:
                            return
            except Failure as failure:
                if failure.reason == reason_pb2.REASON_SHUTTING_DOWN:
                    return
                if failure.reason == reason_pb2.REASON_JOB_NOT_FOUND:
                    await self._renew_or_lose()
            await asyncio.sleep(RETRY_SECONDS)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


@contextlib.asynccontextmanager
async def hold(records: Records, feed: Feed, job: Job, token: str) -> AsyncIterator[Lease]:
    """Keeps the lease of a claimed job while the body runs, in the task that runs it.

    Raises LeaseLost or JobCancelled in place of whatever the body ends with once the lease is lost,
    but not in place of a cancellation from outside.
    """
    body = asyncio.current_task()
    assert body is not None
    cancelling = body.cancelling()
    lease = Lease(records, job, token, body)
    lease.begin(feed)
    try:
        try:
            yield lease
        finally:
            lease.stop()
    except (asyncio.CancelledError, Exception) as error:
        # As asyncio.timeout does: only a cancellation of our own may be turned into something else.
        if lease.lost is not None and (
            body.uncancel() <= cancelling or not isinstance(error, asyncio.CancelledError)
        ):
            raise lease.lost from error
        raise
    else:
        if lease.lost is not None:
            body.uncancel()
            raise lease.lost
    finally:
        await lease.stopped()


def _is_progress(job: Job, other: Job) -> bool:
    """Whether two versions of a job differ in nothing but their progress."""
    job, other = copy_of(job), copy_of(other)
    for each in job, other:
        each.ClearField("progress")
        each.ClearField("revision")
    return job == other


def _now() -> float:
    return asyncio.get_running_loop().time()
