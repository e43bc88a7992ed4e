"""Job records: what is true of every job, kept in Redis. `transition.lua` documents the keys.

What always holds: a revision only grows; a media has at most one job that has not ended; a RUNNING
job has exactly one fencing token, and only who has it can go on with the job; a job that has not
ended stands among the deadlines. The Redis behind it must not evict (`noeviction`).

Every method raises Failure with CACHE_UNAVAILABLE when Redis cannot be used, and can be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from google.rpc.status_pb2 import Status
from redis.asyncio import Redis

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs import lifecycle
from ingot_server.jobs.children import Children
from ingot_server.jobs.lifecycle import copy_of, has_ended, new_job_id
from ingot_server.jobs.transition import (
    JOB_KEY,
    Argument,
    Transition,
    milliseconds,
    unavailable,
)

__all__ = ["RESEND_LIMIT", "LeaseLost", "Records", "new_job_id"]

RESEND_LIMIT: Final = timedelta(minutes=10)

_TRAIL_KEY: Final = "ingot:trail:"
_REQUEST_KEY: Final = "ingot:request:"
_JOBS_KEY: Final = "ingot:jobs"
_READ_AT_ONCE: Final = 200

# Inside Records, `list` is a method.
Jobs = list[Job]


class LeaseLost(Exception):
    """The writer's fencing token is no longer the record's, or the record is gone.

    Whatever the writer still does to the job is refused: it must stop and leave nothing behind.
    """


class Records:
    """The records of all jobs in one Redis. `redis` answers with bytes (`decode_responses` off)."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self.settings = settings
        self._transition = Transition(redis, settings)
        self.children = Children(self._transition, settings)

    async def create(
        self, job: Job, *, request_id: str = "", fingerprint: str = "", slot: str = ""
    ) -> tuple[Job, bool]:
        """The job that makes `job.media.id`: the one under way (False), else `job` itself (True).

        A `slot` stands in the media id's place for a job that leaves the making to its children.

        Fills in id, create_time and, where it has none, the state QUEUED. A job that has ended
        already is only written down. A `request_id` that was used gives the job it was used for;
        with another `fingerprint` it raises Failure with REQUEST_ID_REUSED.
        """
        new = lifecycle.created(job)
        outcome, content = await self._transition.run(
            "create",
            new.id,
            **self._transition.content(new),
            change=secrets.token_hex(8),
            deadline=milliseconds(self.settings.resend_interval),
            media_id=slot or new.media.id,
            request_id=request_id,
            fingerprint=fingerprint,
        )
        if outcome == b"reused":
            raise _reused(request_id)
        return Job.FromString(content), outcome == b"created"

    async def requested(self, request_id: str, fingerprint: str) -> Job | None:
        """The job that `request_id` was used for; None when it was not, or the record is gone.

        Raises Failure with REQUEST_ID_REUSED when it was used with another `fingerprint`.
        """
        with unavailable():
            job_id, used_for = await cast(
                "Awaitable[list[bytes | None]]",
                self._redis.hmget(_REQUEST_KEY + request_id, ["job_id", "fingerprint"]),
            )
        job = await self.get(job_id.decode()) if job_id is not None else None
        if job is not None and used_for != fingerprint.encode():
            raise _reused(request_id)
        return job

    async def get(self, job_id: str) -> Job | None:
        """The job as it stands; None when its record is gone or never was."""
        record = await self._transition.read(job_id)
        return record.job if record is not None else None

    async def read(self, job_ids: Sequence[str]) -> Sequence[Job | None]:
        """Many jobs as they stand, in the order asked; None for records that are gone."""
        with unavailable():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for job_id in job_ids:
                    pipeline.hget(JOB_KEY + job_id, "record")
                contents = await pipeline.execute()
        return [Job.FromString(content) if content else None for content in contents]

    async def changes(self, job_id: str, after_revision: int) -> Jobs | None:
        """What happened to a job after a revision, oldest first, ending with the job as it stands.

        Of each state and stage at least the last revision. Empty when nothing happened, None when
        the record is gone.
        """
        with unavailable():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.lrange(_TRAIL_KEY + job_id, 0, -1)
                pipeline.hget(JOB_KEY + job_id, "record")
                trail, content = await pipeline.execute()
        if content is None:
            return None
        jobs = [Job.FromString(each) for each in [*trail, content]]
        return [job for job in jobs if job.revision > after_revision]

    async def list(
        self,
        *,
        limit: int,
        before: str = "",
        accepts: Callable[[Job], bool] = lambda _: True,
    ) -> Jobs:
        """At most `limit` jobs whose records live, latest first; `before` is the last id seen.

        Fewer than `limit` means that there are no more.
        """
        found: Jobs = []
        while len(found) < limit:
            with unavailable():
                members = await self._redis.zrevrangebylex(
                    _JOBS_KEY, f"({before}" if before else "+", "-", start=0, num=_READ_AT_ONCE
                )
            job_ids = [cast("bytes", member).decode() for member in members]
            if not job_ids:
                break
            for job_id, job in zip(job_ids, await self.read(job_ids), strict=True):
                if job is None:
                    await self._transition.run("forget", job_id)
                elif accepts(job):
                    found.append(job)
            before = job_ids[-1]
        return found[:limit]

    async def claim(self, job_id: str) -> tuple[Job, str] | None:
        """Takes a queued job: RUNNING, one attempt more, leased. Answers with its fencing token.

        None when there is nothing to do: leased by another, ended, gone, or not due yet.
        """
        token = secrets.token_hex(16)

        try:
            job = await self._transition.change(
                job_id,
                lifecycle.claimed,
                due=1,
                token="",
                next_token=token,
                deadline=milliseconds(self.settings.lease),
            )
        except asyncio.CancelledError:
            # It may be taken all the same, and nobody would know of the token.
            with contextlib.suppress(LeaseLost, Failure):
                await self.release(job_id, token, retry_time=None, error=None)
            raise
        return (job, token) if job is not None else None

    async def renew(self, job_id: str, token: str) -> None:
        """Keeps the lease for another `settings.lease`. Raises LeaseLost."""
        outcome, *_ = await self._transition.run(
            "renew", job_id, token=token, deadline=milliseconds(self.settings.lease)
        )
        if outcome != b"done":
            raise LeaseLost(f"job {job_id}: the lease is {outcome.decode()}")

    async def write(self, job: Job, token: str) -> Job:
        """Writes the lease holder's `job` and renews the lease; answers with its new revision.

        A job that has ended gets its end_time, frees its slot and lives on for `settings.job_ttl`.
        Raises LeaseLost.
        """
        try:
            return await self._held(
                job.id, token, lambda _: copy_of(job), next_token="" if has_ended(job) else token
            )
        except LeaseLost:
            # The end voids the token: a repeated call finds its own work.
            written = await self.get(job.id) if has_ended(job) else None
            if written is None or not lifecycle.same_result(written, job):
                raise
            return written

    async def adopt(self, job: Job, token: str) -> Job:
        """Like `write`, and moves the job's single flight to `job.media.id`.

        Raises SlotTaken when another job makes that media; then nothing has changed. Raises
        LeaseLost.
        """
        return await self._held(
            job.id, token, lambda _: copy_of(job), next_token=token, media_id=job.media.id
        )

    async def release(
        self,
        job_id: str,
        token: str,
        *,
        retry_time: datetime | None,
        error: Status | None,
        deferred: bool = False,
    ) -> Job:
        """Puts a leased job back: QUEUED, for anybody from `retry_time` on, None meaning at once.

        `error` says why the attempt failed; None keeps what was there. A `deferred` job had not
        begun, so its attempt does not count. The sweep sends it again.
        Raises LeaseLost.
        """
        delay = max(retry_time - datetime.now(UTC), timedelta(0)) if retry_time else timedelta(0)

        return await self._held(
            job_id,
            token,
            lambda job: lifecycle.released(
                job, retry_time=retry_time, error=error, deferred=deferred
            ),
            delay=milliseconds(delay),
            deadline=milliseconds(delay),
        )

    async def fail_unqueued(self, job_id: str, failure: Failure) -> Job | None:
        """Ends a job, just created, whose message could not be sent. None when its record is gone.

        Its request ids are free again: who repeats the call gets another job. A job that a worker
        has taken all the same is answered as it stands.
        """
        job = await self._transition.change(
            job_id, lambda job: lifecycle.unqueued(job, failure), unasked=1
        )
        return job or await self.get(job_id)

    async def cancel(self, job_id: str) -> Job | None:
        """Ends a job as CANCELLED and voids its lease. None when its record is gone.

        A job that has ended, and one that writes its manifest at this moment, is answered as it
        stands: the commit cannot be taken back, and is over soon. With a job go the children that
        were made for it and that nobody else asked for.
        """
        job = await self._transition.change(job_id, lifecycle.cancelled)
        if job is not None:
            await self.children.cancel_children(job)
        return job or await self.get(job_id)

    async def overdue(self, limit: int) -> Sequence[str]:
        """The ids of at most `limit` jobs for `recover`, longest overdue first.

        Those whose lease ran out, whose retry is due, whose message counts as lost, and whose
        children have changed.
        """
        job_ids = await self._transition.run("overdue", "", limit=limit)
        return [job_id.decode() for job_id in job_ids]

    async def recover(self, job_id: str) -> Job | None:
        """Takes an overdue job up again; answers with it when its message must be sent.

        Or when it is a RUNNING one that waits for its children, which are to be looked after.

        A RUNNING job has lost its worker: it is QUEUED again or, lost for the
        `settings.worker_losses`th time, FAILED with WORKER_LOST. Of several who ask at the same
        time one gets the job, the others None.
        """
        record = await self._transition.read(job_id)
        if record is None:
            await self._transition.run("forget", job_id)
            return None
        if record.job.state == job_pb2.JOB_STATE_QUEUED:
            outcome, *content = await self._transition.run(
                "resend",
                job_id,
                interval=milliseconds(self.settings.resend_interval),
                limit=milliseconds(RESEND_LIMIT),
            )
            return Job.FromString(content[0]) if outcome == b"done" else None
        if has_ended(record.job):
            await self.children.cancel_children(record.job)
            return None
        if not record.token and record.job.HasField("children"):
            return record.job
        losses, allowed = record.losses + 1, self.settings.worker_losses
        job = await self._transition.change(
            job_id,
            lambda job: lifecycle.lost(job, losses=losses, allowed=allowed),
            overdue=1,
            token=record.token,
            losses=losses,
        )
        return job if job is not None and not has_ended(job) else None

    async def _held(
        self,
        job_id: str,
        token: str,
        change: Callable[[Job], Job],
        **arguments: Argument,
    ) -> Job:
        lease: dict[str, Argument] = {"deadline": milliseconds(self.settings.lease)}
        job = await self._transition.change(job_id, change, **lease | arguments, token=token)
        if job is None:
            raise LeaseLost(f"job {job_id}: the lease is lost")
        return job


def _reused(request_id: str) -> Failure:
    return Failure(
        reason_pb2.REASON_REQUEST_ID_REUSED,
        f"The request_id {request_id} was used before for a different request; take a new one.",
    )
