"""The feed of the watches of all jobs: every change in the order of its number.

    message --> AllJobsFeed --> AllJobsWatch --> Mailbox of one watcher

`position` is what every watch has received. A message with the next number is delivered at once.
After a gap in the numbers, and every few seconds, the feed reads from the history what happened
since. If Redis has lost that, every watch starts over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import SnapshotEnd
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.jobs.history import Change, resume_token_expired
from ingot_server.jobs.job_index import Among
from ingot_server.jobs.journal_index import Restore
from ingot_server.jobs.position import BEGINNING, Position, SnapshotCursor, version
from ingot_server.jobs.records import Records
from ingot_server.jobs.watches import AllJobsWatch
from ingot_server.log_events import Event

logger = EventLogger(__name__)

PAGE: Final = 200
_RESTORE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Update:
    """What a watch of all jobs yields."""

    event: Job | str | SnapshotEnd | None
    """A job, the id of a removed job, the end of the snapshot, or None when nothing happened."""
    position: Position
    """Where another watch continues after this."""


class AllJobsFeed:
    """The watches of all jobs in one process. `spawn` starts a task that ends with the feed."""

    def __init__(
        self,
        records: Records,
        settings: Settings,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        restore: Restore,
    ) -> None:
        self._records = records
        self._settings = settings
        self._spawn = spawn
        self._restore = restore
        self._position: Position | None = None
        self._buffered: list[Change] | None = None  # None while the history is not being read
        self._reading = asyncio.Lock()
        self._closed = False
        self.watches: set[AllJobsWatch] = set()

    def close(self, failure: Failure) -> None:
        """End every watch."""
        self._closed = True
        self.fail(failure)

    def fail(self, failure: Failure) -> None:
        """End every watch, or have it start over if Redis has lost the history."""
        for watch in self.watches:
            watch.mailbox.fail(failure)

    def receive(self, change: Change) -> None:
        """Deliver a change that was published."""
        position = self._position
        if self._buffered is not None:
            self._buffered.append(change)
        elif position is None or not self.watches:
            self._position = None
        elif change.epoch == position.epoch and change.sequence == position.sequence + 1:
            self._deliver(change)
            self._position = Position(change.epoch, change.sequence)
        elif change.epoch != position.epoch or change.sequence > position.sequence:
            self._spawn(self._try_to_catch_up())

    async def catch_up(self) -> Position:
        """Deliver what happened since the position; return the new one.

        Raises Failure with CACHE_UNAVAILABLE.
        """
        async with self._reading:
            self._buffered = []
            try:
                since = await self._records.history.since(self._position)
            finally:
                buffered, self._buffered = self._buffered, None
            if since.changes is not None:
                for change in since.changes:
                    self._deliver(change)
            elif self._position is not None:
                self.fail(resume_token_expired())
            self._position = since.position
        for change in buffered:
            self.receive(change)
        return since.position

    async def _try_to_catch_up(self) -> None:
        try:
            await self.catch_up()
        except Failure:
            return  # The next recheck tries again, and logs why it cannot.

    def _deliver(self, change: Change) -> None:
        for watch in self.watches:
            watch.receive(change)

    async def watch(
        self,
        accepts: Callable[[Job], bool],
        among: Among,
        snapshot_size: int,
        resume: Position | None,
        idle_seconds: float,
    ) -> AsyncGenerator[Update, None]:
        """Yield what happens to all jobs that match, see `Feed.watch_all`."""
        watch = AllJobsWatch(
            accepts, self._settings.job_ttl, among=among, is_resumed=resume is not None
        )
        if not self.watches:
            self._position = None
        self.watches.add(watch)
        try:
            while True:
                updates = self._updates(watch, snapshot_size, resume, idle_seconds)
                try:
                    async with aclosing(updates):
                        async for update in updates:
                            yield update
                except Failure as failure:
                    expired = failure.reason == reason_pb2.REASON_RESUME_TOKEN_EXPIRED
                    if not expired or not watch.mailbox.has_failed:
                        raise
                # Redis has lost the history that the watch follows, and perhaps jobs.
                await self._restored()
                resume = None
                watch.start_over()
        finally:
            watch.mailbox.close()
            self.watches.discard(watch)

    async def _restored(self) -> None:
        """Wait until lost jobs are restored: the new snapshot must not say that they are gone."""
        while not self._closed:
            try:
                await self._restore()
            except Failure as failure:
                logger.debug(
                    Event.WATCHES_WAIT,
                    "watches of all jobs wait: %s",
                    failure.message,
                    reason=failure.reason,
                )
                await asyncio.sleep(_RESTORE_SECONDS)
            else:
                return

    async def _updates(
        self,
        watch: AllJobsWatch,
        snapshot_size: int,
        resume: Position | None,
        idle_seconds: float,
    ) -> AsyncGenerator[Update, None]:
        now = await self.catch_up()
        position = replace(now, snapshot=SnapshotCursor("", snapshot_size))
        if resume is not None:
            since = await self._records.history.since(resume)
            if since.changes is None:
                raise resume_token_expired()
            for change in since.changes:
                watch.notify(change)
                if (missed := watch.mailbox.next_nowait()) is not None:
                    yield _update(missed, replace(resume, sequence=missed.sequence))
            position = replace(since.position, snapshot=resume.snapshot)
        watch.release(after=position.sequence)
        if resume is not None:
            # If nothing has happened, the caller still hears at once that the watch goes on.
            yield Update(None, position)
        if position.snapshot is not None:
            snapshot = self._snapshot(watch, position)
            async with aclosing(snapshot):
                async for update in snapshot:
                    yield update
        while True:
            new_change = await watch.mailbox.next_within(idle_seconds)
            if new_change is not None:
                yield _update(new_change, Position(now.epoch, new_change.sequence))
            else:
                yield Update(None, self._position or now)

    async def _snapshot(
        self, watch: AllJobsWatch, position: Position
    ) -> AsyncGenerator[Update, None]:
        """Yield the newest jobs that match, and what happens meanwhile."""
        cursor = position.snapshot
        while cursor is not None and cursor.left:
            limit = min(PAGE, cursor.left)
            page = await self._records.list(
                limit=limit, before=cursor.before, accepts=watch.accepts, among=watch.among
            )
            await self._notify(watch, page, position.sequence)
            while (change := watch.mailbox.next_nowait()) is not None:
                yield _update(change, replace(position, snapshot=cursor))
            if len(page) < limit:
                break
            cursor = SnapshotCursor(page[-1].id, cursor.left - len(page))
        unlisted = [job_id for job_id in watch.versions_before if job_id not in watch.versions]
        for job_id, job in zip(unlisted, await self._records.get_many(unlisted), strict=True):
            if job is not None:
                await self._notify(watch, [job], position.sequence)
            else:
                watch.mailbox.put(Change(job_id, None, position.epoch, position.sequence))
        watch.versions_before.clear()
        while (change := watch.mailbox.next_nowait()) is not None:
            yield _update(change, replace(position, snapshot=cursor))
        yield Update(SnapshotEnd(), Position(position.epoch, position.sequence))

    async def _notify(self, watch: AllJobsWatch, jobs: list[Job], sequence: int) -> None:
        """Notify a watch of jobs, none of them at a version before the one that it has sent."""
        for job in jobs:
            seen = watch.versions_before.get(job.id, BEGINNING)
            current: Job | None = job
            if version(job) < seen:
                current = await self._records.history.restore(job.id, seen)
            if current is not None:
                watch.notify(Change(job.id, current, current.epoch, sequence))


def _update(change: Change, position: Position) -> Update:
    return Update(change.job if change.job is not None else change.job_id, position)
