"""Calls of the script that makes every change of a job in Redis.

Its last part, `transition.lua`, documents its operations.

A change is computed on a copy of the record. The script receives the new record with the revision
that it was computed from. If another writer was faster, the change is computed again.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final, cast

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.config import Settings
from ingot_server.jobs import lifecycle, wishes
from ingot_server.jobs.lifecycle import has_ended, milestone
from ingot_server.jobs.measurements import count_end
from ingot_server.jobs.outcomes import (
    CircularEntry,
    CircularWait,
    Creation,
    JournalUnrestored,
    LimitReached,
    Orphaned,
    RequestIdReused,
    SingleFlightTaken,
    StillWanted,
    TooManyWebhooks,
)
from ingot_server.jobs.placement import placement
from ingot_server.jobs.position import Version, version
from ingot_server.jobs.stored_record import from_record, to_record
from ingot_server.jobs.webhook_event import webhook_body
from ingot_server.redis import Argument, Redis, unavailable
from ingot_server.redis_schema import SCHEMA_VERSION, other_schema
from ingot_server.tracing.scopes import traceparent

JOB: Final = "job:"
TRAIL: Final = "trail:"
_PARTS: Final = (
    "arguments.lua",
    "permits.lua",
    "running_jobs.lua",
    "dispatch.lua",
    "followers.lua",
    "webhooks.lua",
    "journal.lua",
    "history.lua",
    "callers.lua",
    "askers.lua",
    "requests.lua",
    "children.lua",
    "transition.lua",
)
_OUTCOMES: Final = {
    job_pb2.JOB_STATE_SUCCEEDED: "succeeded",
    job_pb2.JOB_STATE_FAILED: "failed",
    job_pb2.JOB_STATE_CANCELLED: "cancelled",
}


@dataclass(frozen=True, slots=True)
class Record:
    """A job, with what only its worker and the sweep need to know."""

    job: Job
    losses: int
    token: str
    """The fencing token; empty if no worker holds a lease."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that was changed, and what a worker that claimed it needs to know."""

    job: Job
    run: int
    wanted_key: str
    followed: str
    unstored: bool
    bytes_limited: bool
    trace: str
    former_attempt: str


class Transition:
    """The script."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._script = redis.load_script(__package__, *_PARTS)
        self._epoch = 0  # of the store, as it was last heard

    async def call(self, operation: str, job_id: str, **arguments: Argument) -> list[Any]:
        """Call one operation of the script, which documents its arguments and results.

        Raises Failure CACHE_UNAVAILABLE, also if Redis has another schema version than `arguments`.
        """
        result = await self._script.call(operation, job_id, **arguments)
        if result and result[0] == b"other_schema":
            raise other_schema(self._redis, int(result[1]))
        return result

    async def read_record(self, job_id: str) -> Record | None:
        """Return the record of a job, or None if there is none."""
        with unavailable():
            values = await self._redis.hmget(
                self._redis.key(JOB + job_id), ["record", "losses", "token"]
            )
        content, losses, token = cast("list[bytes]", values)
        if content is None:
            return None
        return Record(from_record(content), int(losses), token.decode())

    async def _read(self, job_id: str) -> Job | None:
        record = await self.read_record(job_id)
        return record.job if record is not None else None

    async def parents(self, job_id: str) -> list[str]:
        """Return the ids of the jobs that this job is a child of."""
        key = self._redis.key(JOB + job_id)
        with unavailable():
            parents = await cast("Awaitable[bytes | None]", self._redis.hget(key, "parents"))
        return parents.decode().split() if parents else []

    async def create(
        self, job: Job, single_flight_key: str, arguments: Mapping[str, Argument]
    ) -> Creation:
        """Make a job, or return the one that exists for its entry, request id or key.

        `arguments` are the further ones of the script. A new job is a part of the current span.
        Raises RequestIdReused, Orphaned, CircularEntry, JournalUnrestored, LimitReached or
        TooManyWebhooks.
        """
        trace = traceparent()
        traced: dict[str, Argument] = {"trace": trace} if trace else {}
        outcome, content = await self._create(
            "create", job, single_flight_key, {**arguments, **traced}
        )
        match outcome:
            case b"request_id_reused":
                raise RequestIdReused
            case b"orphaned":
                raise Orphaned
            case b"circular":
                raise CircularEntry
            case b"unrestored":
                raise JournalUnrestored
            case b"used_up":
                raise LimitReached(content[0].decode())
            case b"too_many_webhooks":
                raise TooManyWebhooks
            case b"created":
                return Creation(from_record(content[0]), is_new=True, in_journal=False, trace=trace)
            case _:
                record, group, joined = content
                shared = await self._join(from_record(record), job)
                return Creation(shared, is_new=False, in_journal=bool(group), trace=joined.decode())

    async def _join(self, job: Job, request: Job) -> Job:
        """Return a job that exists with what the caller of `request` wants of it, too."""
        if wishes.joined(job, request) is None:
            return job
        joined = partial(wishes.joined, request=request)
        return await self.change(job.id, joined, keeps_place=1) or job

    async def recreate(
        self, job: Job, single_flight_key: str, arguments: Mapping[str, Argument]
    ) -> bool:
        """Make a job again under its id; return False if it has a record.

        Raises JournalUnrestored if that is too late (`before` in `arguments`).
        """
        outcome, _ = await self._create("recreate", job, single_flight_key, arguments)
        if outcome == b"late":
            raise JournalUnrestored
        return outcome == b"created"

    async def _create(
        self,
        operation: str,
        job: Job,
        single_flight_key: str,
        arguments: Mapping[str, Argument],
    ) -> tuple[bytes, list[bytes]]:
        new = lifecycle.with_fraction(lifecycle.created(job), Job())
        change_id = secrets.token_hex(8)
        while True:
            outcome, *content = await self.call(
                operation,
                new.id,
                **self._describe(new),
                **placement(new),
                **arguments,
                asker=new.requested_by,
                schema=SCHEMA_VERSION,
                change_id=change_id,
                single_flight_key=single_flight_key or new.media.id,
            )
            if outcome != b"epoch":
                return outcome, content
            self._epoch = int(content[0])

    async def change(
        self,
        job_id: str,
        change: Callable[[Job], Job | None],
        seen: Job | None = None,
        passed: Sequence[Job] = (),
        /,
        **arguments: Argument,
    ) -> Job | None:
        """Change a job; return its new record, or None if `change` or a condition refuses.

        `change` may be called several times and must not modify its argument. `seen` is what the
        record probably is; without it the record is read. `passed` are the last versions of states
        and stages that the job has left since: each gets a revision before the new one. Unless
        `arguments` say otherwise, no worker holds the job afterwards. Raises SingleFlightTaken if
        `arguments` move the job to a key that another job holds, CircularWait if they have it
        follow a job that waits for it, StillWanted if they withdraw a caller's wish for a job that
        others want, and JournalUnrestored if they have the lease proved while that is not possible.
        """
        written = await self._change(job_id, change, arguments, seen, passed)
        return written.job if written is not None else None

    async def claim(
        self, job_id: str, change: Callable[[Job], Job | None], **arguments: Argument
    ) -> Claimed | None:
        """Change a job as `change` does."""
        return await self._change(job_id, change, arguments)

    async def _change(
        self,
        job_id: str,
        change: Callable[[Job], Job | None],
        arguments: Mapping[str, Argument],
        seen: Job | None = None,
        passed: Sequence[Job] = (),
    ) -> Claimed | None:
        # All tries use one id: a change whose response was lost must not be made twice.
        change_id = secrets.token_hex(8)
        defaults: dict[str, Argument] = {"deadline": 0, "next_token": ""}
        before = seen
        while True:
            before = before or await self._read(job_id)
            new = change(before) if before is not None else None
            if before is None or new is None:
                return None
            passed_since = [wishes.replaced(before, each) for each in passed]
            *between, new = _numbered(before, [*passed_since, new])
            if new.priority != before.priority:
                defaults["priority"] = new.priority
            outcome, *content = await self.call(
                "change",
                job_id,
                **defaults | dict(arguments) | self._describe(new) | self._pass(between),
                change_id=change_id,
                expected_revision=before.revision,
                milestone=int(milestone(before) != milestone([*between, new][0])),
            )
            match outcome:
                case b"done":
                    record, run, wanted_key, followed, unstored, trace, former, *limits = content
                    if has_ended(new) and not has_ended(before):
                        count_end(new)
                    return Claimed(
                        from_record(record),
                        int(run or 0),
                        (wanted_key or b"").decode(),
                        (followed or b"").decode(),
                        bool(unstored),
                        any(limits),
                        (trace or b"").decode(),
                        (former or b"").decode(),
                    )
                case b"stale":
                    before = None
                case b"epoch":
                    self._epoch = int(content[0])
                case _:
                    _raise_refusal(outcome, content)
                    return None

    async def restore(self, job_id: str, seen: Version) -> Job | None:
        """Return a job that is later than a version that was `seen`; None if it has no record.

        If Redis has lost that version, the record is written again in a later epoch.
        """
        change_id = secrets.token_hex(8)
        while True:
            record = await self.read_record(job_id)
            if record is None or version(record.job) >= seen:
                return record.job if record is not None else None
            [epoch] = await self.call("epoch", "", after=seen.epoch)
            self._epoch = int(epoch)
            new = lifecycle.copy_of(record.job)
            new.revision += 1
            new.epoch = self._epoch
            outcome, *content = await self.call(
                "restore",
                job_id,
                epoch=new.epoch,
                change_id=change_id,
                record=to_record(new),
                revision=new.revision,
                unlisted=int(lifecycle.is_preview(new)),
                expected_revision=record.job.revision,
            )
            match outcome:
                case b"done":
                    return from_record(content[0])
                case b"gone":
                    return None

    def _describe(self, job: Job) -> dict[str, Argument]:
        """Return the arguments for a new record; complete a job that has ended."""
        if has_ended(job):
            job.ClearField("waiting")
            if not job.HasField("end_time"):
                job.end_time.GetCurrentTime()
        job.epoch = self._epoch
        tenant = self._settings.cache_sharing.tenant_of(job.requested_by)
        return {
            **({"tenant": tenant} if tenant else {}),
            "epoch": self._epoch,
            "record": to_record(job),
            "revision": job.revision,
            "state": job.state,
            "ended": int(has_ended(job)),
            "unlisted": int(lifecycle.is_preview(job)),
            "ttl": milliseconds(self._settings.job_ttl),
            **_for_parents(job),
            **self._for_webhooks(job),
        }

    def _pass(self, versions: Sequence[Job]) -> dict[str, Argument]:
        """Return the arguments for versions that come before the new record."""
        records: dict[str, Argument] = {}
        for number, job in enumerate(versions, 1):
            job.epoch = self._epoch
            records[f"passed_{number}"] = to_record(job)
        return {"passed": len(records)} | records if records else {}

    def _for_webhooks(self, job: Job) -> dict[str, Argument]:
        """Return what webhooks send of a job that has ended, and whether the operator's is one."""
        if not has_ended(job) or lifecycle.is_preview(job):
            return {"webhook_body": "", "tells_operator": 0}
        # A part of a job is made again with it, under another id.
        tells_operator = bool(self._settings.webhook_url) and not job.parent_job_id
        return {"webhook_body": webhook_body(job), "tells_operator": int(tells_operator)}


def _raise_refusal(outcome: bytes, content: Sequence[bytes]) -> None:
    """Raise what a change was refused for, unless that is a condition of its caller's."""
    match outcome:
        case b"circular":
            raise CircularWait
        case b"taken":
            raise SingleFlightTaken(content[0].decode())
        case b"wanted":
            priority = job_pb2.JobPriority.ValueType(int(content[1]))
            raise StillWanted(from_record(content[0]), priority)
        case b"unrestored":
            raise JournalUnrestored


def _numbered(before: Job, versions: Sequence[Job]) -> list[Job]:
    """Return the versions that follow `before`, in order, with their revisions and fractions."""
    numbered = [before]
    for job in versions:
        new = lifecycle.with_fraction(job, numbered[-1])
        new.revision = numbered[-1].revision + 1
        numbered.append(new)
    return numbered[1:]


def _for_parents(job: Job) -> dict[str, Argument]:
    """Return what the counts of the job's parents are computed from."""
    progress, stage = job.progress, job.progress.stage
    running = job.state == job_pb2.JOB_STATE_RUNNING and job.HasField("progress")
    return {
        "outcome": _OUTCOMES.get(job.state, ""),
        "cached": int(job.cached and job.state == job_pb2.JOB_STATE_SUCCEEDED),
        "bytes": 0 if job.cached else job.media.blob.size_bytes,
        "progress": f"{stage.bytes_done} {stage.bytes_per_second:.0f} {progress.fraction:.4f}"
        if running
        else "",
    }


def milliseconds(duration: timedelta) -> int:
    """Return a duration as Redis counts time."""
    return round(duration.total_seconds() * 1000)
