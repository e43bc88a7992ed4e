"""The mailbox of one watcher: the jobs that it has not received yet.

A reader that keeps up receives every revision. A slow reader misses revisions, but never the last
one of a state or stage. So the size of a mailbox depends on what happened, not on how often
progress was measured.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from ingot.v1.job_pb2 import Job
from ingot_server.errors import Failure
from ingot_server.jobs.lifecycle import has_ended, milestone

LIMIT: Final = 32
ALL_JOBS_LIMIT: Final = 1024


class Mailbox:
    """A queue for one reader. Its jobs are shared with other readers and must not be changed.

    With `record_lifetime` it is the queue of a watcher of all jobs. When that has grown very long,
    it keeps only the latest revision of each job whose record may still exist.
    """

    def __init__(self, record_lifetime: timedelta | None = None) -> None:
        self._record_lifetime = record_lifetime
        self._jobs: deque[Job] = deque()
        self._limit = LIMIT
        self._failure: Failure | None = None
        self._ready = asyncio.Event()

    def put_job(self, job: Job) -> None:
        self._jobs.append(job)
        self._ready.set()
        if len(self._jobs) > self._limit:
            self._shorten()

    def fail(self, failure: Failure) -> None:
        """End the watch: drop the jobs, and raise `failure` in the reader."""
        self._jobs.clear()
        self._failure = failure
        self._ready.set()

    def next_job_nowait(self) -> Job | None:
        """Return the next job, or None if there is none yet. Raises Failure after `fail`."""
        if self._failure is not None:
            # Each reader gets its own: a raised exception collects the frames of its readers.
            raise Failure(self._failure.reason, self._failure.message)
        return self._jobs.popleft() if self._jobs else None

    async def next_job(self) -> Job:
        """Wait for the next job and return it. Raises Failure after `fail`."""
        while (job := self.next_job_nowait()) is None:
            self._ready.clear()
            await self._ready.wait()
        return job

    def _shorten(self) -> None:
        jobs = collapse(self._jobs, lambda job, later: milestone(job) == milestone(later))
        if self._record_lifetime is not None and len(jobs) > ALL_JOBS_LIMIT:
            oldest = datetime.now(UTC) - self._record_lifetime
            jobs = [
                job
                for job in collapse(jobs, lambda *_: True)
                if not has_ended(job) or job.end_time.ToDatetime(UTC) > oldest
            ]
        self._jobs = deque(jobs)
        # Jobs that could not be dropped are not examined again until the mailbox has doubled.
        self._limit = max(LIMIT, 2 * len(jobs))


def collapse(jobs: Iterable[Job], is_alike: Callable[[Job, Job], bool]) -> list[Job]:
    """Replace each revision of a job by the next one if the two are alike."""
    kept: list[Job] = []
    positions: dict[str, int] = {}
    for job in jobs:
        position = positions.get(job.id)
        if position is not None and is_alike(kept[position], job):
            kept[position] = job
        else:
            positions[job.id] = len(kept)
            kept.append(job)
    return kept
