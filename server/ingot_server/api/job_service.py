"""JobService: reads, watches, cancels and retries jobs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

from ingot.v1 import job_pb2, job_service_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import (
    CancelJobRequest,
    CancelJobResponse,
    CancelJobsRequest,
    CancelJobsResponse,
    GetJobRequest,
    GetJobResponse,
    Heartbeat,
    JobStateCount,
    ListJobsRequest,
    ListJobsResponse,
    RetryJobRequest,
    RetryJobResponse,
    RetryJobsRequest,
    RetryJobsResponse,
    SnapshotEnd,
    WatchJobRequest,
    WatchJobResponse,
    WatchJobsRequest,
    WatchJobsResponse,
)
from ingot_server.api import pagination as page
from ingot_server.api import resume_token
from ingot_server.api.batch import run_batch
from ingot_server.api.cached_jobs import CachedJobs
from ingot_server.api.caller import Caller, Serialized, Service
from ingot_server.api.open_watches import OpenWatches
from ingot_server.api.retries import FAILED, Retries
from ingot_server.api.seen_jobs import seen_by, seen_labels
from ingot_server.api.status import invalid
from ingot_server.api.store_health import Stores
from ingot_server.api.webhook_requests import check_webhook
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.job_filter import FilteringRequest, among, job_filter
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.jobs.outcomes import StillWanted
from ingot_server.jobs.position import Version, version
from ingot_server.jobs.records import Records
from ingot_server.jobs.watched_jobs import ANY_JOB
from ingot_server.journal.writer import JournalWriter

# How many jobs the snapshot of a watch has by default, and at most.
SNAPSHOT_SIZE: Final = 1000
LARGEST_SNAPSHOT: Final = 10_000

_PAGE: Final = 1000
# More would wait for the same connections to Redis.
_ENDS_AT_ONCE: Final = 100

_HEARTBEAT: Final = WatchJobResponse(heartbeat=Heartbeat()).SerializeToString()
_HEARTBEATS: Final = WatchJobsResponse(heartbeat=Heartbeat()).SerializeToString()
_SNAPSHOT_END: Final = WatchJobsResponse(snapshot_end=SnapshotEnd()).SerializeToString()


class JobService(Service):
    """The service of jobs. All watches share the feed of this process.

    The feed passes the same Job object to all its watchers, one after the other. `_serialized` is
    the last one with its response, so that a thousand watchers cost one serialization; and `_event`
    is the last one with its whole response, token included, for the watchers of that job alone.
    """

    descriptor = job_service_pb2.DESCRIPTOR.services_by_name["JobService"]
    needs = Stores.REDIS

    def __init__(
        self,
        records: Records,
        cached: CachedJobs,
        feed: Feed,
        retries: Retries,
        journal: JournalWriter,
        settings: Settings,
        watches: OpenWatches,
    ) -> None:
        self._journal = journal
        self._records = records
        self._cached = cached
        self._retries = retries
        self._feed = feed
        self._settings = settings
        self._watches = watches
        self._serialized: tuple[Job | None, Serialized] = (None, b"")
        self._event: tuple[Job | None, Serialized] = (None, b"")

    async def get_job(self, request: GetJobRequest, caller: Caller) -> GetJobResponse:
        job = await self._get(request.job_id, caller)
        if job.state == job_pb2.JOB_STATE_RUNNING:
            self._feed.watched.look_at(job.id)
        return GetJobResponse(job=seen_by(caller, job))

    async def list_jobs(self, request: ListJobsRequest, caller: Caller) -> ListJobsResponse:
        limit = page.size(request)
        found = await self._records.list(
            limit=limit + 1,
            before=page.start(request),
            accepts=_visible(request, caller),
            among=among(request),
        )
        if any(job.state == job_pb2.JOB_STATE_RUNNING for job in found):
            self._feed.watched.look_at(ANY_JOB)
        jobs, more = page.fitting([seen_by(caller, job) for job in found], limit)
        tenant = "" if caller.is_admin else caller.tenant
        counts = await self._records.count_by_state(tenant)
        return ListJobsResponse(
            jobs=jobs,
            next_page_token=page.token(request, jobs[-1].id) if more else "",
            state_counts=[
                JobStateCount(state=state, count=count) for state, count in counts.items()
            ],
        )

    async def cancel_job(self, request: CancelJobRequest, caller: Caller) -> CancelJobResponse:
        if caller.tenant:
            await self._get(request.job_id, caller)
        withdraws = _withdraws(caller)
        try:
            job = await self._cached.find(request.job_id)
            job = job or await self._cancel(request.job_id, withdraws)
            if not has_ended(job):
                job = await self._cancel_or_wait(job, withdraws)
        except StillWanted as wanted:
            job = wanted.job
        if _is_cancelled(job):
            await self._record_ends([job])
        return CancelJobResponse(job=seen_by(caller, job))

    async def cancel_jobs(self, request: CancelJobsRequest, caller: Caller) -> CancelJobsResponse:
        _require_filters(request)
        matches = _visible(request, caller)
        jobs = await self._all(lambda job: not has_ended(job) and matches(job))
        cancel = partial(self._cancelled_now, withdraws=_withdraws(caller))
        results = await run_batch(jobs, cancel)
        cancelled = [job for job in results if isinstance(job, Job) and _is_cancelled(job)]
        await self._record_ends(cancelled)
        return CancelJobsResponse(cancelled_count=len(cancelled))

    async def retry_job(self, request: RetryJobRequest, caller: Caller) -> RetryJobResponse:
        check_webhook(request, self._settings)
        earlier = await self._retries.earlier(request)
        if earlier is not None:
            return RetryJobResponse(job=earlier)
        job = await self._get(request.job_id, caller)
        caller.require_ownership(job.requested_by, f"The job {job.id}")
        return RetryJobResponse(job=await self._retries.retry(job, request))

    async def retry_jobs(self, request: RetryJobsRequest, caller: Caller) -> RetryJobsResponse:
        _require_filters(request)
        matches = _matching(request, caller)
        states = set(request.states) or {job_pb2.JOB_STATE_FAILED}

        def is_wanted(job: Job) -> bool:
            is_part = job.parent_job_id != request.parent_job_id
            is_own = caller.may_change(job.requested_by)
            return job.state in FAILED & states and not is_part and is_own and matches(job)

        async def retry(job: Job) -> bool:
            await self._retries.retry(job, RetryJobRequest(job_id=job.id))
            return True

        results = await run_batch(await self._all(is_wanted), retry)
        retried = results.count(True)
        return RetryJobsResponse(retried_count=retried, refused_count=len(results) - retried)

    async def _get(self, job_id: str, caller: Caller) -> Job:
        """Return a job that the caller may see. Raises Failure JOB_NOT_FOUND."""
        job = await self._cached.find(job_id) or await self._records.get(job_id)
        if job is None:
            await self._journal.restorer.ensure()
            job = await self._records.get(job_id)
        # A cached job is its media item's.
        if job is None or not caller.may_see(job.requested_by or job.media.owner):
            raise _unknown(job_id)
        return job

    async def _all(self, accepts: Callable[[Job], bool]) -> list[Job]:
        """Return all jobs on record that match, newest first."""
        found: list[Job] = []
        before = ""
        while True:
            jobs = await self._records.list(limit=_PAGE, before=before, accepts=accepts)
            found += jobs
            if len(jobs) < _PAGE:
                return found
            before = jobs[-1].id

    async def _cancelled_now(self, job: Job, withdraws: str) -> Job:
        try:
            return await self._records.cancel(job.id, withdraws=withdraws) or job
        except StillWanted as wanted:
            return wanted.job

    async def _record_ends(self, jobs: Sequence[Job]) -> None:
        """Make cancellations durable before their callers hear of them.

        Raises Failure if the bucket, or Redis, does not take them.
        """
        for begin in range(0, len(jobs), _ENDS_AT_ONCE):
            try:
                await self._journal.record_ends(jobs[begin : begin + _ENDS_AT_ONCE])
            except Failure as failure:
                raise Failure(
                    failure.reason,
                    "What was cancelled has stopped, but this could not be written down, so it may "
                    f"run again if Redis loses data. Cancel it again. {failure.message}",
                    metadata=failure.metadata,
                ) from failure

    async def _cancel(self, job_id: str, withdraws: str) -> Job:
        job = await self._records.cancel(job_id, withdraws=withdraws)
        if job is None:
            await self._journal.restorer.ensure()
            job = await self._records.cancel(job_id, withdraws=withdraws)
        if job is None:
            raise _unknown(job_id)
        return job

    async def _cancel_or_wait(self, job: Job, withdraws: str) -> Job:
        """Wait until a job that is committing has ended, or has lost its worker and is cancelled.

        Either takes less than two lease periods.
        """
        limit = 2 * self._settings.lease
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit.total_seconds()):
                updates = self._feed.watch(job.id, after=version(job))
                async with aclosing(updates):
                    async for update in updates:
                        job = update
                        if not has_ended(job) and job.stage != job_pb2.JOB_STAGE_COMMITTING:
                            job = await self._cancel(job.id, withdraws)
                        if has_ended(job):
                            return job
        raise Failure(
            reason_pb2.REASON_STAGE_TIMEOUT,
            f"The job is writing its result and did not end within {limit.total_seconds():g} s. "
            "Watch it, as it should end soon, or cancel it again.",
            metadata={"stage": "COMMITTING"},
        )

    async def watch_job(
        self, request: WatchJobRequest, caller: Caller
    ) -> AsyncGenerator[Serialized, None]:
        after = resume_token.read_version(request)
        if caller.tenant:
            await self._get(request.job_id, caller)
        watching = self._feed.watched.watching(request.job_id)
        with self._watches.counted(caller), watching:
            async with aclosing(await self._updates(request.job_id, after)) as updates:
                async for job in updates:
                    if job is not None:
                        after = version(job)
                        yield self._event_of(request.job_id, seen_by(caller, job))
                    else:
                        yield _with_token(_HEARTBEAT, request.job_id, after)

    async def _updates(self, job_id: str, after: Version) -> AsyncGenerator[Job | None, None]:
        cached = await self._cached.find(job_id)
        if cached is None:
            return self._feed.watch_with_heartbeats(job_id, after=after)
        return _updates_of(cached, after)

    async def watch_jobs(
        self, request: WatchJobsRequest, caller: Caller
    ) -> AsyncGenerator[Serialized, None]:
        size = min(request.snapshot_size or SNAPSHOT_SIZE, LARGEST_SNAPSHOT)
        resume = resume_token.read_position(request)
        filters = resume_token.filters_of(request)
        with self._watches.counted(caller), self._feed.watched.watching(ANY_JOB):
            updates = self._feed.watch_all(
                _visible(request, caller), size, among=among(request), resume=resume
            )
            async with aclosing(updates):
                async for update in updates:
                    token = resume_token.of_jobs(filters, update.position)
                    event = self._serialize_event(update.event, caller)
                    yield event + WatchJobsResponse(resume_token=token).SerializeToString()

    def _serialize_event(self, event: Job | str | SnapshotEnd | None, caller: Caller) -> Serialized:
        """Return a WatchJobsResponse without its token."""
        if isinstance(event, Job):
            return self._serialize(seen_by(caller, event))
        if isinstance(event, str):
            return WatchJobsResponse(removed_job_id=event).SerializeToString()
        return _SNAPSHOT_END if event is not None else _HEARTBEATS

    def _event_of(self, job_id: str, job: Job) -> Serialized:
        """Return a WatchJobResponse of a watch of `job_id`."""
        if self._event[0] is not job:
            response = WatchJobResponse(job=job).SerializeToString()
            self._event = job, _with_token(response, job_id, version(job))
        return self._event[1]

    def _serialize(self, job: Job) -> Serialized:
        """Return a WatchJobsResponse with a job, and without its token."""
        if self._serialized[0] is not job:
            self._serialized = job, WatchJobsResponse(job=job).SerializeToString()
        return self._serialized[1]


def _with_token(response: Serialized, job_id: str, sent: Version) -> Serialized:
    """Return a WatchJobResponse with its token: fields can be appended to a serialized message."""
    token = resume_token.of_job(job_id, sent)
    return response + WatchJobResponse(resume_token=token).SerializeToString()


def _withdraws(caller: Caller) -> str:
    """Return the name of the caller for whom alone jobs are cancelled; empty if for all callers."""
    return "" if caller.is_admin else caller.name


def _is_cancelled(job: Job) -> bool:
    return job.state == job_pb2.JOB_STATE_CANCELLED


async def _updates_of(ended: Job, after: Version) -> AsyncGenerator[Job | None, None]:
    if version(ended) > after:
        yield ended


def _require_filters(request: CancelJobsRequest | RetryJobsRequest) -> None:
    """Raise Failure INVALID_REQUEST if a request has no filter."""
    if not request.ListFields():
        raise invalid({"states": "must be set if there is no other filter"})


def _visible(
    request: ListJobsRequest | WatchJobsRequest | CancelJobsRequest, caller: Caller
) -> Callable[[Job], bool]:
    """Return the filter of a request, for jobs that the caller may see."""
    matches = _matching(request, caller)
    if not caller.tenant:
        return matches
    return lambda job: matches(job) and caller.may_see(job.requested_by)


def _matching(request: FilteringRequest, caller: Caller) -> Callable[[Job], bool]:
    """Return the filter of a request, which finds a job by the labels that the caller sees."""
    return job_filter(request, partial(seen_labels, caller=caller))


def _unknown(job_id: str) -> Failure:
    return Failure(
        reason_pb2.REASON_JOB_NOT_FOUND,
        f"There is no job {job_id}. The records of ended jobs are removed after a while: check "
        "whether its media item is stored.",
    )
