"""One URL in, one media out: the sequence of an ingest.

    pick -> catalog -> turn at the source -> the source's way -> probe -> commit

    FETCH           the URL is the file; a page or a manifest goes the way EXTRACT
    EXTRACT         yt-dlp finds the files (extract.py); a list becomes jobs (playlist.py)
    TELEGRAM_POST   yt-dlp finds the file, and Telegram's page says why not (telegram/posts.py)
    TELEGRAM_FILE   Telegram says where the file is (telegram/files.py)
    OBJECT          the file lies in the bucket already (object.py)

A file that is fetched goes up to S3 part by part while it still comes down. Until the commit
nothing of the media can be seen; whatever ends the sequence before it takes the scratch files, the
blob and the unfinished upload away again.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final, assert_never
from urllib.parse import urlsplit

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.egress.host_limits import HostLimits
from ingot_server.errors import Failure
from ingot_server.intake import Missing, missing_of, missing_side_files
from ingot_server.jobs.changes import entered, marked_as_list
from ingot_server.jobs.lease import Lease
from ingot_server.jobs.lifecycle import is_conversion, is_workflow
from ingot_server.pipeline.adopt import ingest_object, ingest_upload
from ingot_server.pipeline.albums import bring_file
from ingot_server.pipeline.attempt import (
    Attempt,
    AttemptResult,
    Expanded,
    FollowJob,
    NotAList,
    Retry,
    Stored,
)
from ingot_server.pipeline.backfill import complete
from ingot_server.pipeline.commit import commit, reporting
from ingot_server.pipeline.convert import convert
from ingot_server.pipeline.describe import check_selection, check_stored, describe, extension
from ingot_server.pipeline.extract import begin_as_media, extract
from ingot_server.pipeline.playlist import names_list
from ingot_server.pipeline.progress import Meter
from ingot_server.pipeline.telegram_posts import bring_post
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.pipeline.workflow import run_workflow
from ingot_server.sources import pick
from ingot_server.sources.source import FetchMethod
from ingot_server.telegram import bot_files as telegram_files
from ingot_server.transfer.download import Downloaded, download
from ingot_server.transfer.headers import ManifestResponse, PageResponse
from ingot_server.transfer.scratch import ScratchFile
from ingot_server.transfer.streaming_upload import StreamingUpload

_NO_MEDIA: Final = frozenset({reason_pb2.REASON_UNSUPPORTED_URL, reason_pb2.REASON_NOT_MEDIA})


class Pipeline:
    """Does the jobs of a worker."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._hosts = HostLimits(context.settings.jobs_per_host)

    async def run(self, job: Job, lease: Lease) -> Stored | Expanded:
        """Run a job of any kind.

        Raises Failure with the reason why it failed, LeaseLost. Safe to repeat.
        """
        if is_conversion(job):
            return await convert(self._context, job, lease)
        if not job.recipes:
            return await self.ingest(job, lease)
        if is_workflow(job) and not await self._names_list(job, lease):
            return Expanded()
        if not await self._expand(job, lease):
            await run_workflow(self._context, lease.job, lease)
        return Expanded()

    async def _names_list(self, job: Job, lease: Lease) -> bool:
        """Runs a workflow; True: it is a list in a list, and the job is to hand that out."""
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
        """Leaves the job to the entries of its list; False when its URL names one media after all.

        The job is no list then. Raises Failure as `ingest` does.
        """
        await lease.update(entered(job_pb2.JOB_STAGE_RESOLVING))
        attempt = Attempt(lease, *pick(job.url, playlist=True), None)
        try:
            async with self._turn(attempt):
                result = await self._fetch(attempt)
        except Failure as failure:
            if failure.reason not in _NO_MEDIA:
                if not failure.deferred:
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
        source, identity = pick(job.url, playlist=job.options.playlist)
        if source.in_bucket:
            result = await self._fetch(Attempt(lease, source, identity, None))
            assert isinstance(result, Stored)
            return result
        await lease.update(entered(job_pb2.JOB_STAGE_RESOLVING))
        while True:
            stored = await self._context.catalog.get(lease.job.media.id)
            attempt = Attempt(lease, source, identity, stored)
            missing = missing_of(job, stored, mutable=attempt.mutable)
            if stored is not None and missing is not Missing.EVERYTHING:
                return Stored(await self._with_side_files(attempt, stored), cached=True)
            result = await self._fetch_permitted(attempt)
            match result:
                case Stored(media, cached):
                    await self._context.catalog.forget_failure(lease.job.media.id)
                    return Stored(await self._with_side_files(attempt, media), cached)
                case Expanded():
                    return result
                case FollowJob(job_id):
                    # Without a permit: the job that is followed may wait for one.
                    followed = await self._context.job_waiter.result(job_id)
                    if followed is not None:
                        return Stored(await self._with_side_files(attempt, followed), cached=True)
                case Retry():
                    pass
                case NotAList():
                    raise AssertionError("only a job that expands lists can get this")
                case _:
                    assert_never(result)

    async def _fetch_permitted(self, attempt: Attempt) -> AttemptResult:
        """Fetch with a permit, and remember a failure in the negative cache."""
        try:
            async with self._turn(attempt):
                return await self._fetch(attempt)
        except Failure as failure:
            if not failure.deferred:
                await self._context.catalog.remember_failure(attempt.job.media.id, failure)
            raise

    async def _with_side_files(self, attempt: Attempt, media: Media) -> Media:
        """`media` with what the job asks for besides, where its source was not asked before."""
        left = missing_side_files(media, attempt.job.options)
        if left is None or not attempt.source.has_side_files:
            return media
        async with self._turn(attempt):
            return await complete(self._context, attempt, media, left)

    @contextlib.asynccontextmanager
    async def _turn(self, attempt: Attempt) -> AsyncIterator[None]:
        """Waits until the source, or a host of the open web, bears one more job.

        The open web is no one source: a site that refuses us says nothing about the others.
        """
        if not attempt.source.throttled_by_host:
            async with self._context.throttle.permit(attempt.source.name, attempt.job.id):
                yield
            return
        host = urlsplit(attempt.identity.url).hostname or ""
        async with self._hosts.acquire(host):
            yield

    async def _fetch(self, attempt: Attempt) -> AttemptResult:
        """Fetch what the attempt names by the method of its source."""
        match attempt.source.fetch_method:
            case FetchMethod.HTTP:
                return await self._fetch_http(attempt)
            case FetchMethod.EXTRACTOR:
                return await extract(self._context, attempt)
            case FetchMethod.TELEGRAM_POST:
                return await bring_post(self._context, attempt, self._receive)
            case FetchMethod.TELEGRAM_FILE:
                return await bring_file(self._context, attempt, self._receive)
            case FetchMethod.OBJECT:
                return await ingest_object(self._context, attempt)
            case FetchMethod.UPLOAD:
                return await ingest_upload(self._context, attempt)
            case method:
                assert_never(method)

    async def _fetch_http(self, attempt: Attempt) -> AttemptResult:
        """Fetch the file behind a URL; extract if the URL is that of a page or a manifest."""
        if attempt.lists_only:
            return await extract(self._context, attempt)
        if attempt.seeks_list or attempt.records:
            return await self._look(attempt)
        try:
            return await self._fetch_file(attempt)
        except PageResponse as page:
            return await self._read_page(attempt, page)

    async def _look(self, attempt: Attempt) -> AttemptResult:
        """Only an extraction tells whether something is a list, or live."""
        try:
            return await extract(self._context, attempt)
        except Failure as failure:
            if failure.reason not in _NO_MEDIA:
                raise
        return await begin_as_media(attempt)

    async def _read_page(self, attempt: Attempt, page: PageResponse) -> AttemptResult:
        try:
            return await extract(
                self._context, attempt, manifest=isinstance(page, ManifestResponse)
            )
        except Failure as failure:
            # The manifest is there: what it names and nobody has is no media that was removed.
            is_hollow = (
                isinstance(page, ManifestResponse)
                and failure.reason == reason_pb2.REASON_MEDIA_DOES_NOT_EXIST
            )
            if failure.reason not in _NO_MEDIA and not is_hollow:
                raise
            if page.reason != reason_pb2.REASON_NOT_MEDIA:
                raise page from failure
            host = urlsplit(attempt.identity.url).hostname or ""
            raise Failure(
                reason_pb2.REASON_NOT_MEDIA,
                f"{host} sends a page, and no audio or video was found in it. "
                "Use the URL of the media file itself.",
                metadata=page.metadata,
            ) from failure

    async def _fetch_file(self, attempt: Attempt) -> Stored:
        """The URL is the file."""
        meter = Meter()
        key = _key(attempt.job, extension(attempt.identity.url))
        async with (
            self._context.scratch.open(attempt.job.id, attempt.job.attempt) as file,
            reporting(attempt.lease, meter),
            StreamingUpload(self._context.blobs, key, file) as upload,
        ):
            await attempt.lease.update(entered(job_pb2.JOB_STAGE_DOWNLOADING))
            self._context.speculative.follow(attempt.job.media.id, file)
            downloaded = await upload.run_alongside(self._download(attempt, file, meter))
            if downloaded is None:
                return await self._confirm(attempt)
            media = await self._probe(attempt, file, upload, downloaded)
            return await self._commit(attempt, media, upload)

    async def _receive(self, attempt: Attempt) -> Stored:
        """Telegram has the file."""
        meter = Meter()
        async with (
            self._context.scratch.open(attempt.job.id, attempt.job.attempt) as file,
            reporting(attempt.lease, meter),
            StreamingUpload(self._context.blobs, _key(attempt.job, ""), file) as upload,
        ):
            await attempt.lease.update(entered(job_pb2.JOB_STAGE_DOWNLOADING))
            self._context.speculative.follow(attempt.job.media.id, file)
            received = await upload.run_alongside(
                telegram_files.receive(
                    attempt.identity,
                    file,
                    egress=self._context.egress,
                    holder=attempt.job.id,
                    upstream=self._context.throttle.proxy_for(attempt.source.name),
                    settings=self._context.settings,
                    progress=meter.advance,
                )
            )
            media = await self._probe(attempt, file, upload, received.downloaded)
            received.describe(media)
            media.ClearField("freshness")
            return await self._commit(attempt, media, upload)

    async def _download(
        self, attempt: Attempt, file: ScratchFile, meter: Meter
    ) -> Downloaded | None:
        egress = self._context.egress.grant(
            attempt.job.id, upstream=self._context.throttle.proxy_for(attempt.source.name)
        )
        try:
            return await download(
                attempt.identity.url,
                file,
                proxy_url=egress.proxy_url,
                settings=self._context.settings,
                freshness=attempt.stored.freshness if attempt.stored is not None else None,
                progress=meter.advance,
            )
        finally:
            egress.revoke()

    async def _probe(
        self, attempt: Attempt, file: ScratchFile, upload: StreamingUpload, downloaded: Downloaded
    ) -> Media:
        """Looks into the file while the last parts go up; answers with the media, complete."""
        await attempt.lease.update(entered(job_pb2.JOB_STAGE_PROBING))
        media = await upload.run_alongside(self._context.prober.probe(file.path))
        check_selection(media, attempt.job.selection)
        await attempt.lease.update(entered(job_pb2.JOB_STAGE_STORING))
        check_stored(await upload.finish(), downloaded)
        blob_url = self._context.blobs.url(upload.key)
        describe(media, attempt.job, attempt.identity, downloaded, blob_url=blob_url)
        return media

    async def _commit(self, attempt: Attempt, media: Media, upload: StreamingUpload) -> Stored:
        await attempt.lease.update(entered(job_pb2.JOB_STAGE_COMMITTING))
        superseding = attempt.job.attempt > 1
        winner = await commit(self._context, media, attempt.stored, upload, superseding=superseding)
        return Stored(winner, cached=False)

    async def _confirm(self, attempt: Attempt) -> Stored:
        """Writes down that the source still has what is stored."""
        assert attempt.stored is not None
        confirmed = Media()
        confirmed.CopyFrom(attempt.stored)
        confirmed.freshness.validate_time.FromDatetime(datetime.now(UTC))
        await attempt.lease.update(entered(job_pb2.JOB_STAGE_COMMITTING))
        media = await self._context.catalog.commit(confirmed, replacing=attempt.stored.etag)
        return Stored(media, cached=media.blob.url == attempt.stored.blob.url)


def _key(job: Job, suffix: str) -> str:
    return f"media/{job.media.id}/{job.id}-{job.attempt}{suffix}"
