"""Job records in Redis, the truth about every job. `transition.lua` documents the keys.

Invariants: a revision only grows; a media item has at most one job that has not ended; a RUNNING
job has exactly one fencing token, or waits for its children; only the holder of the token can
change a RUNNING job; a QUEUED job is where `dispatch.lua` says. Redis must not evict keys
(`noeviction`).

Every method raises Failure with CACHE_UNAVAILABLE if Redis cannot be used, and can be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, cast

from google.rpc.status_pb2 import Status

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job, JobWaiting
from ingot_server.caller_limits import NO_LIMITS, CallerLimits
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs import lifecycle, wishes
from ingot_server.jobs.children import Children
from ingot_server.jobs.daily_bytes import DailyBytes
from ingot_server.jobs.dispatch import Dispatch
from ingot_server.jobs.history import History
from ingot_server.jobs.job_bytes import JobBytes
from ingot_server.jobs.job_index import AMONG_ALL, Among, JobIndex
from ingot_server.jobs.job_limits import limit_arguments, limit_reached
from ingot_server.jobs.journal_index import JournalIndex
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.jobs.open_links import OpenLinks
from ingot_server.jobs.outcomes import (
    ChildrenChanged,
    Claim,
    Creation,
    JournalUnrestored,
    LeaseLost,
    LimitReached,
    NothingToDo,
    QueuedAgain,
    Recovery,
    RequestIdReused,
    StillWanted,
    TooManyWebhooks,
)
from ingot_server.jobs.placement import caller_key
from ingot_server.jobs.stored_bytes import StoredBytes
from ingot_server.jobs.stored_record import from_record
from ingot_server.jobs.transition import (
    JOB,
    Transition,
    milliseconds,
)
from ingot_server.jobs.upload_index import UploadIndex
from ingot_server.metrics.definitions import LEASE_LOSSES
from ingot_server.redis import Argument, Redis, unavailable

_REQUEST: Final = "request:"
_PAGE: Final = 200
UNSTORED_SECONDS: Final = 5.0
"""How long it counts that nothing was stored: less than ENDED_LIFETIME in transition.lua."""

# Inside Records, `list` is a method.
Jobs = list[Job]


class Records:
    """The records of all jobs in one Redis. `redis` returns bytes (`decode_responses` is off)."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self.settings = settings
        self._transition = Transition(redis, settings)
        self.dispatch = Dispatch(self._transition, settings)
        self.children = Children(self._transition, settings)
        self.history = History(redis, self._transition)
        self.uploads = UploadIndex(redis, self._transition)
        self.open_links = OpenLinks(redis)
        self.daily_bytes = DailyBytes(redis)
        self.stored_bytes = StoredBytes(redis)
        self.job_bytes = JobBytes(redis)
        self._index = JobIndex(redis)
        self.journal = JournalIndex(redis, self._transition)

    async def create(
        self,
        job: Job,
        *,
        request_id: str = "",
        fingerprint: str = "",
        upload_id: str = "",
        single_flight_key: str = "",
        caller: str = "",
        webhook_url: str = "",
        limits: CallerLimits = NO_LIMITS,
        unstored: bool = False,
        require_restored: bool = False,
    ) -> Creation:
        """Create a job, or return the active job for the same media item.

        Fills in the id, create_time and, if it is unset, the state QUEUED. A job that has ended
        already is only stored. A preview is in no list and no count. Without a `single_flight_key`
        the media id is used; a job whose children make the media item needs its own key. A
        `request_id` that was used before returns the job that it was used for, or raises Failure
        with REQUEST_ID_REUSED if the `fingerprint` of that request was different. An `upload_id`
        returns the job of that upload, unless it has failed. Slots are shared evenly among callers;
        `caller` is the key of this one. Raises Failure with QUOTA_EXCEEDED if it has reached one of
        its `limits` of jobs, queued jobs, bytes received today and bytes stored. `webhook_url` gets
        a delivery when the job ends; raises Failure TOO_MANY_WEBHOOKS if those of others are as
        many as a job may have. `unstored`: the bucket had nothing for the job's media item within
        the last UNSTORED_SECONDS, so the job need not look. With `require_restored`, raises
        JournalUnrestored if Redis may have lost jobs that the journal has.
        """
        arguments: dict[str, Argument] = {
            "caller": caller_key(caller),
            "request_id": request_id,
            "fingerprint": fingerprint,
            "upload_id": upload_id,
            "webhook_urls": webhook_url,
            **limit_arguments(limits),
        }
        if unstored and not single_flight_key:
            arguments["unstored"] = 1
        if require_restored:
            arguments["restored"] = 1
        try:
            return await self._transition.create(job, single_flight_key, arguments)
        except RequestIdReused:
            raise request_id_reused(request_id) from None
        except TooManyWebhooks:
            raise Failure(
                reason_pb2.REASON_TOO_MANY_WEBHOOKS,
                "Other callers of this job have as many webhooks as it may have. Watch the job, or "
                "call again when it has ended.",
            ) from None
        except LimitReached as reached:
            raise limit_reached(reached.name, limits) from None

    async def requested(self, request_id: str, fingerprint: str) -> Job | None:
        """Return the job that `request_id` was used for; None if there is none any more.

        Raises Failure with REQUEST_ID_REUSED if the `fingerprint` of that request was different.
        """
        with unavailable():
            job_id, used_for = await cast(
                "Awaitable[list[bytes | None]]",
                self._redis.hmget(
                    self._redis.key(_REQUEST + request_id), ["job_id", "fingerprint"]
                ),
            )
        job = await self.get(job_id.decode()) if job_id is not None else None
        if job is not None and used_for != fingerprint.encode():
            raise request_id_reused(request_id)
        return job

    async def get(self, job_id: str) -> Job | None:
        """Return a job; None if it has no record."""
        record = await self._transition.read_record(job_id)
        return record.job if record is not None else None

    async def get_many(self, job_ids: Sequence[str]) -> Sequence[Job | None]:
        """Return jobs in the order of their ids; None for each one without a record."""
        with unavailable():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for job_id in job_ids:
                    pipeline.hget(self._redis.key(JOB + job_id), "record")
                contents = await pipeline.execute()
        return [from_record(content) if content else None for content in contents]

    async def list(
        self,
        *,
        limit: int,
        before: str = "",
        accepts: Callable[[Job], bool] = lambda _: True,
        among: Among = AMONG_ALL,
    ) -> Jobs:
        """Return at most `limit` jobs that have a record, newest first.

        `before` is the last id of the previous page. A page with fewer than `limit` is the last.
        All jobs that it `accepts` are `among` those, so that few are found among many.
        """
        found: Jobs = []
        # Most lists accept every job that they read. More are read at once if they do not.
        count = min(limit, _PAGE)
        while len(found) < limit:
            job_ids = await self._index.newest(among, before=before, count=count)
            count = _PAGE
            if not job_ids:
                break
            for job_id, job in zip(job_ids, await self.get_many(job_ids), strict=True):
                if job is None:
                    await self._transition.call("forget", job_id)
                elif accepts(job):
                    found.append(job)
            before = job_ids[-1]
        return found[:limit]

    async def count_by_state(self, tenant: str = "") -> Mapping[job_pb2.JobState.ValueType, int]:
        """Return how many jobs have a record, by state, without states that have none.

        With `tenant`, only those of this one are counted.
        """
        only: dict[str, Argument] = {"tenant": tenant} if tenant else {}
        counts = await self._transition.call("count", "", **only)
        states = sorted(set(job_pb2.JobState.values()) - {job_pb2.JOB_STATE_UNSPECIFIED})
        return {state: count for state, count in zip(states, counts, strict=True) if count}

    async def claim(self, job_id: str, *, worker_id: str = "") -> Claim | None:
        """Claim a queued job: it is RUNNING, leased, and has one more attempt.

        The job takes a slot of the worker `worker_id`, or none if that is empty.

        Returns None if the job cannot be claimed: another worker holds it, it has ended, it has no
        record, or its retry is not due yet.
        """
        token, began = secrets.token_hex(16), time.time_ns()
        try:
            claimed = await self._transition.claim(
                job_id,
                lifecycle.claimed,
                claimable=1,
                token="",
                next_token=token,
                worker=worker_id,
                deadline=milliseconds(self.settings.lease),
            )
        except asyncio.CancelledError:
            # The job may be claimed although the response with its token was lost.
            with contextlib.suppress(LeaseLost, Failure):
                await self.release(job_id, token)
            raise
        if claimed is None:
            return None
        return Claim(
            claimed.job,
            token,
            claimed.run,
            claimed.wanted_key,
            claimed.followed,
            # An earlier run may have stored it.
            unstored=claimed.unstored and claimed.run == 1,
            has_slot=bool(worker_id),
            bytes_limited=claimed.bytes_limited,
            trace=claimed.trace,
            former_attempt=claimed.former_attempt,
            began=began,
        )

    async def renew(
        self, job_id: str, token: str, *, proves: bool = False, attempt_trace: str = ""
    ) -> None:
        """Renew a lease for `settings.lease`. Raises LeaseLost.

        With `proves`, raises Failure CACHE_UNAVAILABLE if Redis may have lost that it was lost.
        `attempt_trace` is what the next attempt of the job finds as the `former_attempt`.
        """
        outcome, *_ = await self._transition.call(
            "renew",
            job_id,
            token=token,
            deadline=milliseconds(self.settings.lease),
            **({"proves": 1} if proves else {}),
            **({"attempt_trace": attempt_trace} if attempt_trace else {}),
        )
        if outcome == b"unrestored":
            raise _unrestored()
        if outcome != b"done":
            raise LeaseLost(f"job {job_id}: the lease is {outcome.decode()}")

    async def write(
        self,
        job: Job,
        token: str,
        *,
        seen: Job | None = None,
        passed: Sequence[Job] = (),
        proves: bool = False,
    ) -> Job:
        """Write the lease holder's `job` and renew the lease; return the new revision.

        `seen` is the last revision that the holder knows, which saves reading it. `passed` are the
        last versions of the stages that the job has left since, which watchers get, too. A job that
        has ended gets its end_time, frees its single-flight key, and expires after
        `settings.job_ttl`. Raises LeaseLost, and with `proves` what `renew` does.
        """
        proof: dict[str, Argument] = {"proves": 1} if proves else {}
        try:
            return await self._change_held(
                job.id,
                token,
                partial(wishes.replaced, by=job),
                seen,
                passed,
                next_token="" if has_ended(job) else token,
                **proof,
            )
        except LeaseLost:
            # The end of a job voids its token, so a repeated call looks for its own result.
            written = await self.get(job.id) if has_ended(job) else None
            if written is None or not lifecycle.same_result(written, job):
                raise
            return written

    async def change_identity(
        self,
        job: Job,
        token: str,
        *,
        seen: Job | None = None,
        passed: Sequence[Job] = (),
        single_flight_key: str = "",
    ) -> Job:
        """Write `job` like `write`, and move its single flight to the key, or else `job.media.id`.

        Raises SingleFlightTaken if another job makes that media item; then nothing has changed.
        Raises LeaseLost.
        """
        return await self._change_held(
            job.id,
            token,
            partial(wishes.replaced, by=job),
            seen,
            passed,
            next_token=token,
            single_flight_key=single_flight_key or job.media.id,
        )

    async def release(
        self,
        job_id: str,
        token: str,
        *,
        waiting: JobWaiting | None = None,
        error: Status | None = None,
        deferred: bool = False,
    ) -> Job:
        """Release a leased job: it is QUEUED, and may be claimed from `waiting.end_time` on.

        Without that time it may be claimed at once. Without `waiting` it waits for a worker.
        `error` says why the attempt failed; None keeps the last one. With `deferred`, nothing has
        failed, so the attempt does not count. The job is ready at that time; one that waits for
        another (CAUSE_SAME_MEDIA) when that has ended. Raises LeaseLost, and CircularWait if the
        other one waits for this.
        """
        follows: dict[str, Argument] = {}
        if waiting is not None and waiting.cause == JobWaiting.CAUSE_SAME_MEDIA:
            follows["follows"] = waiting.job_id
        delay = timedelta(0)
        if waiting is not None and waiting.HasField("end_time"):
            delay = max(waiting.end_time.ToDatetime(UTC) - datetime.now(UTC), delay)
        return await self._change_held(
            job_id,
            token,
            partial(lifecycle.released, waiting=waiting, error=error, deferred=deferred),
            delay=milliseconds(delay),
            deadline=milliseconds(delay),
            **follows,
        )

    async def explain_waiting(self, job: Job) -> Job:
        """Write what a job waits for that was not dispatched, and return it."""
        waiting = await self.dispatch.waiting(job)
        if waiting is None:
            return job
        explain = partial(lifecycle.explained, waiting=waiting)
        return await self._transition.change(job.id, explain, keeps_place=1) or job

    async def fail_unqueued(self, job_id: str, failure: Failure) -> Job | None:
        """End a new job whose message could not be sent; return it, or None if it has no record.

        Its request ids can be used again: a repeated call makes another job. A job that a worker
        has claimed anyway is returned unchanged.
        """
        job = await self._transition.change(
            job_id, partial(lifecycle.unqueued, failure=failure), forget_requests=1
        )
        return job or await self.get(job_id)

    async def cancel(self, job_id: str, *, withdraws: str = "") -> Job | None:
        """End a job as CANCELLED and void its lease; return it, or None if it has no record.

        A job that has ended, or is writing its manifest, is returned unchanged: the commit cannot
        be undone, and ends soon. The children of the job that nobody else wants are cancelled, too.

        `withdraws` is the name of the caller for whom the job is cancelled. If others want it, it
        goes on for them, and StillWanted is raised. Without a name it ends for all.
        """
        condition: dict[str, Argument] = {}
        if withdraws:
            condition = {"withdraws": withdraws, "caller": caller_key(withdraws)}
        try:
            job = await self._transition.change(job_id, lifecycle.cancelled, **condition)
        except StillWanted as wanted:
            raise StillWanted(await self._lower(wanted), wanted.priority) from None
        if job is not None:
            await self.children.cancel_children(job)
        return job or await self.get(job_id)

    async def _lower(self, wanted: StillWanted) -> Job:
        """Return a job with the priority that those who still want it have asked for."""
        lower = partial(wishes.with_priority, priority=wanted.priority)
        return (
            await self._transition.change(
                wanted.job.id, lower, keeps_place=1, wanted_priority=wanted.priority
            )
            or wanted.job
        )

    async def recover(self, job_id: str) -> Recovery:
        """Recover an overdue job that `dispatch.sweep` returned; return what has become of it.

        A RUNNING job has lost its worker. It is ready again, or FAILED with WORKER_LOST if this is
        loss number `settings.worker_losses`. If several processes recover a job at the same time,
        one of them has something to do.
        """
        record = await self._transition.read_record(job_id)
        if record is None:
            await self._transition.call("forget", job_id)
            return NothingToDo()
        if has_ended(record.job):
            await self.children.cancel_children(record.job)
            return NothingToDo()
        if not record.token and record.job.HasField("children"):
            return ChildrenChanged(record.job)
        losses, allowed = record.losses + 1, self.settings.worker_losses
        job = await self._transition.change(
            job_id,
            partial(lifecycle.lost, losses=losses, allowed=allowed),
            overdue=1,
            token=record.token,
            losses=losses,
        )
        if job is not None:
            LEASE_LOSSES.add()
        return QueuedAgain(job) if job is not None and not has_ended(job) else NothingToDo()

    async def _change_held(
        self,
        job_id: str,
        token: str,
        change: Callable[[Job], Job],
        seen: Job | None = None,
        passed: Sequence[Job] = (),
        /,
        **arguments: Argument,
    ) -> Job:
        lease: dict[str, Argument] = {"deadline": milliseconds(self.settings.lease)}
        try:
            job = await self._transition.change(
                job_id, change, seen, passed, **lease | arguments, token=token
            )
        except JournalUnrestored:
            raise _unrestored() from None
        if job is None:
            raise LeaseLost(f"job {job_id}: the lease is lost")
        return job


def _unrestored() -> Failure:
    return Failure(
        reason_pb2.REASON_CACHE_UNAVAILABLE,
        "Redis has lost writes, and is compared with the journal. Try again.",
    )


def request_id_reused(request_id: str) -> Failure:
    """Return the failure of a request id that another request has used.

    What the caller has sent follows its name, see Caller.own_request_id.
    """
    return Failure(
        reason_pb2.REASON_REQUEST_ID_REUSED,
        f"The request id {request_id.rpartition('/')[2]} was used for a different request. "
        "Use a new one.",
    )
