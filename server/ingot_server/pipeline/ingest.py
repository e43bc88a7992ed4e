"""The sequence of an ingest: one URL in, one media item out.

    pick a source -> catalog -> permit -> fetch method -> landing

    HTTP            the URL is the file (fetch_file.py); a page or a manifest is extracted
    EXTRACTOR       yt-dlp finds the files (extract.py); the entries of a list become jobs
    TELEGRAM_POST   yt-dlp finds the file, and Telegram's page says why not (telegram_ingest.py)
    TELEGRAM_FILE   Telegram sends the file (telegram_ingest.py)
    OBJECT, UPLOAD  the file is in a bucket already (adopt.py)

A fetch method yields a `Received` file, and `Landing` validates, stores, describes and commits it.
A preview asks the same sources with the same permits, and fetches nothing (preview.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from typing import assert_never
from urllib.parse import urlsplit

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job, JobWaiting
from ingot.v1.media_pb2 import Media
from ingot_server.drafts import requested_url
from ingot_server.egress.host_limits import HostLimits
from ingot_server.errors import Failure
from ingot_server.intake import Missing, missing_of, missing_side_files, requested_side_files
from ingot_server.jobs.changes import entered, goes_on, marked_as_list, waits
from ingot_server.jobs.lease import Lease
from ingot_server.jobs.lifecycle import is_conversion, is_preview, is_workflow
from ingot_server.jobs.outcomes import Deferred
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.pipeline.adopt import BucketFetcher
from ingot_server.pipeline.attempt import (
    Attempt,
    AttemptResult,
    Expanded,
    FollowJob,
    NotAList,
    Previewed,
    Retry,
    Stored,
)
from ingot_server.pipeline.await_job import Postponed
from ingot_server.pipeline.backfill import Backfill
from ingot_server.pipeline.convert import convert
from ingot_server.pipeline.extract import ExtractorFetcher
from ingot_server.pipeline.extraction_session import ExtractionSessions
from ingot_server.pipeline.fetch_file import FileFetcher
from ingot_server.pipeline.identification import ingest_as_media
from ingot_server.pipeline.job_egress import JobEgress, require_bytes
from ingot_server.pipeline.landing import Landing
from ingot_server.pipeline.newer_job import require_known
from ingot_server.pipeline.page_response import (
    NO_MANIFEST,
    NO_MEDIA,
    extract_page,
    fetch_misnamed,
)
from ingot_server.pipeline.playlist import names_list
from ingot_server.pipeline.preview import Previewer
from ingot_server.pipeline.telegram_ingest import TelegramFetcher
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.pipeline.workflow import run_workflow
from ingot_server.section.cutter import Cutter
from ingot_server.sources import pick
from ingot_server.sources.source import FetchMethod
from ingot_server.transfer.headers import PageResponse


class Pipeline:
    """Runs the jobs of a worker."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._hosts = HostLimits(context.settings.jobs_per_host)
        catalog, blobs, scratch = context.catalog, context.blobs, context.scratch
        settings = context.settings
        egress = JobEgress(settings, context.egress, context.throttle, context.job_bytes)
        sessions = ExtractionSessions(context.extractor, context.cookie_health, egress, scratch)
        landing = Landing(catalog, blobs, context.prober, settings)
        self._extractor = ExtractorFetcher(
            sessions, context.playlists, landing, catalog, blobs, scratch
        )
        cutter = Cutter(settings)
        self._files = FileFetcher(
            landing, cutter, egress, blobs, scratch, context.speculative, settings
        )
        self._telegram = TelegramFetcher(
            self._extractor, self._files, context.playlists, egress, catalog, settings
        )
        self._bucket = BucketFetcher(landing, catalog, blobs, scratch, settings)
        self._backfill = Backfill(sessions, catalog, blobs)
        self._previewer = Previewer(sessions, egress, settings)

    async def run(self, job: Job, lease: Lease) -> Stored | Expanded | Previewed:
        """Run a job of any kind.

        Raises Failure with the reason why it failed, Deferred, LeaseLost. Safe to repeat.
        """
        if is_preview(job):
            return await self._preview(job, lease)
        require_known(job)
        if not is_workflow(job) and (media := await self._same_media(lease)):
            if is_conversion(job) or job.recipes:
                return Stored(media, cached=True)
            attempt = Attempt(lease, *pick(job.url, playlist=job.options.playlist), None)
            return Stored(await self._with_side_files(attempt, media), cached=True)
        self._context.prober.prepare()  # while the file arrives
        if is_conversion(job):
            return await convert(self._context, job, lease)
        if not job.recipes:
            return await self.ingest(job, lease)
        seeks_list = job.options.playlist or not is_workflow(job)
        if not seeks_list and not await self._names_list(job, lease):
            return Expanded()
        if not await self._expand(job, lease):
            await run_workflow(self._context, lease.job, lease)
        return Expanded()

    async def _names_list(self, job: Job, lease: Lease) -> bool:
        """Run a workflow. Return True if it is a list in a list, which the job is to expand."""
        try:
            await run_workflow(self._context, job, lease)
        except Failure as failure:
            if not (job.parent_job_id and names_list(failure)):
                raise
        else:
            return False
        await lease.detach_children()
        await lease.update(marked_as_list(True))
        return True

    async def _expand(self, job: Job, lease: Lease) -> bool:
        """Leave the job to the entries of its list, and return True.

        Return False if the URL names one media item after all; then the job is not about a list.
        Raises Failure as `ingest` does.
        """
        await lease.update(entered(job_pb2.JOB_STAGE_RESOLVING))
        attempt = Attempt(lease, *pick(requested_url(job), playlist=True), None)
        try:
            async with self._permit(attempt):
                result = await self._fetch(attempt)
        except Failure as failure:
            if failure.reason not in NO_MEDIA:
                await self._context.catalog.remember_failure(lease.job.media.id, failure)
                raise
            result = NotAList()  # a file, or nothing: the ingest reports which
        match result:
            case Expanded():
                return True
            case NotAList():
                await lease.update(marked_as_list(False))
                return False
            case Stored() | FollowJob() | Retry():
                raise AssertionError(f"a job that only expands lists got {result}")
            case _:
                assert_never(result)

    async def ingest(self, job: Job, lease: Lease) -> Stored | Expanded:
        """Store the media item that `job.url` names. The job has no recipes.

        Raises Failure with the reason why not. Safe to repeat: the media id is always the same.
        """
        source, identity = pick(requested_url(job), playlist=job.options.playlist)
        if source.in_bucket:
            result = await self._fetch(Attempt(lease, source, identity, None))
            assert isinstance(result, Stored)
            return result
        await lease.update(entered(job_pb2.JOB_STAGE_RESOLVING))
        catalog = self._context.catalog
        while True:
            stored = await self._stored(lease)
            attempt = Attempt(lease, source, identity, stored)
            missing = missing_of(job, stored, mutable=attempt.mutable)
            if stored is not None and missing is not Missing.EVERYTHING:
                return Stored(await self._with_side_files(attempt, stored.media), cached=True)
            result = await self._fetch_permitted(attempt)
            match result:
                case Stored(media, cached):
                    await catalog.forget_failure(lease.job.media.id)
                    return Stored(await self._with_side_files(attempt, media), cached)
                case Expanded():
                    return result
                case FollowJob(job_id):
                    # Without a permit: the job that is followed may wait for one.
                    followed = await self._follow(lease, job_id)
                    if followed is not None:
                        return Stored(await self._with_side_files(attempt, followed), cached=True)
                case Retry():
                    pass
                case NotAList():
                    raise AssertionError("only a job that expands lists can get this")
                case _:
                    assert_never(result)

    async def _stored(self, lease: Lease) -> Manifest | None:
        """Return what is stored for the job's media item, if it is whole."""
        if lease.unstored:
            return None
        catalog = self._context.catalog
        return await catalog.if_whole(await catalog.get(lease.job.media.id))

    async def _same_media(self, lease: Lease) -> Media | None:
        """Return what the job has made that this one has waited for, or that got its single flight.

        None means that this job makes its media item itself. Raises as `_follow` does.
        """
        if lease.followed and (followed := await self._follow(lease, lease.followed)) is not None:
            return followed
        while other := await lease.take_wanted_key():
            if (followed := await self._follow(lease, other)) is not None:
                return followed
        return None

    async def _follow(self, lease: Lease, job_id: str) -> Media | None:
        """Return the media item that another job makes; None if that makes none.

        If that job does not run here, raises Deferred: this one runs again when that has ended.
        Raises the Failure that the other job failed with.
        """
        same = JobWaiting(cause=JobWaiting.CAUSE_SAME_MEDIA, job_id=job_id)
        lease.note(waits(same))
        try:
            followed = await self._context.job_waiter.result(job_id)
        except Postponed as postponed:
            raise Deferred(same) from postponed
        lease.note(goes_on)
        return followed

    async def _fetch_permitted(self, attempt: Attempt) -> AttemptResult:
        """Fetch with a permit, and remember a failure in the negative cache."""
        try:
            async with self._permit(attempt):
                return await self._fetch(attempt)
        except Failure as failure:
            await self._context.catalog.remember_failure(attempt.job.media.id, failure)
            raise

    async def _with_side_files(self, attempt: Attempt, media: Media) -> Media:
        """Return `media` with the side files that its source was not asked for before."""
        if not (attempt.source.has_side_files and requested_side_files(attempt.job.options)):
            return media
        stored = await self._context.catalog.get(media.id)
        left = missing_side_files(stored, attempt.job.options) if stored is not None else None
        if stored is None or left is None:
            return media
        async with self._permit(attempt):
            return await self._backfill.add_side_files(attempt, stored, left)

    @contextlib.asynccontextmanager
    async def _permit(self, attempt: Attempt) -> AsyncIterator[None]:
        """Hold a permit of the source, or of the host if the source is the open web.

        Raises what `require_bytes` raises.
        """
        await require_bytes(self._context.job_bytes, attempt.lease)
        lease, host = attempt.lease, _host(attempt)

        def on_wait(waiting: JobWaiting) -> None:
            lease.note(waits(waiting))

        def on_host_wait(jobs_ahead: int) -> None:
            cause = JobWaiting.CAUSE_HOST_LIMIT
            on_wait(JobWaiting(cause=cause, host=host, jobs_ahead=jobs_ahead))

        async with (
            self._hosts.acquire(host, on_host_wait)
            if attempt.source.throttled_by_host
            else self._context.throttle.permit(
                attempt.source.name,
                attempt.job.id,
                on_wait,
                parent_id=attempt.job.parent_job_id,
            )
        ):
            lease.note(goes_on)
            yield

    async def _fetch(self, attempt: Attempt) -> AttemptResult:
        """Fetch what the attempt names by the method of its source."""
        match attempt.source.fetch_method:
            case FetchMethod.HTTP:
                return await self._fetch_http(attempt)
            case FetchMethod.EXTRACTOR:
                return await self._extract(attempt)
            case FetchMethod.TELEGRAM_POST:
                return await self._telegram.fetch_post(attempt)
            case FetchMethod.TELEGRAM_FILE:
                return await self._telegram.fetch_file(attempt)
            case FetchMethod.OBJECT:
                return await self._bucket.adopt_object(attempt)
            case FetchMethod.UPLOAD:
                return await self._bucket.ingest_upload(attempt)
            case method:
                assert_never(method)

    async def _extract(self, attempt: Attempt) -> AttemptResult:
        """Extract what is behind a URL; fetch the file if only its name is that of a manifest."""
        try:
            return await self._extractor.fetch(attempt)
        except Failure as failure:
            is_file = attempt.source.is_manifest and failure.reason in NO_MANIFEST
            if not is_file or attempt.lists_only or attempt.seeks_list or attempt.records:
                raise
            return await fetch_misnamed(failure, partial(self._files.fetch_http, attempt))

    async def _fetch_http(self, attempt: Attempt) -> AttemptResult:
        """Fetch the file behind a URL; extract if the URL is that of a page or a manifest."""
        if attempt.lists_only:
            return await self._extractor.fetch(attempt)
        if attempt.seeks_list or attempt.records:
            return await self._extract_first(attempt)
        try:
            return await self._files.fetch_http(attempt)
        except PageResponse as page:

            def extract(is_manifest: bool) -> Awaitable[AttemptResult]:
                return self._extractor.fetch(attempt, is_manifest=is_manifest)

            return await extract_page(page, _host(attempt), extract)

    async def _extract_first(self, attempt: Attempt) -> AttemptResult:
        """Extract, because only that tells whether a URL is that of a list or a live stream."""
        try:
            return await self._extractor.fetch(attempt)
        except Failure as failure:
            if failure.reason not in NO_MEDIA:
                raise
        return await ingest_as_media(attempt)

    async def _preview(self, job: Job, lease: Lease) -> Previewed:
        """Find out what `job.url` names, and store that for Resolve.

        Raises Failure with the reason why an ingest would fail.
        """
        attempt = Attempt(lease, *pick(requested_url(job), playlist=job.options.playlist), None)
        try:
            async with self._permit(attempt):
                found = await self._previewer.preview(attempt)
        except Failure as failure:
            await self._context.catalog.remember_failure(job.media.id, failure)
            raise
        await self._context.previews.put(job, found)
        return Previewed(found.media)


def _host(attempt: Attempt) -> str:
    return urlsplit(attempt.identity.url).hostname or ""
