"""What the callers were told during a run: the accepted jobs, and each update of their watches."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.jobs.lifecycle import has_ended


@dataclass(slots=True)
class AcceptedJob:
    """A job whose id a caller got in a response."""

    id: str
    kind: str
    """What the caller did: an ingest, a conversion, ..."""
    request: str
    """The call, for a person who wants to repeat it."""
    time: float
    first: Job
    latest: Job
    ends: list[Job] = field(default_factory=list)
    """The states in which a watcher saw it ended. One per watch."""
    end_seen: float = 0.0
    """When that was first, by time.time()."""
    broken_orders: list[str] = field(default_factory=list)
    """Updates that went back."""
    unknown_since: float | None = None
    """Since when the servers say that they do not know it; None if the last one knew it."""

    def note(self, job: Job) -> None:
        """Take over an update of a watch."""
        before = (self.latest.epoch, self.latest.revision)
        after = (job.epoch, job.revision)
        self.unknown_since = None
        if after < before:
            self.broken_orders.append(f"from epoch and revision {before} to {after}")
        if self.ends and not has_ended(job):
            self.broken_orders.append(f"from its end to {state_name(job)} at {after}")
        if has_ended(job):
            self.ends.append(job)
            self.end_seen = self.end_seen or time.time()
        self.latest = job

    @property
    def end(self) -> Job | None:
        return self.ends[-1] if self.ends else None


@dataclass(frozen=True, slots=True)
class Repetition:
    """A request id that was used twice, and the ids of the jobs in both responses."""

    request_id: str
    first_job: str
    second_job: str
    begin: float
    """Before the first call, by time.time()."""
    end: float
    """After the second call."""


@dataclass
class History:
    """All that callers know; the checker compares it with the bucket and the records."""

    jobs: dict[str, AcceptedJob] = field(default_factory=dict)
    cached: dict[str, Job] = field(default_factory=dict)
    """Jobs that were answered from what is stored."""
    repeated: list[Repetition] = field(default_factory=list)
    wrong_bytes: list[str] = field(default_factory=list)
    """Downloads that ended as whole and had other bytes than a source ever served."""
    cancelled: dict[str, float] = field(default_factory=dict)
    """Jobs of which a call has said that they are cancelled, and when, by time.time()."""
    calls: Counter[str] = field(default_factory=Counter)
    """Calls by name and outcome."""

    def revisions(self) -> dict[str, tuple[int, int]]:
        """The epoch and revision of each job that a watcher has seen last."""
        return {job.id: (job.latest.epoch, job.latest.revision) for job in self.jobs.values()}

    def accept(self, kind: str, request: str, job: Job) -> AcceptedJob | None:
        """Note the job in a response; None if it is known, or is not a record."""
        if job.cached:
            self.cached[job.id] = job
        if job.id in self.jobs or job.id.startswith("cached-"):
            return None
        accepted = AcceptedJob(job.id, kind, request, time.time(), job, job)
        self.jobs[job.id] = accepted
        return accepted


def state_name(job: Job) -> str:
    """SUCCEEDED and the like."""
    return job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")


def describe(job: AcceptedJob) -> str:
    """What a person needs to follow a job through the logs."""
    latest = job.latest
    error = f", {latest.error.message!r}" if latest.HasField("error") else ""
    return (
        f"{job.kind} {job.id} ({job.request}), media {latest.media.id}: {state_name(latest)}"
        f" in attempt {latest.attempt}{error}"
    )
