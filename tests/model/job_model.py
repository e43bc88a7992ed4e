"""What is known of jobs, workers and sources, without Redis: a model that operations are made on.

Every part of it that Redis stores, too, has the same value there (`expected`).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from ingot.v1 import job_pb2

QUEUED, RUNNING = job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING
SUCCEEDED, FAILED = job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED
CANCELLED = job_pb2.JOB_STATE_CANCELLED
OUTCOMES: dict[int, str] = {SUCCEEDED: "succeeded", FAILED: "failed", CANCELLED: "cancelled"}
STEPS_OF_MODEL = "steps of the model of jobs"
LEASE, RESEND, RECHECK, TTL, CHILD_EXTRA = 8_000, 5_000, 5_000, 20_000, 60_000


class Place(Enum):
    """Where a job is. It is in one place."""

    READY = auto()
    DISPATCHED = auto()
    DELAYED = auto()
    TURN = auto()
    """It waits for its turn among the children of its parents."""
    RUNNING = auto()
    CHILDREN = auto()
    """It waits for its children."""
    FOLLOWING = auto()
    """It waits for another job."""
    ENDED = auto()


@dataclass(eq=False)
class ModelJob:
    id: str
    queue: str
    caller: str
    host: str
    source: str
    priority: int
    cost: int
    key: str
    tenant: str = ""
    made_for: str = ""
    """The parent that it was made for."""
    state: int = QUEUED
    revision: int = 1
    token: str = ""
    run: int = 0
    losses: int = 0
    not_before: int = 0
    place: Place = Place.READY
    deadline: int | None = None
    worker: str = ""
    """Whose slots it holds."""
    slots: int = 0
    permit: str = ""
    """The source whose permit it got with its dispatch and has not used."""
    waits_since: int | None = None
    age: int = 0
    parents: list[str] = field(default_factory=list)
    is_shared: bool = False
    """A caller without a name wants it, too."""
    askers: dict[str, int] = field(default_factory=dict)
    """Callers with names that have asked for it by itself -> the highest of their priorities."""
    is_counted: bool = True
    """For its caller, until it ends."""
    is_settled: bool = True
    """Not if it was cancelled and its children may have to be."""
    entries: dict[str, str] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)
    """Children that wait for their turn -> their order."""
    counts: Counter[str] = field(default_factory=Counter)
    follows: str = ""
    """The job that it waits for, or has waited for before its present run."""
    follows_since: int = 0
    has_left: bool = False
    """Whether its record says that it waits, or has waited, for children."""
    commits: bool = False
    """It cannot be cancelled."""
    expires: int | None = None
    last_found: object = None
    """What was stored of it when that was last compared."""

    @property
    def has_ended(self) -> bool:
        return self.place is Place.ENDED

    def stored(self) -> list[bytes]:
        """What contents.lua returns of it; empty for zero."""
        return [
            b"%d" % self.revision,
            b"1" if self.has_ended else b"",
            self.token.encode(),
            b"%d" % self.run if self.run else b"",
            b"%d" % self.losses if self.losses else b"",
            b"%d" % self.state,
            b"%d" % self.priority,
            self.key.encode(),
            self.permit.encode(),
            "".join(f"{parent} " for parent in self.parents).encode(),
            b"1" if self.is_shared else b"",
            b"1" if self.place is Place.CHILDREN else b"",
            self.follows.encode(),
        ]


@dataclass
class ModelSource:
    """The permits, the rate limit and the breaker of a source."""

    name: str
    interval: int
    burst: int
    concurrency: int
    wait_timeout: int
    next_time: int = 0
    permits: dict[str, int] = field(default_factory=dict)
    """job -> when its permit expires"""
    reason: str = ""
    """Why the breaker is open."""
    open_since: int = 0
    retry_at: int = 0
    open_ms: int = 0
    trial: str = ""
    trial_expires: int = 0
    rate_limits: int = 0

    def closed_because(self, now: int) -> str:
        """Return why no job may start now; empty if one may."""
        if self.reason and max(self.retry_at, self.trial_expires if self.trial else 0) > now:
            return "open"
        if self.interval and self.next_time - (self.burst - 1) * self.interval > now:
            return "rate_limited"
        self.permits = {job: until for job, until in self.permits.items() if until > now}
        return "concurrency_limited" if len(self.permits) >= self.concurrency > 0 else ""

    def give(self, job_id: str, now: int, until: int) -> None:
        if self.interval:
            self.next_time = max(self.next_time, now) + self.interval
        if self.reason:
            self.trial = job_id
        self.extend(job_id, until)

    def extend(self, job_id: str, until: int) -> None:
        self.permits[job_id] = until
        if self.trial == job_id:
            self.trial_expires = until

    def remove(self, job_id: str) -> None:
        self.permits.pop(job_id, None)
        if self.trial == job_id:
            self.trial = ""

    def record(self, job_id: str, outcome: str, now: int, *, open_ms: int, longest: int) -> None:
        if self.reason and self.trial != job_id:
            return
        if outcome == "available":
            if self.reason:
                self.reason = self.trial = ""
                self.open_since = self.retry_at = self.open_ms = 0
            self.rate_limits = 0
            return
        if not self.reason and outcome == "rate_limited":
            self.rate_limits += 1
            if self.rate_limits < 3:
                return
        self.open_since = self.open_since if self.reason else now
        self.open_ms = min(2 * self.open_ms, max(longest, open_ms)) if self.open_ms else open_ms
        self.reason, self.retry_at, self.trial = "BOT_CHECK", now + self.open_ms, ""
        self.rate_limits = 0


@dataclass
class JobModel:
    """All jobs whose records exist, and all workers and sources."""

    now: int
    sources: dict[str, ModelSource]
    most_running: Mapping[str, int]
    """How many jobs of a caller may hold slots; callers without a limit are missing."""
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    active: dict[str, str] = field(default_factory=dict)
    requests: dict[str, tuple[str, str]] = field(default_factory=dict)
    """request id -> its job and its fingerprint"""
    unswept: set[str] = field(default_factory=set)
    """Jobs whose records have expired before a sweep has looked at their children."""
    ages: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def make_ready(self, job: ModelJob) -> None:
        job.place, job.deadline = Place.READY, None
        job.age = job.age or next(self.ages)
        if job.waits_since is None:
            job.waits_since = self.now

    def free(self, job: ModelJob) -> None:
        """Give up slots, and a permit that was not used."""
        job.worker, job.slots = "", 0
        self.give_permit_back(job)

    def give_permit_back(self, job: ModelJob) -> None:
        """Give up a permit that was not used, with its token."""
        if job.permit:
            source = self.sources[job.permit]
            source.remove(job.id)
            source.next_time -= source.interval
            job.permit = ""

    def changed(self, job: ModelJob, state: int, place: Place) -> None:
        job.revision += 1
        job.state, job.place = state, place

    def release(self, job: ModelJob, delay: int) -> None:
        self._give_back(job, delay)
        if delay:
            job.deadline = self.now + delay
        else:
            self.make_ready(job)

    def _give_back(self, job: ModelJob, delay: int) -> None:
        self.changed(job, QUEUED, Place.DELAYED)
        job.token, job.not_before, job.follows = "", self.now + delay, ""
        self.free(job)

    def follow(self, job: ModelJob, leader: ModelJob) -> None:
        """Give a running job up until another one has ended."""
        self._give_back(job, 0)
        self.bring_forward(leader)
        job.follows = leader.id
        if leader.has_ended:
            self.make_ready(job)
        else:
            job.place, job.deadline, job.follows_since = Place.FOLLOWING, None, self.now

    def bring_forward(self, job: ModelJob) -> None:
        for parent in self.parents(job):
            if parent.turns.pop(job.id, None) is not None:
                self.send_child(job.id)

    def followers(self, job: ModelJob) -> list[ModelJob]:
        """Those that wait for it, in the order in which they began to."""
        found = (each for each in self.jobs.values() if each.place is Place.FOLLOWING)
        return sorted(
            (each for each in found if each.follows == job.id),
            key=lambda each: (each.follows_since, each.id),
        )

    def end(self, job: ModelJob, state: int) -> None:
        self.changed(job, state, Place.ENDED)
        job.token, job.deadline, job.follows = "", None, ""
        for follower in self.followers(job):
            self.make_ready(follower)
        for parent in self.parents(job):
            if not parent.has_ended:
                parent.counts[OUTCOMES[state]] += 1
                parent.turns.pop(job.id, None)
        self.free(job)
        if self.active.get(job.key) == job.id:
            del self.active[job.key]
        for child_id in list(job.turns):
            self.send_child(child_id)
        job.turns = {}
        if state == CANCELLED and job.entries:
            job.is_settled = False
        if not self.has_living_parent(job):
            self.expire(job, TTL)

    def send_child(self, child_id: str) -> None:
        child = self.jobs.get(child_id)
        if child is not None and child.state == QUEUED:
            self.make_ready(child)

    def parents(self, job: ModelJob) -> list[ModelJob]:
        return [self.jobs[each] for each in job.parents if each in self.jobs]

    def has_living_parent(self, job: ModelJob) -> bool:
        return any(
            not parent.has_ended or self.has_living_parent(parent) for parent in self.parents(job)
        )

    def expire(self, job: ModelJob, ttl: int) -> None:
        job.expires = self.now + ttl
        for child in self.children(job):
            if child.has_ended and not self.has_living_parent(child):
                self.expire(child, ttl + CHILD_EXTRA)

    def children(self, job: ModelJob) -> list[ModelJob]:
        return [self.jobs[each] for each in job.entries.values() if each in self.jobs]

    def is_wanted_apart_from(self, parent: ModelJob, job: ModelJob) -> bool:
        """Whether anyone wants a child apart from that parent."""
        others = (each for each in self.parents(job) if each is not parent)
        return job.is_shared or bool(job.askers) or any(not each.has_ended for each in others)

    def is_wanted_by_others(self, job: ModelJob, caller: str) -> bool:
        """Whether another caller wants it, by itself or as a part of something."""
        return bool(job.askers.keys() - {caller}) or any(
            not parent.has_ended and self.is_wanted_by_others(parent, caller)
            for parent in self.parents(job)
        )

    def set_priority(self, job: ModelJob, priority: int) -> None:
        if job.priority != priority and not job.has_ended:
            job.priority = priority
            job.revision += 1

    def is_awaited_by(self, job: ModelJob, other: ModelJob) -> bool:
        """Whether `other` is the job, or waits for it, perhaps by way of others."""
        return job is other or any(
            self.is_awaited_by(each, other) for each in [*self.parents(job), *self.followers(job)]
        )

    def counted(self) -> list[ModelJob]:
        """Return the jobs that count for their callers."""
        jobs = self.jobs.values()
        return [each for each in jobs if each.is_counted and not (each.has_ended or each.made_for)]

    def pass_time(self, milliseconds: int) -> None:
        self.now += milliseconds
        self.unswept |= {
            job.id
            for job in self.jobs.values()
            if job.expires is not None and job.expires <= self.now and not job.is_settled
        }
        self.jobs = {
            job.id: job
            for job in self.jobs.values()
            if job.expires is None or job.expires > self.now
        }
