"""The lease of a job: the right to run and change it.

    async with hold(records, feed, claim) as lease:
        await lease.update(...)      # in the task that runs the job, or in tasks that it waits for

A heartbeat renews the lease when a quarter of its length has passed without a write. If Redis is
unavailable for less than its length, writes wait. When the lease is lost (it expired, a caller
cancelled the job, or the record is gone), the body is cancelled at once, and `hold` raises
LeaseLost or JobCancelled instead of CancelledError. A cancellation from outside stays a
CancelledError.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

from google.rpc.status_pb2 import Status

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job, JobWaiting
from ingot_server.errors import Failure
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lifecycle import copy_of, has_ended
from ingot_server.jobs.measurements import AttemptTimes
from ingot_server.jobs.outcomes import (
    CircularWait,
    Claim,
    JobCancelled,
    LeaseLost,
    Orphaned,
    SingleFlightTaken,
)
from ingot_server.jobs.pending_changes import PendingChanges
from ingot_server.jobs.records import Records
from ingot_server.jobs.watched_jobs import WATCHED_SECONDS

RETRY_SECONDS: Final = 0.1

_Result = TypeVar("_Result")


class Lease:
    """The right to change one job, made by `hold`.

    `job` is the job with all of the holder's changes, written or not. `run`, `wanted_key`,
    `followed`, `unstored`, `has_slot` and `bytes_limited` are those of the `Claim`. `lost` is why
    the body is cancelled, or None while the lease is held.
    """

    def __init__(self, records: Records, feed: Feed, claim: Claim, body: asyncio.Task[Any]) -> None:
        self._pending = PendingChanges(claim.job)
        self.job = self._pending.job
        self._times = AttemptTimes(claim)
        self.run = claim.run
        self.wanted_key = claim.wanted_key
        self.followed = claim.followed
        self.unstored = claim.unstored
        self.has_slot = claim.has_slot
        self.bytes_limited = claim.bytes_limited
        self.lost: LeaseLost | None = None
        self._records = records
        self._feed = feed
        self._token = claim.token
        self._body = body
        self._written_at = _now()
        # Counted from before the call that renewed the lease, so it never ends later than in Redis.
        self._length = records.settings.lease.total_seconds()
        self._ends_at = _now() + self._length
        # Held during every use of the token, so that the end of the job does not look like a loss.
        self._writing = asyncio.Lock()
        self._done = False
        self._flusher: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def update(self, change: Callable[[Job], None]) -> Job:
        """Change the job and return it.

        A change of stage and progress alone is written later: of the stage soon, and no stage is
        left out; of progress as often as `WatchedJobs.progress_seconds` says. Any other change is
        written, together with all before it, before this returns. After the job has ended nothing
        is written. Raises LeaseLost.
        """
        self.note(change)
        if not self._pending.can_wait():
            await self._write()
        return self.job

    def note(self, change: Callable[[Job], None]) -> None:
        """Change the job without waiting; the change is written later, as `update` says."""
        self._apply(change)
        if self._flusher is None or self._flusher.done():
            self._flusher = self._spawn(self._flush())

    async def adopt(self, change: Callable[[Job], None]) -> str:
        """Change the identity of the job's media item, and move its single flight there.

        Returns an empty string, or the id of the job that already makes that media item; then
        nothing has changed. Raises LeaseLost.
        """
        async with self._writing:
            job = copy_of(self.job)
            change(job)
            passed = list(self._pending.passed)
            try:
                written = await self._retry(
                    partial(
                        self._records.change_identity,
                        job,
                        self._token,
                        seen=self._pending.written,
                        passed=passed,
                    )
                )
            except SingleFlightTaken as taken:
                return taken.job_id
            change(self.job)
            self.unstored = False  # The other media item may be.
            self._pending.take_over(written, passed)
        return ""

    async def take_wanted_key(self) -> str:
        """Take the single-flight key that another job held when this one was made again.

        Returns an empty string, or the id of the job that holds it. Raises LeaseLost.
        """
        if not self.wanted_key:
            return ""
        async with self._writing:
            passed = list(self._pending.passed)
            take = partial(
                self._records.change_identity,
                self.job,
                self._token,
                seen=self._pending.written,
                passed=passed,
                single_flight_key=self.wanted_key,
            )
            try:
                written = await self._retry(take)
            except SingleFlightTaken as taken:
                return taken.job_id
            self.wanted_key = ""
            self._pending.take_over(written, passed)
        return ""

    async def add_child(
        self, child: Job, *, entry: str, order: int, single_flight_key: str = ""
    ) -> Job:
        """Add a child for one entry of the job and return it, see `Children.add`.

        Raises CircularEntry, LeaseLost.
        """
        add = partial(
            self._records.children.add,
            child,
            parent_id=self.job.id,
            token=self._token,
            entry=entry,
            order=order,
            single_flight_key=single_flight_key,
        )
        try:
            return await self._retry(add, renews=False)
        except Orphaned as orphaned:
            raise await self._explain(self._expired()) from orphaned

    async def detach_children(self) -> None:
        """Remove the job's children, see `Children.detach_children`. Raises LeaseLost."""
        detach = partial(self._records.children.detach_children, self.job.id, self._token)
        try:
            await self._retry(detach, renews=False)
        except Orphaned as orphaned:
            raise await self._explain(self._expired()) from orphaned

    async def wait_for_children(self, child_ids: Sequence[str]) -> None:
        """Leave the job to its children; nothing is written afterwards. Raises LeaseLost."""
        await self._write_stages()
        async with self._writing:
            self._done = True
            wait = partial(self._records.children.leave_parent, self.job, self._token, child_ids)
            if await self._retry(wait) is None:
                raise await self._explain(self._expired())

    async def release(
        self,
        *,
        waiting: JobWaiting | None = None,
        error: Status | None = None,
        deferred: bool = False,
    ) -> Job:
        """Release the job, see `Records.release`; nothing is written afterwards.

        After a CircularWait the lease is still held.
        """
        await self._write_stages()
        async with self._writing:
            self._done = True
            release = partial(
                self._records.release,
                self.job.id,
                self._token,
                waiting=waiting,
                error=error,
                deferred=deferred,
            )
            try:
                return await self._retry(release)
            except CircularWait:
                self._done = False
                raise

    async def prove(self, change: Callable[[Job], None] = lambda _: None) -> None:
        """Renew the lease now, in the write of a `change` if there is one.

        If Redis has lost writes, this waits until it is known that none of them was the loss.
        Raises LeaseLost if the lease is lost.
        """
        self._apply(change)
        await self._write(proves=True)

    def time_left(self) -> timedelta:
        """Return how long the lease lasts from now on, at least a second, in whole seconds.

        Raises LeaseLost if it ends sooner.
        """
        left = int(self._ends_at - _now())
        if left < 1:
            raise self._expired()
        return timedelta(seconds=left)

    def start(self) -> None:
        """Start the heartbeat, and watch for the loss of the lease."""
        self._spawn(self._send_heartbeats())
        self._spawn(self._watch())

    def stop(self) -> None:
        """Stop the heartbeat: nothing is written any more, and the body is not cancelled."""
        self._times.end()
        self._done = True
        for task in self._tasks:
            task.cancel()

    async def wait_stopped(self) -> None:
        """Wait until the tasks that `stop` cancels have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _apply(self, change: Callable[[Job], None]) -> None:
        self._pending.apply(change)
        self._times.follow(self.job)

    async def _flush(self) -> None:
        try:
            pause = self._written_at + WATCHED_SECONDS - _now()
            # Progress that is noted during a slow write waits like any other.
            while not self._done and self._pending:
                await asyncio.sleep(pause)
                pause = WATCHED_SECONDS
                if self._is_write_due():
                    await self._write()
        except LeaseLost as lost:
            self._lose(lost)

    def _is_write_due(self) -> bool:
        seconds = self._feed.watched.progress_seconds(self.job)
        return self._pending.have_stages() or _now() >= self._written_at + seconds

    async def _write_stages(self) -> None:
        if self._pending.have_stages():
            await self._write()

    async def _write(self, *, proves: bool = False) -> None:
        async with self._writing:
            if self.lost is not None:
                # Before Python 3.12 the cancellation of the body may be lost, see Worker.stop.
                raise self.lost
            if not self._done and self._pending:
                await self._write_pending(proves=proves)
            elif not self._done and proves:
                await self._retry(
                    partial(self._records.renew, self.job.id, self._token, proves=True)
                )

    async def _write_pending(self, *, proves: bool) -> None:
        job, passed = copy_of(self.job), list(self._pending.passed)
        self._written_at = _now()
        write = partial(
            self._records.write,
            job,
            self._token,
            seen=self._pending.written,
            passed=passed,
            proves=proves,
        )
        written = await self._retry(write)
        self._done = has_ended(written)
        if self.job == job:
            self.job.CopyFrom(written)
        # Else more was noted during the write.
        self._pending.take_over(written, passed)

    async def _renew(self) -> None:
        async with self._writing:
            if not self._done:
                await self._retry(partial(self._records.renew, self.job.id, self._token))

    async def _retry(
        self, call: Callable[[], Awaitable[_Result]], *, renews: bool = True
    ) -> _Result:
        """Make a call, and repeat it while Redis is unavailable and the lease lasts.

        `renews` says whether the call renews the lease.
        """
        while True:
            started = _now()
            try:
                async with asyncio.timeout_at(self._ends_at):
                    result = await call()
            except LeaseLost as lost:
                raise await self._explain(lost) from lost
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
                    self._ends_at = started + self._length
                return result

    async def _explain(self, lost: LeaseLost) -> LeaseLost:
        """Return JobCancelled if a caller cancelled the job, else `lost`."""
        with contextlib.suppress(Failure):
            job = await self._records.get(self.job.id)
            if job is not None and job.state == job_pb2.JOB_STATE_CANCELLED:
                return self._cancelled()
        return lost

    def _expired(self) -> LeaseLost:
        return LeaseLost(f"job {self.job.id}: the lease is lost")

    def _cancelled(self) -> JobCancelled:
        return JobCancelled(f"job {self.job.id}: a caller cancelled it")

    def _lose(self, lost: LeaseLost) -> None:
        if self.lost is None and not self._done:
            self.lost = lost
            self._done = True
            self._body.cancel()

    async def _send_heartbeats(self) -> None:
        while not self._done:
            due_at = self._ends_at - self._length * 3 / 4
            if _now() < due_at:
                # Every write renews the lease, too.
                await asyncio.sleep(due_at - _now())
            else:
                await self._renew_or_lose()

    async def _renew_or_lose(self) -> None:
        try:
            await self._renew()
        except LeaseLost as lost:
            self._lose(lost)

    async def _watch(self) -> None:
        """Watch the job, to notice the loss of the lease before the next heartbeat does."""
        while not self._done:
            try:
                async with contextlib.aclosing(self._feed.watch(self.job.id)) as changes:
                    async for job in changes:
                        await self._check(job)
                        if self._done:
                            return
            except Failure as failure:
                if failure.reason == reason_pb2.REASON_SHUTTING_DOWN:
                    return
                if failure.reason == reason_pb2.REASON_JOB_NOT_FOUND:
                    await self._renew_or_lose()
            await asyncio.sleep(RETRY_SECONDS)

    async def _check(self, job: Job) -> None:
        is_ours = job.state == job_pb2.JOB_STATE_RUNNING and job.attempt == self.job.attempt
        if job.state == job_pb2.JOB_STATE_CANCELLED:
            self._lose(self._cancelled())
        elif not is_ours:
            await self._renew_or_lose()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


@contextlib.asynccontextmanager
async def hold(records: Records, feed: Feed, claim: Claim) -> AsyncIterator[Lease]:
    """Hold the lease of a claimed job while the body runs in the calling task.

    If the lease is lost, raises LeaseLost or JobCancelled instead of whatever the body raises, but
    not instead of a cancellation from outside.
    """
    body = asyncio.current_task()
    assert body is not None
    cancelling = body.cancelling()
    lease = Lease(records, feed, claim, body)
    lease.start()
    try:
        try:
            yield lease
        finally:
            lease.stop()
    except (asyncio.CancelledError, Exception) as error:
        # Like asyncio.timeout: only our own cancellation may be replaced by another exception.
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
        await lease.wait_stopped()


def _now() -> float:
    return asyncio.get_running_loop().time()
