"""The watches of one job and of all jobs: which mailbox receives which change.

`feed.py` and `all_jobs_feed.py` drive them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from ingot.v1.job_pb2 import Job
from ingot_server.errors import Failure
from ingot_server.jobs.history import Change
from ingot_server.jobs.job_index import AMONG_ALL, Among
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.jobs.mailbox import Mailbox
from ingot_server.jobs.position import BEGINNING, Version, version


class JobWatch:
    """One watched job and the mailboxes of its watchers."""

    def __init__(self) -> None:
        self.latest: Job | None = None
        # Messages that arrived while the record is read; None if it is not being read.
        self.buffered: list[Job] | None = None
        self.mailboxes: set[Mailbox] = set()

    def notify(self, job: Job) -> None:
        """Put a job into the mailboxes unless they have received it, or a later version."""
        if self.is_behind(job):
            self.latest = job
            change = Change(job.id, job)
            for mailbox in self.mailboxes:
                mailbox.put(change)

    def fail(self, failure: Failure) -> None:
        """End the watch in every mailbox."""
        for mailbox in self.mailboxes:
            mailbox.fail(failure)

    def is_behind(self, job: Job) -> bool:
        return self.latest is None or version(self.latest) < version(job)

    def misses_changes_before(self, job: Job) -> bool:
        """Tell whether there may be a change between the latest and `job`."""
        latest = self.latest
        return latest is not None and (
            job.epoch > latest.epoch
            or (job.epoch == latest.epoch and job.revision > latest.revision + 1)
        )

    def has_ended(self) -> bool:
        return self.latest is not None and has_ended(self.latest)


class AllJobsWatch:
    """One watcher of all jobs that match a filter, which are `among` those.

    It keeps the version of each job that it has sent until the job is removed. With `is_resumed`
    it does not know what was sent before, so it sends every removal. Changes are held back until
    `release`.
    """

    def __init__(
        self,
        accepts: Callable[[Job], bool],
        record_lifetime: timedelta,
        *,
        among: Among = AMONG_ALL,
        is_resumed: bool,
    ) -> None:
        self.accepts = accepts
        self.among = among
        self.mailbox = Mailbox(record_lifetime)
        self.versions: dict[str, Version] = {}
        # What was sent before the watch started over.
        self.versions_before: dict[str, Version] = {}
        self._record_lifetime = record_lifetime
        self._is_resumed = is_resumed
        self._matching: set[str] = set()
        self._held_back: list[Change] | None = []

    def start_over(self) -> None:
        """Drop all changes, and hold back the next ones."""
        self.mailbox.close()
        self.mailbox = Mailbox(self._record_lifetime)
        self.versions_before |= self.versions
        self.versions.clear()
        self._held_back = []

    def release(self, after: int) -> None:
        """Notify of the changes after number `after` that were held back, and of all later ones."""
        held_back, self._held_back = self._held_back or [], None
        for change in held_back:
            if change.sequence > after:
                self.notify(change)

    def receive(self, change: Change) -> None:
        """Notify of a change unless changes are held back."""
        if self._held_back is not None:
            self._held_back.append(change)
        else:
            self.notify(change)

    def notify(self, change: Change) -> None:
        """Put a change into the mailbox if its job matches, or matched until now."""
        if change.job is None:
            self._matching.discard(change.job_id)
            if self.versions.pop(change.job_id, None) is not None or self._is_resumed:
                self.mailbox.put(change)
            return
        job = change.job
        if version(job) <= self.versions.get(job.id, BEGINNING):
            return
        matches = self.accepts(job)
        if not matches and job.id not in self._matching:
            return
        self.versions[job.id] = version(job)
        self.mailbox.put(change)
        if matches and not has_ended(job):
            self._matching.add(job.id)
        else:
            self._matching.discard(job.id)
