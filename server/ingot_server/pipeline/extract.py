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
from ingot.v1.job_pb2 import IngestOptions, Job
from ingot.v1.media_pb2 import Media
from ingot_server.connections import end
from ingot_server.errors import Failure
from ingot_server.jobs.care import COOKIES_MAY_HELP
from ingot_server.library.identity import media_id
from ingot_server.library.outgoing import StoredBlob
from ingot_server.library.side_files import sought
from ingot_server.pipeline.beside import put_side_files
from ingot_server.pipeline.commit import commit, entering, reporting
from ingot_server.pipeline.describe import (
    check_announced,
    check_duration,
    check_selection,
    check_stored,
    describe,
    describe_extracted,
    name_extension,
)
from ingot_server.pipeline.download import Downloaded
from ingot_server.pipeline.extraction.result import Entries, Resolved
from ingot_server.pipeline.extraction.session import Session
from ingot_server.pipeline.placement import Placed, Placement
from ingot_server.pipeline.progress import Meter
from ingot_server.pipeline.resources import Resources
from ingot_server.pipeline.work import Elsewhere, Ingested, OneMedia, Outcome, Renamed, Work
from ingot_server.sources import pick
from ingot_server.sources.source import Identity
from ingot_server.sources.web import NAME as WEB
from ingot_server.sources.web import extracted


async def extract(resources: Resources, work: Work, *, manifest: bool = False) -> Outcome:
    """Brings in what yt-dlp finds; None: a list, whose entries do it while the job waits.

    `manifest` says that the URL is known to be one of HLS or DASH. The source's cookies are sent
    only when it says that it wants some.
    """
    cookies = resources.care.cookies_for(work.source.name)
    try:
        return await _extract(resources, work, "", manifest)
    except Failure as failure:
        if not cookies or failure.reason not in COOKIES_MAY_HELP:
            raise
    return await _extract(resources, work, cookies, manifest)


async def _extract(resources: Resources, work: Work, cookies: str, manifest: bool) -> Outcome:
    job = work.job
    options = IngestOptions()
    options.CopyFrom(job.options)
    if not work.records:
        options.ClearField("record_duration")
    egress = resources.egress.issue(job.id, upstream=resources.care.proxy_for(work.source.name))
    try:
        async with (
            resources.scratch.folder(job.id, job.attempt) as folder,
            resources.extractor.session(
                work.identity.url,
                selection=job.selection,
                options=options,
                proxy_url=egress.proxy_url,
                cookies_file=await cookie_jar(folder, cookies),
                manifest=manifest or work.source.name == WEB,
            ) as session,
        ):
            found = await session.resolve()
            if isinstance(found, Resolved):
                if work.lists_only:
                    return OneMedia()
                if work.seeks_list or (work.records and not found.is_live):
                    return await begin_as_media(work, is_live=found.is_live)
                await work.lease.update(_extraction(found))
                identity = better_identity(work.identity, found)
                known = await adopt(resources, work, identity)
                return known or await _bring(resources, work, identity, found, session, folder)
    finally:
        egress.revoke()
    await _hand_out(resources, work, found)
    return None


async def cookie_jar(folder: Path, cookies: str) -> str:
    """A copy of the file `cookies` that yt-dlp may write to; the operator's is his. Empty: none."""
    if not cookies:
        return ""
    return str(await asyncio.to_thread(shutil.copyfile, cookies, folder / "cookies"))


async def _hand_out(resources: Resources, work: Work, entries: Entries) -> None:
    """Makes a job for each entry of a list."""
    await resources.playlists.ingest_entries(
        entries.urls, work.job, work.lease, total=entries.total, title=entries.title
    )


def better_identity(asked: Identity, found: Resolved) -> Identity:
    """What the media is called by the source that has it; `asked` where that is no better.

    A source that Ingot knows by itself calls it as that would; any other as its extractor does.
    """
    named = extracted(found.extractor, found.identity, found.page_url)
    if named is None:
        return asked
    if (source := pick(asked.url)[0]) and not source.mutable:
        return asked
    try:
        source, identity = pick(found.page_url)
    except Failure:
        return named
    return named if source.mutable else identity


async def begin_as_media(work: Work, *, is_live: bool = False) -> Elsewhere | Renamed:
    """Has the job make one media itself, as no list; recorded only where it `is_live`."""
    is_recorded = work.records and is_live
    target = work.job.media.id if is_recorded else media_id(work.identity.key, work.job.selection)
    move = _move(target, work.identity)

    def mutate(job: Job) -> None:
        move(job)
        job.options.playlist = False

    active = await work.lease.adopt(mutate)
    return Elsewhere(active) if active else Renamed()


async def adopt(
    resources: Resources, work: Work, identity: Identity
) -> Ingested | Elsewhere | None:
    """Moves the job to the identity that was found, and makes the URL an alias of it.

    None: go on with it. A media that is replaced keeps the identity it has.
    """
    target = work.name(identity)
    if target == work.job.media.id or work.stored is not None:
        return None
    active = ""
    stored = await resources.catalog.get(target)
    if stored is None:
        moved = work.job.media.id != work.asked_id
        active = await work.lease.adopt(_move(target, identity))
        if active and moved:
            # Whom others follow follows nobody, or jobs could follow each other in a circle.
            raise Failure(
                reason_pb2.REASON_SOURCE_FAILED,
                "The page names another media than before. It is extracted anew.",
            )
        stored = await resources.catalog.get(target)
    if target == work.asked_id:
        await resources.catalog.remove_alias(work.asked_id)
    else:
        await resources.catalog.put_alias(work.asked_id, target, source_key=identity.key)
    if stored is not None:
        return stored, True
    return Elsewhere(active) if active else None


async def _bring(
    resources: Resources,
    work: Work,
    identity: Identity,
    found: Resolved,
    session: Session,
    folder: Path,
) -> Ingested:
    """Fetches, probes, stores and commits what was resolved."""
    job, lease = work.job, work.lease
    check_announced(found, resources.settings)
    meter = Meter()
    async with reporting(lease, meter), Placement(resources.blobs) as placement:
        await lease.update(entering(job_pb2.JOB_STAGE_DOWNLOADING))
        if found.size_bytes:
            resources.scratch.expect(folder, found.size_bytes)
        files = folder / "files"
        files.mkdir()
        fetched = await session.fetch(files, _progress(resources, meter))
        await lease.update(entering(job_pb2.JOB_STAGE_PROBING))
        stem = f"media/{job.media.id}/{job.id}-{job.attempt}"
        storing = asyncio.create_task(_put(placement, fetched.path, stem))
        try:
            media = await resources.prober.probe(fetched.path)
            check_selection(media, job.selection)
            if not found.is_live:
                check_duration(media, found.duration_seconds)
            await lease.update(entering(job_pb2.JOB_STAGE_STORING))
            placed = await storing
        finally:
            await end(storing)
        _describe(resources, work, identity, media, placed)
        side_files = await put_side_files(resources, placement, stem, fetched.side_files)
        media.side_files.extend(side_files)
        media.sought.extend(sought(job.options))
        describe_extracted(media, found)
        if not work.mutable:
            media.ClearField("freshness")
        await lease.update(entering(job_pb2.JOB_STAGE_COMMITTING))
        winner = await commit(resources, media, work.stored, placement, superseding=job.attempt > 1)
        return winner, False


async def _put(placement: Placement, path: Path, stem: str) -> Placed:
    """The file on its way into the bucket while it is probed."""
    suffix = name_extension(path.name)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return await placement.put(path, stem + suffix, content_type=kind)


def _describe(
    resources: Resources, work: Work, identity: Identity, media: Media, placed: Placed
) -> None:
    """Fills a probed media with its identity, its origin and its blob, which is whole."""
    downloaded = Downloaded(
        final_url=identity.url,
        filename="",
        content_type=media.blob.content_type,
        size_bytes=placed.file_bytes,
        sha256=placed.sha256,
        http_etag="",
        http_last_modified="",
    )
    check_stored(StoredBlob(placed.size_bytes, ""), downloaded)
    describe(media, work.job, identity, downloaded, blob_url=resources.blobs.url(placed.key))


def _extraction(found: Resolved) -> Callable[[Job], None]:
    def mutate(job: Job) -> None:
        job.extraction.CopyFrom(found.extraction)

    return mutate


def _move(target: str, identity: Identity) -> Callable[[Job], None]:
    def mutate(job: Job) -> None:
        job.media.id = target
        job.media.url = identity.url
        job.media.source.name = identity.source
        job.media.source.key = identity.key
        job.media.source.page_url = identity.page_url

    return mutate


def _progress(resources: Resources, meter: Meter) -> Callable[[int, int | None], None]:
    def advance(done: int, total: int | None) -> None:
        meter.advance(done, total)
        resources.scratch.check()

    return advance
