"""What one watcher has still to be told.

Every revision is kept as long as the reader keeps up. A slow reader costs it revisions in between,
never the last one of a state or stage; so what waits is bounded by what happened, not by how often
it was measured.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from ingot.v1.job_pb2 import Job
from ingot_server.errors import Failure
from ingot_server.jobs.lifecycle import has_ended, standing

KEPT: Final = 32
KEPT_OF_ALL: Final = 1024


class Mailbox:
    """A queue for one reader. Its jobs are shared with other readers and must not be changed.

    With `record_lifetime`, the queue of a watcher of all jobs: when it has become very long, only
    the latest revision of each job whose record can still live is kept.
    """

    def __init__(self, record_lifetime: timedelta | None = None) -> None:
        self._record_lifetime = record_lifetime
        self._jobs: deque[Job] = deque()
        self._limit = KEPT
        self._failure: Failure | None = None
        self._ready = asyncio.Event()

    def push(self, job: Job) -> None:
        self._jobs.append(job)
        self._ready.set()
        if len(self._jobs) > self._limit:
            self._shorten()

    def fail(self, failure: Failure) -> None:
        """Ends the watch: drops what waits and makes `next` raise."""
        self._jobs.clear()
        self._failure = failure
        self._ready.set()

    def take(self) -> Job | None:
        """The next job if there is one now. Raises Failure after `fail`."""
        if self._failure is not None:
            # One of its own for each reader: a raised exception collects its readers' frames.
            raise Failure(self._failure.reason, self._failure.message)
        return self._jobs.popleft() if self._jobs else None

    async def next(self) -> Job:
        """The next job, waiting for it. Raises Failure after `fail`."""
        while (job := self.take()) is None:
            self._ready.clear()
            await self._ready.wait()
        return job

    def _shorten(self) -> None:
        jobs = collapse(self._jobs, lambda job, later: standing(job) == standing(later))
        if self._record_lifetime is not None and len(jobs) > KEPT_OF_ALL:
            oldest = datetime.now(UTC) - self._record_lifetime
            jobs = [
                job
                for job in collapse(jobs, lambda *_: True)
                if not has_ended(job) or job.end_time.ToDatetime(UTC) > oldest
            ]
        self._jobs = deque(jobs)
        # What cannot be shortened is not looked at again before it has doubled.
        self._limit = max(KEPT, 2 * len(jobs))


def collapse(jobs: Iterable[Job], alike: Callable[[Job, Job], bool]) -> list[Job]:
    """Puts a job's later revision in the place of the one before it wherever the two are alike."""
    kept: list[Job] = []
    places: dict[str, int] = {}
    for job in jobs:
        place = places.get(job.id)
        if place is not None and alike(kept[place], job):
            kept[place] = job
        else:
            places[job.id] = len(kept)
            kept.append(job)
    return kept
