"""The way of pages and manifests: yt-dlp finds what is behind the URL.

resolve -> a list? its entries become jobs
        -> a better identity? stored already, or being made: that -> else the job moves to it
        -> no list, or not live, though it was asked for as such? the job makes the media itself
-> fetch into a scratch folder -> probe -> the file and its side files to S3 -> commit
"""

from __future__ import annotations

import asyncio
import mimetypes
import shutil
from collections.abc import Callable
from pathlib import Path

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Media
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.errors import Failure
from ingot_server.extractor.result import Entries, Resolved
from ingot_server.extractor.session import Session
from ingot_server.intake import requested_side_files
from ingot_server.jobs.changes import entered, extracted_with, identified_as
from ingot_server.jobs.throttle import COOKIES_MAY_HELP
from ingot_server.library.identity import media_id
from ingot_server.library.multipart import StoredBlob
from ingot_server.pipeline.attempt import (
    Attempt,
    AttemptResult,
    Expanded,
    FollowJob,
    NotAList,
    Retry,
    Stored,
)
from ingot_server.pipeline.commit import commit, reporting
from ingot_server.pipeline.describe import (
    check_announced,
    check_duration,
    check_selection,
    check_stored,
    describe,
    describe_extracted,
    name_extension,
)
from ingot_server.pipeline.progress import Meter
from ingot_server.pipeline.side_files import put_side_files
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.sources import pick
from ingot_server.sources.source import Identity
from ingot_server.sources.web import extracted
from ingot_server.transfer.download import Downloaded
from ingot_server.transfer.staged import StagedFile, StagedUploads


async def extract(
    context: WorkerContext, attempt: Attempt, *, manifest: bool = False
) -> AttemptResult:
    """Brings in what yt-dlp finds; None: a list, whose entries do it while the job waits.

    `manifest` says that the URL is known to be one of HLS or DASH. The source's cookies are sent
    only when it says that it wants some.
    """
    cookies = context.throttle.cookies_for(attempt.source.name)
    try:
        return await _extract(context, attempt, "", manifest)
    except Failure as failure:
        if not cookies or failure.reason not in COOKIES_MAY_HELP:
            raise
    return await _extract(context, attempt, cookies, manifest)


async def _extract(
    context: WorkerContext, attempt: Attempt, cookies: str, manifest: bool
) -> AttemptResult:
    job = attempt.job
    options = IngestOptions()
    options.CopyFrom(job.options)
    if not attempt.records:
        options.ClearField("record_duration")
    egress = context.egress.grant(job.id, upstream=context.throttle.proxy_for(attempt.source.name))
    try:
        async with (
            context.scratch.folder(job.id, job.attempt) as folder,
            context.extractor.session(
                attempt.identity.url,
                selection=job.selection,
                options=options,
                proxy_url=egress.proxy_url,
                cookies_file=await copy_cookies(folder, cookies),
                manifest=manifest or attempt.source.is_manifest,
            ) as session,
        ):
            found = await session.resolve()
            if isinstance(found, Resolved):
                if attempt.lists_only:
                    return NotAList()
                if attempt.seeks_list or (attempt.records and not found.is_live):
                    return await begin_as_media(attempt, is_live=found.is_live)
                await attempt.lease.update(extracted_with(found.extraction))
                identity = better_identity(attempt.identity, found)
                known = await adopt(context, attempt, identity)
                return known or await _bring(context, attempt, identity, found, session, folder)
    finally:
        egress.revoke()
    await _add_entries(context, attempt, found)
    return Expanded()


async def copy_cookies(folder: Path, cookies: str) -> str:
    """A copy of the file `cookies` that yt-dlp may write to; the operator's is his. Empty: none."""
    if not cookies:
        return ""
    return str(await asyncio.to_thread(shutil.copyfile, cookies, folder / "cookies"))


async def _add_entries(context: WorkerContext, attempt: Attempt, entries: Entries) -> None:
    """Makes a job for each entry of a list."""
    await context.playlists.ingest_entries(
        entries.urls, attempt.job, attempt.lease, total=entries.total, title=entries.title
    )


def better_identity(asked: Identity, found: Resolved) -> Identity:
    """What the media is called by the source that has it; `asked` where that is no better.

    A source that Ingot knows by itself calls it as that would; any other as its extractor does.
    """
    named = extracted(found.extractor, found.identity, found.page_url)
    if named is None:
        return asked
    if pick(asked.url)[0].has_own_ids:
        return asked
    try:
        source, identity = pick(found.page_url)
    except Failure:
        return named
    return identity if source.has_own_ids else named


async def begin_as_media(attempt: Attempt, *, is_live: bool = False) -> FollowJob | Retry:
    """Has the job make one media itself, as no list; recorded only where it `is_live`."""
    is_recorded = attempt.records and is_live
    target = (
        attempt.job.media.id
        if is_recorded
        else media_id(attempt.identity.key, attempt.job.selection)
    )
    change = identified_as(attempt.identity.media(target), playlist=False)
    active = await attempt.lease.adopt(change)
    return FollowJob(active) if active else Retry()


async def adopt(
    context: WorkerContext, attempt: Attempt, identity: Identity
) -> Stored | FollowJob | None:
    """Moves the job to the identity that was found, and makes the URL an alias of it.

    None: go on with it. A media that is replaced keeps the identity it has.
    """
    target = attempt.name(identity)
    if target == attempt.job.media.id or attempt.stored is not None:
        return None
    active = ""
    stored = await context.catalog.get(target)
    if stored is None:
        moved = attempt.job.media.id != attempt.asked_id
        active = await attempt.lease.adopt(identified_as(identity.media(target)))
        if active and moved:
            # Whom others follow follows nobody, or jobs could follow each other in a circle.
            raise Failure(
                reason_pb2.REASON_SOURCE_FAILED,
                "The page names another media than before. It is extracted anew.",
            )
        stored = await context.catalog.get(target)
    if target == attempt.asked_id:
        await context.catalog.remove_alias(attempt.asked_id)
    else:
        await context.catalog.put_alias(attempt.asked_id, target, source_key=identity.key)
    if stored is not None:
        return Stored(stored, cached=True)
    return FollowJob(active) if active else None


async def _bring(
    context: WorkerContext,
    attempt: Attempt,
    identity: Identity,
    found: Resolved,
    session: Session,
    folder: Path,
) -> Stored:
    """Fetches, probes, stores and commits what was resolved."""
    job, lease = attempt.job, attempt.lease
    check_announced(found, context.settings)
    meter = Meter()
    async with reporting(lease, meter), StagedUploads(context.blobs) as staged_uploads:
        await lease.update(entered(job_pb2.JOB_STAGE_DOWNLOADING))
        if found.size_bytes:
            context.scratch.reserve(folder, found.size_bytes)
        files = folder / "files"
        files.mkdir()
        fetched = await session.fetch(files, _progress(context, meter))
        await lease.update(entered(job_pb2.JOB_STAGE_PROBING))
        stem = f"media/{job.media.id}/{job.id}-{job.attempt}"
        storing = asyncio.create_task(_put(staged_uploads, fetched.path, stem))
        try:
            media = await context.prober.probe(fetched.path)
            check_selection(media, job.selection)
            if not found.is_live:
                check_duration(media, found.duration_seconds)
            await lease.update(entered(job_pb2.JOB_STAGE_STORING))
            staged_file = await storing
        finally:
            await cancel_and_wait(storing)
        _describe(context, attempt, identity, media, staged_file)
        side_files = await put_side_files(context, staged_uploads, stem, fetched.side_files)
        media.side_files.extend(side_files)
        media.sought.extend(requested_side_files(job.options))
        describe_extracted(media, found)
        if not attempt.mutable:
            media.ClearField("freshness")
        await lease.update(entered(job_pb2.JOB_STAGE_COMMITTING))
        winner = await commit(
            context, media, attempt.stored, staged_uploads, superseding=job.attempt > 1
        )
        return Stored(winner, cached=False)


async def _put(staged_uploads: StagedUploads, path: Path, stem: str) -> StagedFile:
    """The file on its way into the bucket while it is probed."""
    suffix = name_extension(path.name)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return await staged_uploads.stage(path, stem + suffix, content_type=kind)


def _describe(
    context: WorkerContext,
    attempt: Attempt,
    identity: Identity,
    media: Media,
    staged_file: StagedFile,
) -> None:
    """Fills a probed media with its identity, its origin and its blob, which is whole."""
    downloaded = Downloaded(
        final_url=identity.url,
        filename="",
        content_type=media.blob.content_type,
        size_bytes=staged_file.file_bytes,
        sha256=staged_file.sha256,
        http_etag="",
        http_last_modified="",
    )
    check_stored(StoredBlob(staged_file.size_bytes, ""), downloaded)
    describe(media, attempt.job, identity, downloaded, blob_url=context.blobs.url(staged_file.key))


def _progress(context: WorkerContext, meter: Meter) -> Callable[[int, int | None], None]:
    def advance(done: int, total: int | None) -> None:
        meter.advance(done, total)
        context.scratch.check_space()

    return advance
