"""The watches of one job and of all jobs: which mailbox receives which revision.

`feed.py` drives them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from ingot.v1.job_pb2 import Job
from ingot_server.errors import Failure
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.jobs.mailbox import Mailbox


class JobWatch:
    """One watched job and the mailboxes of its watchers."""

    def __init__(self) -> None:
        self.latest: Job | None = None
        # Messages that arrived while the record is read; None if it is not being read.
        self.buffered: list[Job] | None = None
        self.mailboxes: set[Mailbox] = set()

    def notify(self, job: Job) -> None:
        """Put a job into the mailboxes unless they have received it, or a later revision."""
        if self.latest is None or job.revision > self.latest.revision:
            self.latest = job
            for mailbox in self.mailboxes:
                mailbox.put_job(job)

    def fail(self, failure: Failure) -> None:
        """End the watch in every mailbox."""
        for mailbox in self.mailboxes:
            mailbox.fail(failure)

    def is_behind(self, job: Job) -> bool:
        return self.latest is None or self.latest.revision < job.revision

    def has_ended(self) -> bool:
        return self.latest is not None and has_ended(self.latest)


class AllJobsWatch:
    """One watcher of all jobs that match a filter."""

    def __init__(self, accepts: Callable[[Job], bool], record_lifetime: timedelta) -> None:
        self.mailbox = Mailbox(record_lifetime)
        # The latest revision of each job that was seen, matching or not.
        self.revisions: dict[str, int] = {}
        # When each ended job was seen to have ended, by the monotonic clock.
        self.ended: dict[str, float] = {}
        self._accepts = accepts
        self._matching: set[str] = set()

    def notify(self, job: Job) -> None:
        """Put a job into the mailbox if it matches, or matched until now."""
        if job.revision <= self.revisions.get(job.id, 0):
            return
        self.revisions[job.id] = job.revision
        matches, matched = self._accepts(job), job.id in self._matching
        if matches or matched:
            self.mailbox.put_job(job)
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
        """Forget jobs that ended so long ago that no message about them can arrive any more."""
        for job_id in [each for each, at in self.ended.items() if at < before]:
            self.forget(job_id)
