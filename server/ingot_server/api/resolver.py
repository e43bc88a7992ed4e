"""Resolve: what is behind a URL, without storing anything.

    URL -> resolve -> stored? refused lately? -> cached result -> one job for all callers -> its end

The job is a preview (`lifecycle.PREVIEW`): it runs on a worker, because only workers have the
extractor and reach sources, with the priority of a person who waits. The call waits for its end,
and the job goes on without the call.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import ResolveRequest, ResolveResponse
from ingot.v1.job_pb2 import IngestOptions, Job
from ingot.v1.media_pb2 import Selection
from ingot_server.api.admission import Admission
from ingot_server.api.named_media import check_own_upload
from ingot_server.api.preflight import Preflight
from ingot_server.api.status import invalid
from ingot_server.config import Settings
from ingot_server.drafts import identified
from ingot_server.errors import Failure
from ingot_server.intake import AlreadyStored, Intake, Refused
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lifecycle import LISTING, PREVIEW
from ingot_server.jobs.previews import Previews, preview_key
from ingot_server.library.catalog import Catalog
from ingot_server.resolve import ResolvedUrl, may_be_list


class Resolver:
    """Finds out what is behind URLs. One object for each API server."""

    def __init__(
        self,
        intake: Intake,
        catalog: Catalog,
        previews: Previews,
        admission: Admission,
        feed: Feed,
        preflight: Preflight | None,
        settings: Settings,
    ) -> None:
        """Without `preflight`, a worker asks the source in any case."""
        self._intake = intake
        self._catalog = catalog
        self._previews = previews
        self._admission = admission
        self._feed = feed
        self._preflight = preflight
        self._settings = settings

    async def resolve(self, request: ResolveRequest) -> ResolveResponse:
        """Return what the URL of the request names. Raises Failure with the reason why not."""
        draft = Job(
            kind=PREVIEW,
            priority=job_pb2.JOB_PRIORITY_HIGH,
            options=request.options if request.options.ByteSize() else None,
        )
        resolved_url = self._resolve(request, draft)
        self._intake.check_destination(resolved_url)
        check_own_upload(resolved_url.identity.url)
        job = identified(draft, resolved_url)
        if resolved_url.source.in_bucket:
            return await self._resolve_object(resolved_url, job)
        await self._refuse_known(resolved_url, job)
        found = await self._previews.get(job) if self._settings.resolve_ttl else None
        if found is None:
            found = await self._ask(job)
        if found.kind != ResolveResponse.KIND_LIST:
            found.media.id, stored = await self._catalog.find(found.media.id)
            found.stored = stored is not None
        return found

    async def list_entries(self, url: str, max_entries: int) -> ResolveResponse:
        """Return the first entries of the list behind `url`, as its source says now.

        Raises Failure with the reason why not: INVALID_REQUEST if the URL names no list.
        """
        draft = Job(
            kind=LISTING,
            priority=job_pb2.JOB_PRIORITY_LOW,
            options=IngestOptions(playlist=True, max_entries=max_entries),
        )
        resolved_url = self._intake.resolve(url, Selection(), draft.options)
        self._intake.check_destination(resolved_url)
        found = await self._ask(identified(draft, resolved_url))
        if found.kind != ResolveResponse.KIND_LIST:
            raise no_list()
        return found

    def _resolve(self, request: ResolveRequest, draft: Job) -> ResolvedUrl:
        """Return what the URL names: a media item, or else a list, which `draft` then asks for."""
        try:
            resolved_url = self._intake.resolve(request.url, request.selection, draft.options)
        except Failure as failure:
            draft.options.playlist = True
            try:
                return self._intake.resolve(request.url, request.selection, draft.options)
            except Failure:
                raise failure from None
        if draft.options.playlist and not may_be_list(resolved_url, request.url):
            draft.options.playlist = False
        return resolved_url

    async def _resolve_object(self, resolved_url: ResolvedUrl, job: Job) -> ResolveResponse:
        """Return what is in a bucket, which needs no worker."""
        decision = await self._intake.decide(resolved_url, job)
        if isinstance(decision, Refused):
            raise decision.failure
        found = ResolveResponse(
            kind=ResolveResponse.KIND_MEDIA,
            media=decision.job.media,
            stored=isinstance(decision, AlreadyStored),
        )
        if found.stored:
            found.size_bytes = found.media.blob.size_bytes
            found.content_type = found.media.blob.content_type
        return found

    async def _refuse_known(self, resolved_url: ResolvedUrl, job: Job) -> None:
        """Raise the Failure that the source gave lately, or gives in a small request."""
        found_id, stored = await self._catalog.find(job.media.id)
        if stored is not None:
            return
        remembered = await self._catalog.remembered_failure(found_id)
        if remembered is not None:
            raise remembered[0]
        if self._preflight is not None:
            await self._preflight.require(replace(resolved_url, media_id=found_id), None)

    async def _ask(self, job: Job) -> ResolveResponse:
        """Have a worker ask the source, together with all callers that want to know the same."""
        limit = self._settings.extraction_timeout
        try:
            async with asyncio.timeout(limit.total_seconds()):
                asked = await self._admission.admit_preview(job, f"preview:{preview_key(job)}")
                async with aclosing(self._feed.watch(asked.id)) as updates:
                    async for update in updates:
                        asked = update
        except TimeoutError as error:
            raise Failure(
                reason_pb2.REASON_STAGE_TIMEOUT,
                f"It took longer than {limit.total_seconds():g} s to find out what is behind the "
                "URL. Call again: the result is kept when it arrives. INGOT_EXTRACTION_TIMEOUT "
                "sets that limit.",
                metadata={"stage": "RESOLVING"},
            ) from error
        except Failure as failure:
            if failure.reason != reason_pb2.REASON_JOB_NOT_FOUND:
                raise
            raise _lost() from failure
        if asked.state == job_pb2.JOB_STATE_FAILED:
            raise Failure.from_status(asked.error)
        found = await self._previews.get(job)
        if found is None:
            raise _lost()
        return found


def no_list() -> Failure:
    """Return the failure of a subscription to something that is no list."""
    problem = "must name a channel, playlist, podcast or feed; ingest a video by itself"
    return invalid({"subscription.url": problem})


def _lost() -> Failure:
    return Failure(
        reason_pb2.REASON_CACHE_UNAVAILABLE, "Redis has lost what the source said. Call again."
    )
