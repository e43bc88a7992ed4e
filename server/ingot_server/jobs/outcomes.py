"""What the operations on job records return and raise."""

from __future__ import annotations

from dataclasses import dataclass

from ingot.v1.job_pb2 import Job, JobPriority, JobWaiting


@dataclass(frozen=True, slots=True)
class Creation:
    """The job that a request leads to."""

    job: Job
    is_new: bool
    """Whether the job was made now; if not, it existed and is shared."""
    in_journal: bool
    """Whether the journal has an entry of the job."""
    trace: str = ""
    """The span that made the job, as a W3C traceparent; empty if it is not traced."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that was claimed, and the fencing token that proves it."""

    job: Job
    token: str
    run: int
    """Number of the run, which grows with each, also for attempts that do not count.

    The first is 1. The number jumps when Redis has lost writes, so it never repeats.
    """
    wanted_key: str = ""
    """The single-flight key that another job held when Redis had lost this one; usually empty."""
    followed: str = ""
    """Id of the job that this one has waited for since its last run; usually empty."""
    unstored: bool = False
    """Whether it is certain that nothing is stored for its media item."""
    has_slot: bool = False
    """Whether it was dispatched, and so holds a slot of its worker."""
    bytes_limited: bool = False
    """Whether its caller has a limit of bytes, see `JobBytes`."""
    trace: str = ""
    """The span that made the job, as a W3C traceparent; empty if it is not traced."""
    former_attempt: str = ""
    """The span of its last attempt, in the same way; empty if this is the first that is traced."""
    began: int = 0
    """When the claim began, in nanoseconds since 1970."""


@dataclass(frozen=True, slots=True)
class QueuedAgain:
    """The overdue job had lost its worker, and is ready again."""

    job: Job


@dataclass(frozen=True, slots=True)
class ChildrenChanged:
    """The overdue job waits for its children, whose counts must be written."""

    job: Job


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """The overdue job has ended, or another process recovers it."""


Recovery = QueuedAgain | ChildrenChanged | NothingToDo


class LeaseLost(Exception):
    """The writer's fencing token is no longer valid, or the record is gone.

    Every further write is refused: the writer must stop and leave nothing behind.
    """


class JobCancelled(LeaseLost):
    """A caller cancelled the job, so its lease is lost."""


class Deferred(Exception):
    """The job cannot go on now. It waits without a worker until `waiting.end_time`.

    For CAUSE_SAME_MEDIA it waits for the end of the job `waiting.job_id`. That is not a failure,
    and not an attempt.
    """

    def __init__(self, waiting: JobWaiting) -> None:
        super().__init__(JobWaiting.Cause.Name(waiting.cause))
        self.waiting = waiting


class JournalUnrestored(Exception):
    """Redis has lost writes, and not all jobs of the journal are known to have a record."""


class RequestIdReused(Exception):
    """The request id was used for a different request."""


class TooManyWebhooks(Exception):
    """The job that a call would share has as many webhooks as it may have."""


class Orphaned(Exception):
    """The parent has ended, or another worker holds its lease: it takes no more children."""


class CircularEntry(Exception):
    """The entry of a list is the list itself, or a list that contains it."""


class CircularWait(Exception):
    """The job that a job would wait for waits for it."""


class SingleFlightTaken(Exception):
    """Another job, `job_id`, holds the single-flight key."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} makes the same media item")
        self.job_id = job_id


class StillWanted(Exception):
    """The job is not cancelled, because callers other than the one that cancels it want it.

    `priority` is the highest that they want.
    """

    def __init__(self, job: Job, priority: JobPriority.ValueType) -> None:
        super().__init__(f"others want job {job.id}")
        self.job = job
        self.priority = priority


class LimitReached(Exception):
    """The caller has used up its limit of that name, so it may not have another job."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
