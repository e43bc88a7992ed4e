"""Admission of jobs: one record each, then a message to a worker that has a slot for it.

The call is answered when the journal has the job, too; the job does not wait for that.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeAlias, assert_never

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import (
    CompleteUploadRequest,
    ConvertRequest,
    CreateUploadUrlRequest,
    IngestRequest,
    UploadHeader,
)
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import RetryJobRequest
from ingot_server.api.caller import CALLER
from ingot_server.api.seen_jobs import seen_by
from ingot_server.api.webhook_requests import webhook_of
from ingot_server.caller_limits import CallerLimits
from ingot_server.drafts import flight_key, requested_url
from ingot_server.intake import AlreadyStored, Decision, Missing, Needed, Refused
from ingot_server.jobs.dispatch import Dispatcher
from ingot_server.jobs.journal_index import Accepted
from ingot_server.jobs.lifecycle import copy_of
from ingot_server.jobs.outcomes import Creation, JournalUnrestored
from ingot_server.jobs.placement import Work, work_of
from ingot_server.jobs.queue import Queue
from ingot_server.jobs.records import UNSTORED_SECONDS, Records
from ingot_server.journal.writer import JournalWriter
from ingot_server.library.shared_calls import SharedCalls
from ingot_server.metrics.definitions import CACHE_REQUESTS
from ingot_server.sources import pick
from ingot_server.tracing import scopes

Request: TypeAlias = (
    IngestRequest
    | ConvertRequest
    | RetryJobRequest
    | UploadHeader
    | CreateUploadUrlRequest
    | CompleteUploadRequest
)
"""All have a request_id."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """What all calls have in common of which one is enough: the job, and whose it is."""

    job: bytes
    receives: bool
    caller_key: str
    caller_name: str
    limits: CallerLimits
    unstored_since: float | None = field(compare=False)
    """That of the first of the calls."""


@dataclass(frozen=True, slots=True)
class _Admitted:
    """The job that a call has got."""

    job: Job
    trace: str
    """What has made the job, as in Creation."""


class Admission:
    """Creates jobs, at most one for each `request_id`.

    Each method that takes a request returns the earlier job of its `request_id`, and raises Failure
    with REQUEST_ID_REUSED if another request used that. With an `upload_id`, it returns the job of
    that upload if there is one that has not failed.
    """

    def __init__(self, records: Records, queue: Queue, journal: JournalWriter) -> None:
        self._records = records
        self._journal = journal
        self._dispatcher = Dispatcher(records.dispatch, queue)
        self._admitting: set[asyncio.Task[_Admitted]] = set()
        self._wishes = SharedCalls(self._fulfil)

    async def close(self) -> None:
        """Wait for the jobs that are being created, also for callers that hung up."""
        await self._wishes.close()
        if self._admitting:
            await asyncio.wait(self._admitting)

    async def earlier(self, request: Request) -> Job | None:
        """Return the job that an earlier call with the same request_id got, however it ended."""
        if not request.request_id:
            return None
        job = await self._records.requested(_request_id(request), _fingerprint(request))
        if job is not None:
            await self._ensure_entry(job, request)
        return _seen(job)

    async def of_upload(self, upload_id: str) -> Job | None:
        """Return the last job of an upload, however it ended; None if it has no record."""
        job = await self._records.uploads.job(upload_id)
        if job is not None:
            await self._journal.ensure(job, upload_id=upload_id)
        return _seen(job)

    async def forget_upload(self, upload_id: str) -> None:
        """Forget the job of an upload, so that it can get another one."""
        await self._records.uploads.forget(upload_id)

    async def carry_out(
        self, decision: Decision, request: Request, *, upload_id: str = ""
    ) -> Job | AlreadyStored:
        """Return the job that a decision leads to. Raises the Failure of a refusal.

        If everything is stored and there is neither a `request_id` nor an `upload_id` to remember,
        nor a webhook, returns just that: its job is a cached one (`cached_jobs.py`), which is not
        written down.
        """
        match decision:
            case AlreadyStored():
                CACHE_REQUESTS.add("hit")
                if not (request.request_id or upload_id or webhook_of(request)):
                    return decision
                return await self.record(decision.job, request, upload_id=upload_id)
            case Refused(failure=failure):
                if failure.treatment.cached_for:
                    CACHE_REQUESTS.add("negative_hit")
                raise failure
            case Needed(job, missing, unstored_since=unstored_since):
                return await self.admit(
                    job,
                    request,
                    upload_id=upload_id,
                    receives=missing is not Missing.CONVERSIONS,
                    unstored_since=unstored_since,
                )
            case _:
                assert_never(decision)

    async def admit(
        self,
        job: Job,
        request: Request,
        *,
        upload_id: str = "",
        receives: bool = True,
        unstored_since: float | None = None,
    ) -> Job:
        """Create the job and dispatch it if it may run, also if its caller hangs up meanwhile.

        Returns the running job for the same media item instead, if there is one. The journal has
        the job then. Calls of one caller that ask for the same at the same time share what one of
        them does. Raises Failure STORAGE_UNAVAILABLE if the bucket does not take it; the job may
        run all the same, and a call with the same `request_id` returns it. Raises QUOTA_EXCEEDED if
        the caller has reached a limit; that of the bytes of a day counts only for a job that
        `receives` some, from a source outside the bucket. `unstored_since` is that of `Needed`.
        """
        job = _requested(job)
        job.state = job_pb2.JOB_STATE_QUEUED
        if request.request_id or upload_id or webhook_of(request):
            creating = self._create_and_enter(job, request, upload_id, receives, unstored_since)
            return self._got(await self._finish(creating))
        caller, content = CALLER.get(), job.SerializeToString(deterministic=True)
        wish = _Wish(content, receives, caller.key, caller.name, caller.limits, unstored_since)
        return self._got(await self._wishes.get(wish))

    def _got(self, admitted: _Admitted) -> Job:
        """Return the job as the caller sees it. Its trace is linked, if another call made it."""
        scopes.link(admitted.trace)
        return seen_by(CALLER.get(), admitted.job)

    async def _fulfil(self, wish: _Wish) -> _Admitted:
        job = Job.FromString(wish.job)
        # Nothing else of a request matters.
        creating = self._create_and_enter(
            job, IngestRequest(), "", wish.receives, wish.unstored_since
        )
        return await self._finish(creating)

    async def admit_preview(self, job: Job, single_flight_key: str) -> Job:
        """Create the job of a preview as `admit` does, or return the one that runs."""
        admitted = await self._finish(self._create_preview(job, single_flight_key))
        scopes.link(admitted.trace)
        return admitted.job

    async def record(self, job: Job, request: Request, *, upload_id: str = "") -> Job:
        """Create the record of a job that has already ended.

        If it has a webhook, the journal has it then. Raises Failure as `admit` does.
        """
        creation = await self._create(_requested(job), request, upload_id)
        if creation.is_new and (webhook_of(request) or self._records.settings.webhook_url):
            await self._journal.record_ends([creation.job])
        elif not creation.is_new and not creation.in_journal:
            await self._ensure_entry(creation.job, request, upload_id)
        return seen_by(CALLER.get(), creation.job)

    async def _create(
        self,
        job: Job,
        request: Request,
        upload_id: str,
        *,
        receives: bool = False,
        unstored_since: float | None = None,
    ) -> Creation:
        limits = _limits(job, receives=receives and _has_outside_source(job))
        while True:
            try:
                return await self._records.create(
                    job,
                    request_id=_request_id(request),
                    fingerprint=_fingerprint_if_needed(request),
                    upload_id=upload_id,
                    single_flight_key=flight_key(job),
                    caller=CALLER.get().key,
                    limits=limits,
                    webhook_url=webhook_of(request),
                    unstored=unstored_since is not None
                    and asyncio.get_running_loop().time() < unstored_since + UNSTORED_SECONDS,
                    require_restored=True,
                )
            except JournalUnrestored:
                # One of the lost jobs may be the one that this call is about.
                await self._journal.restorer.ensure()

    async def _finish(self, admitting: Coroutine[Any, Any, _Admitted]) -> _Admitted:
        """Return the result of a coroutine, which goes on if the caller hangs up."""
        task = asyncio.create_task(admitting)
        self._admitting.add(task)
        task.add_done_callback(self._admitted)
        return await asyncio.shield(task)

    async def _create_preview(self, job: Job, single_flight_key: str) -> _Admitted:
        caller = CALLER.get()
        creation = await self._records.create(
            _requested(job),
            single_flight_key=single_flight_key,
            caller=caller.key,
            limits=dataclasses.replace(caller.limits, stored_bytes=0),
        )
        return _Admitted(await self._dispatch(creation), creation.trace)

    async def _create_and_enter(
        self,
        job: Job,
        request: Request,
        upload_id: str,
        receives: bool,
        unstored_since: float | None,
    ) -> _Admitted:
        creation = await self._create(
            job, request, upload_id, receives=receives, unstored_since=unstored_since
        )
        CACHE_REQUESTS.add("new" if creation.is_new else "joined")
        entering = asyncio.create_task(self._enter(creation, request, upload_id))
        try:
            dispatched = await self._dispatch(creation)
        finally:
            await asyncio.wait([entering])
            failed = entering.exception()
        if failed is not None:
            raise failed
        return _Admitted(dispatched, creation.trace)

    async def _enter(self, creation: Creation, request: Request, upload_id: str) -> None:
        job, webhook = creation.job, webhook_of(request)
        if creation.is_new:
            await self._journal.enter(
                Accepted(
                    job,
                    CALLER.get().key,
                    flight_key(job) or job.media.id,
                    request_id=_request_id(request),
                    fingerprint=_fingerprint_if_needed(request),
                    upload_id=upload_id,
                    webhook_urls=(webhook,) if webhook else (),
                    trace=creation.trace,
                )
            )
        elif not creation.in_journal:
            await self._ensure_entry(job, request, upload_id)

    async def _ensure_entry(self, job: Job, request: Request, upload_id: str = "") -> None:
        await self._journal.ensure(
            job,
            request_id=_request_id(request),
            fingerprint=_fingerprint_if_needed(request),
            upload_id=upload_id,
        )

    async def _dispatch(self, creation: Creation) -> Job:
        job = creation.job
        if creation.is_new:
            done = await self._dispatcher.run(work_of(job))
            if failure := done.unsent.get(job.id):
                await self._records.fail_unqueued(job.id, failure)
                raise failure
            if job.id not in done.sent:
                return await self._records.explain_waiting(job)
        return job

    def _admitted(self, admitting: asyncio.Task[_Admitted]) -> None:
        self._admitting.discard(admitting)
        # Retrieve the exception, or asyncio logs it if the caller is gone. The job has it too.
        _ = admitting.cancelled() or admitting.exception()


def _seen(job: Job | None) -> Job | None:
    return seen_by(CALLER.get(), job) if job is not None else None


def _requested(job: Job) -> Job:
    """Return a copy of a draft that says who asks for the job."""
    requested = copy_of(job)
    requested.requested_by = job.requested_by or CALLER.get().name
    return requested


def _limits(job: Job, *, receives: bool) -> CallerLimits:
    """Return the limits of the caller that count for a job.

    What an administrator has made of the media of a tenant is the tenant's.
    """
    caller, limits = CALLER.get(), CALLER.get().limits
    if not receives:
        limits = dataclasses.replace(limits, daily_bytes=0)
    if not caller.name or job.requested_by != caller.name:
        limits = dataclasses.replace(limits, stored_bytes=0)
    return limits


def _has_outside_source(job: Job) -> bool:
    """Return whether the source of the job's URL is outside the bucket."""
    source, _ = pick(requested_url(job), playlist=job.options.playlist)
    return work_of(job) is Work.FETCH and not source.in_bucket


def _request_id(request: Request) -> str:
    return CALLER.get().own_request_id(request.request_id)


def _fingerprint_if_needed(request: Request) -> str:
    return _fingerprint(request) if request.request_id else ""


def _fingerprint(request: Request) -> str:
    """Return a hash of everything in a request except its request_id."""
    compared = type(request)()
    compared.MergeFrom(request)  # type: ignore[arg-type]
    compared.ClearField("request_id")
    kind = compared.DESCRIPTOR.name.encode()
    return hashlib.sha256(kind + compared.SerializeToString(deterministic=True)).hexdigest()
