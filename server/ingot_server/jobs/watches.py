"""Who is told what: the watchers of one job, and a watcher of all jobs. `feed.py` drives them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from ingot.v1.job_pb2 import Job
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.jobs.mailbox import Mailbox


class JobWatch:
    """One watched job."""

    def __init__(self) -> None:
        self.latest: Job | None = None
        # Messages that came while the record is being read; None when it is not.
        self.held: list[Job] | None = None
        self.watchers: set[Mailbox] = set()

    def tell(self, job: Job) -> None:
        if self.latest is None or job.revision > self.latest.revision:
            self.latest = job
            for watcher in self.watchers:
                watcher.push(job)

    def is_behind(self, job: Job) -> bool:
        return self.latest is None or self.latest.revision < job.revision

    def is_settled(self) -> bool:
        return self.latest is not None and has_ended(self.latest)


class AllJobsWatch:
    """One watcher of all jobs, matching or not."""

    def __init__(self, accepts: Callable[[Job], bool], record_lifetime: timedelta) -> None:
        self.pending = Mailbox(record_lifetime)
        self.revisions: dict[str, int] = {}
        self.ended: dict[str, float] = {}
        self._accepts = accepts
        self._matching: set[str] = set()

    def tell(self, job: Job) -> None:
        if job.revision <= self.revisions.get(job.id, 0):
            return
        self.revisions[job.id] = job.revision
        matches, matched = self._accepts(job), job.id in self._matching
        if matches or matched:
            self.pending.push(job)
        if has_ended(job):
            self.ended[job.id] = time.monotonic()
            self._matching.discard(job.id)
        elif matches:
            self._matching.add(job.id)
        else:
            self._matching.discard(job.id)

    def forget(self, job_id: str) -> None:
        self._matching.discard(job_id)
        self.revisions.pop(job_id, None)
        self.ended.pop(job_id, None)

    def forget_ended(self, before: float) -> None:
        """Forgets jobs that ended so long ago that no message about them is still on its way."""
        for job_id in [each for each, at in self.ended.items() if at < before]:
            self.forget(job_id)
