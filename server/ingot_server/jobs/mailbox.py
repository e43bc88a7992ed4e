"""The mailbox of one watcher: the changes that it has not received yet.

A reader that keeps up receives every change. A slow reader misses revisions, but never the last one
of a state or stage. So the size of a mailbox depends on what happened, not on how often progress
was measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from ingot.v1.job_pb2 import Job
from ingot_server.errors import Failure
from ingot_server.jobs.history import Change
from ingot_server.jobs.lifecycle import has_ended, milestone

LIMIT: Final = 32
ALL_JOBS_LIMIT: Final = 1024


class Mailbox:
    """A queue for one reader. Its jobs are shared with other readers and must not be changed.

    With `record_lifetime` it is the queue of a watcher of all jobs. When that has grown very long,
    it keeps only the latest revision of each job whose record may still exist.

    There are thousands, so each is small, and what it does for a change is little. `_timer` is set
    for the end of an idle time, and not anew with each change.
    """

    __slots__ = (
        "_changes",
        "_failure",
        "_idle_at",
        "_limit",
        "_reader",
        "_record_lifetime",
        "_timer",
    )

    def __init__(self, record_lifetime: timedelta | None = None) -> None:
        self._record_lifetime = record_lifetime
        self._changes: list[Change] = []
        self._limit = LIMIT
        self._failure: Failure | None = None
        self._reader: asyncio.Future[bool] | None = None
        self._idle_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def put(self, change: Change) -> None:
        self._changes.append(change)
        self._wake(True)
        if len(self._changes) > self._limit:
            self._shorten()

    def fail(self, failure: Failure) -> None:
        """End the watch: drop the changes, and raise `failure` in the reader."""
        self._changes.clear()
        self._failure = failure
        self._wake(True)

    def close(self) -> None:
        """End the timer. There is no reader any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def has_failed(self) -> bool:
        return self._failure is not None

    def next_nowait(self) -> Change | None:
        """Return the next change, or None if there is none yet. Raises Failure after `fail`."""
        if self._failure is not None:
            # Each reader gets its own: a raised exception collects the frames of its readers.
            raise Failure(self._failure.reason, self._failure.message)
        return self._changes.pop(0) if self._changes else None

    async def next_within(self, seconds: float | None) -> Change | None:
        """Wait for the next change and return it; None if there is none for so many seconds.

        Raises Failure after `fail`.
        """
        while (change := self.next_nowait()) is None:
            if not await self._wait(seconds):
                return None
        return change

    async def _wait(self, seconds: float | None) -> bool:
        """Wait for a change; return whether there may be one before so many seconds are over."""
        loop = asyncio.get_running_loop()
        self._reader = loop.create_future()
        if seconds is not None:
            self._idle_at = loop.time() + seconds
            if self._timer is None:
                self._timer = loop.call_at(self._idle_at, self._check_idle, loop)
        try:
            return await self._reader
        finally:
            self._reader = None

    def _check_idle(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._reader is None:
            return  # The next wait sets the timer.
        if loop.time() < self._idle_at:
            self._timer = loop.call_at(self._idle_at, self._check_idle, loop)
        else:
            self._wake(False)

    def _wake(self, changed: bool) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(changed)

    def _shorten(self) -> None:
        changes = collapse(self._changes, lambda job, later: milestone(job) == milestone(later))
        if self._record_lifetime is not None and len(changes) > ALL_JOBS_LIMIT:
            oldest = datetime.now(UTC) - self._record_lifetime
            changes = [
                change
                for change in collapse(changes, lambda *_: True)
                if change.job is None
                or not has_ended(change.job)
                or change.job.end_time.ToDatetime(UTC) > oldest
            ]
        self._changes = list(changes)
        # Changes that could not be dropped are not examined again until the mailbox has doubled.
        self._limit = max(LIMIT, 2 * len(changes))


def collapse(changes: Iterable[Change], is_alike: Callable[[Job, Job], bool]) -> list[Change]:
    """Replace each revision of a job by the next one if the two are alike.

    The next one takes the number of the first, because what lies between them is sent after it.
    """
    kept: list[Change] = []
    positions: dict[str, int] = {}
    for change in changes:
        position = positions.get(change.job_id)
        earlier = kept[position] if position is not None else None
        if (
            position is not None
            and earlier is not None
            and earlier.job is not None
            and change.job is not None
            and is_alike(earlier.job, change.job)
        ):
            kept[position] = replace(change, sequence=earlier.sequence)
        else:
            positions[change.job_id] = len(kept)
            kept.append(change)
    return kept
