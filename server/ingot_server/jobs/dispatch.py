"""Dispatch: a job's message is sent when the job may run, and to a worker that has a slot for it.

    ready -> dispatched to one worker, whose slot it holds -> claimed -> the slot is free again

`dispatch.lua` keeps the jobs that are ready, and chooses the next one fairly. A dispatched job that
its worker does not claim within `settings.resend_interval` is ready again. Whoever makes a job
ready, or gives up a slot, dispatches at once; the sweep of each worker does so every second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from ingot.v1.job_pb2 import Job, JobWaiting
from ingot.v1.reason_pb2 import Reason
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.jobs.placement import Work, work_of
from ingot_server.jobs.queue import Queue
from ingot_server.jobs.transition import Transition, milliseconds
from ingot_server.log_events import Event
from ingot_server.redis_schema import SCHEMA_VERSION

logger = EventLogger(__name__)

# In one call; what is left is dispatched by the next one.
_AT_ONCE: Final = 64
# A worker recovers an overdue job within this time, or another one does.
_RECHECK: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A job whose message must be sent now, and the worker that it is for."""

    job_id: str
    worker_id: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What was dispatched in one call."""

    jobs: Sequence[Dispatched]
    next_permit: timedelta | None
    """How long until a source lets another job start; None if no job waits for that."""


@dataclass(frozen=True, slots=True)
class Run:
    """What `Dispatcher.run` has done."""

    sent: frozenset[str]
    """Ids of the jobs that were dispatched."""
    unsent: Mapping[str, Failure]
    """Why messages were not sent, by job. Those jobs are ready again after a while."""
    next_permit: timedelta | None
    """As in `Taken`."""


class Dispatch:
    """What `dispatch.lua` does. Every method raises Failure with CACHE_UNAVAILABLE."""

    def __init__(self, transition: Transition, settings: Settings) -> None:
        self._transition = transition
        self._settings = settings

    async def announce(self, worker_id: str, work: Work, slots: int) -> None:
        """Say that a worker has so many slots; it gets jobs until `settings.lease` has passed."""
        await self._transition.call(
            "announce",
            worker_id,
            queue=work,
            slots=slots,
            ttl=milliseconds(self._settings.lease),
            schema=SCHEMA_VERSION,
        )

    async def retire(self, worker_id: str, work: Work) -> None:
        """Say that a worker takes no more jobs. Those that it has not claimed are ready again."""
        await self._transition.call("retire", worker_id, queue=work)

    async def take(self, work: Work) -> Taken:
        """Dispatch what may run; the caller must send the messages of those jobs."""
        wait, *found = await self._transition.call(
            "dispatch",
            work,
            limit=_AT_ONCE,
            deadline=milliseconds(self._settings.resend_interval),
            jobs_per_host=self._jobs_per_host(work),
        )
        names = [each.decode() for each in found]
        return Taken(
            [Dispatched(*pair) for pair in zip(names[::2], names[1::2], strict=True)],
            timedelta(milliseconds=int(wait)) if int(wait) >= 0 else None,
        )

    async def waiting(self, job: Job) -> JobWaiting | None:
        """Return what a ready job waits for besides a worker; None if nothing is known."""
        cause, *content = await self._transition.call(
            "waits", job.id, jobs_per_host=self._jobs_per_host(work_of(job))
        )
        match cause:
            case b"open":
                source, wait, reason = content
                return JobWaiting(
                    cause=JobWaiting.CAUSE_SOURCE_BLOCKED,
                    source=source.decode(),
                    reason=Reason.Value(reason.decode()),
                    end_time=_time_in(wait),
                )
            case b"rate_limited":
                source, wait, ahead = content
                return JobWaiting(
                    cause=JobWaiting.CAUSE_SOURCE_RATE_LIMIT,
                    source=source.decode(),
                    jobs_ahead=int(ahead),
                    end_time=_time_in(wait),
                )
            case b"concurrency_limited":
                cause_of_source = JobWaiting.CAUSE_SOURCE_CONCURRENCY_LIMIT
                return JobWaiting(cause=cause_of_source, source=content[0].decode())
            case b"host_limit":
                host, ahead = content
                return JobWaiting(
                    cause=JobWaiting.CAUSE_HOST_LIMIT, host=host.decode(), jobs_ahead=int(ahead)
                )
            case b"caller_limit":
                return JobWaiting(cause=JobWaiting.CAUSE_CALLER_LIMIT)
            case b"conversion_limit":
                return JobWaiting(
                    cause=JobWaiting.CAUSE_CONVERSION_LIMIT, jobs_ahead=int(content[0])
                )
        return None

    def _jobs_per_host(self, work: Work) -> int:
        return self._settings.jobs_per_host if work is Work.FETCH else 0

    async def sweep(self, limit: int) -> list[str]:
        """Return the ids of at most `limit` jobs for `Records.recover`, the most overdue first.

        Each has lost its worker, or its children have changed. Two callers at the same time get
        different jobs. Jobs whose retry is due, and those that no worker has claimed, are ready
        afterwards.
        """
        job_ids = await self._transition.call(
            "sweep", "", limit=limit, recheck=milliseconds(_RECHECK)
        )
        return [job_id.decode() for job_id in job_ids]


class Dispatcher:
    """Dispatches jobs and sends their messages."""

    def __init__(self, dispatch: Dispatch, queue: Queue) -> None:
        self._dispatch = dispatch
        self._queue = queue

    async def run(self, *kinds: Work) -> Run:
        """Dispatch what may run, of these kinds or of all."""
        sent: set[str] = set()
        unsent: dict[str, Failure] = {}
        waits: list[timedelta] = []
        for work in kinds or tuple(Work):
            taken = await self._dispatch.take(work)
            if taken.next_permit is not None:
                waits.append(taken.next_permit)
            for dispatched in taken.jobs:
                try:
                    await self._queue.send(dispatched.job_id, dispatched.worker_id)
                    sent.add(dispatched.job_id)
                except Failure as failure:
                    unsent[dispatched.job_id] = failure
        return Run(frozenset(sent), unsent, min(waits, default=None))

    async def run_or_warn(self, *kinds: Work) -> Run | None:
        """Dispatch what may run. If that is not possible now, the sweep does it later."""
        try:
            done = await self.run(*kinds)
        except Failure as failure:
            # The sweep says so in the log.
            logger.debug(
                Event.DISPATCH_WAITS,
                "nothing was dispatched: %s",
                failure.message,
                reason=failure.reason,
            )
            return None
        for job_id, refused in done.unsent.items():
            logger.warning(
                Event.DISPATCH_REFUSED,
                "job %s: %s",
                job_id,
                refused.message,
                job_id=job_id,
                reason=refused.reason,
            )
        return done


def _time_in(wait: bytes) -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(datetime.now(UTC) + timedelta(milliseconds=int(wait)))
    return moment
