"""What is going on in all jobs, kept up to date from the updates of one watch.

Of a job that has ended only its state is kept, and the job itself if it is one of the latest; so a
display can run for weeks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from ingot.job import ENDED, RemovedJob
from ingot.v1.job_pb2 import Job, JobState, JobWaiting

SNAPSHOT_SIZE: Final = 10_000
"""How many jobs a watch begins with: the most that a server sends."""

KEPT_ENDED: Final = 100
"""How many of the jobs that ended last are kept."""


class LiveJobs:
    """The jobs that have not ended, the ones that ended last, and the counts of all by state."""

    def __init__(self) -> None:
        self._states: dict[str, JobState.ValueType] = {}
        self._active: dict[str, Job] = {}
        self._ended: dict[str, Job] = {}

    def update(self, update: Job | RemovedJob) -> None:
        """Take in the state of a job, or that its record has expired."""
        self._active.pop(update.id, None)
        if isinstance(update, RemovedJob):
            self._states.pop(update.id, None)
            self._ended.pop(update.id, None)
            return
        self._states[update.id] = update.state
        if update.state not in ENDED:
            self._active[update.id] = update
            return
        self._ended[update.id] = update
        if len(self._ended) > KEPT_ENDED:
            earliest = min(self._ended.values(), key=_end_nanos)
            del self._ended[earliest.id]

    @property
    def counts(self) -> Counter[JobState.ValueType]:
        """How many jobs are in each state."""
        return Counter(self._states.values())

    @property
    def bytes_per_second(self) -> float:
        """The rate of all running jobs together."""
        # A job with children reports the sum of their rates.
        return sum(
            job.progress.stage.bytes_per_second
            for job in self._active.values()
            if job.state == JobState.JOB_STATE_RUNNING and not job.HasField("children")
        )

    def running(self) -> Sequence[Job]:
        """Return the jobs that run and wait for nothing, the earliest first."""
        return [job for job in self._by_age() if not _waits(job)]

    def waiting(self) -> Sequence[Job]:
        """Return the jobs that wait, for something else than a worker first; then by age."""
        waiting = [job for job in self._by_age() if _waits(job)]
        return sorted(waiting, key=_waits_for_a_worker)

    def ended(self) -> Sequence[Job]:
        """Return the jobs that ended last, the latest first."""
        return sorted(self._ended.values(), key=_end_nanos, reverse=True)

    def _by_age(self) -> list[Job]:
        return sorted(self._active.values(), key=lambda job: job.id)  # later ids sort after


def _waits(job: Job) -> bool:
    return job.state == JobState.JOB_STATE_QUEUED or job.HasField("waiting")


def _waits_for_a_worker(job: Job) -> bool:
    return not job.HasField("waiting") or job.waiting.cause == JobWaiting.CAUSE_WORKER


def _end_nanos(job: Job) -> int:
    return job.end_time.ToNanoseconds()
