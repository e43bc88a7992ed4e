"""Converts one stored media item into another.

    acquire slots -> blob into scratch, encoded meanwhile -> validate, uploaded meanwhile -> commit

The id of the result follows from its parent's id and the recipe, so a conversion that is stored is
found again without work. A conversion that ends early leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job, JobWaiting
from ingot.v1.media_pb2 import Blob, Media, SideFile
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.extractor.result import FetchedSideFile
from ingot_server.jobs.changes import converted, entered, goes_on, waits
from ingot_server.jobs.lease import Lease
from ingot_server.library.bounds import bound
from ingot_server.library.damage import refuse_damaged
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.recipe_formats import FormatKind, format_of
from ingot_server.library.recipes import derived_media
from ingot_server.log_events import Event
from ingot_server.pipeline.attempt import Stored, blob_stem
from ingot_server.pipeline.commit import commit
from ingot_server.pipeline.conversion_input import source_file
from ingot_server.pipeline.description import set_blob
from ingot_server.pipeline.side_files import sheet_name, stage_side_files
from ingot_server.pipeline.transcribe import make_transcript
from ingot_server.pipeline.validation import check_stored
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.transcode.cover import LARGEST_COVER, prepare_cover
from ingot_server.transcode.ffmpeg_run import OnProgress, TranscodeProgress
from ingot_server.transcode.plan import Plan, plan_conversion
from ingot_server.transcode.tags import tags_for
from ingot_server.transcode.transcoder import Transcoded
from ingot_server.transfer.staged import PendingUpload, StagedFile, StagedUploads

logger = EventLogger(__name__)

# Encoders and decoders of video use every processor; everything else runs on one.
_ALL_SLOTS: Final = 1 << 16
# Fields of Media that a result has from its parent, as they are there.
_INHERITED: Final = frozenset({"title", "description", "tags", "uploader", "thumbnail_url"})


async def convert(context: WorkerContext, job: Job, lease: Lease) -> Stored:
    """Convert `job.media.derived_from_media_id` by the job's recipe, and return the result.

    If the parent is replaced meanwhile, so that its file is gone, its new version is converted.
    Safe to repeat. Raises MEDIA_NOT_FOUND if the parent is gone, MEDIA_DAMAGED, INVALID_REQUEST if
    the parent does not have what the recipe needs, QUOTA_EXCEEDED if the caller of the job has no
    bytes left to store, and what `source_file`, the transcoder and the commit raise.
    """
    parent_id = job.media.derived_from_media_id
    while True:
        manifest = await context.catalog.get(parent_id, damaged=True)
        if manifest is None:
            raise Failure(
                reason_pb2.REASON_MEDIA_NOT_FOUND,
                f"The media item {parent_id} is no longer stored. Ingest it again.",
            )
        refuse_damaged(manifest)
        try:
            return await _convert(context, job, lease, manifest.media)
        except Failure as failure:
            current = await context.catalog.get(parent_id, damaged=True)
            if current is None or current.media.blob.url == manifest.media.blob.url:
                raise
            logger.info(
                Event.PARENT_REPLACED,
                "the parent of job %s was replaced: %s",
                job.id,
                failure.message,
                job_id=job.id,
                reason=failure.reason,
            )


async def _convert(context: WorkerContext, job: Job, lease: Lease, parent: Media) -> Stored:
    recipe = job.recipes[0]
    current = await context.catalog.conversion(parent, recipe)
    if current is not None:
        return Stored(current.media, cached=True)
    await context.job_bytes.require(job.id, receives=False)
    stored = await context.catalog.get(job.media.id)
    plan = plan_conversion(recipe, parent)
    await lease.update(entered(job_pb2.JOB_STAGE_CONVERTING))
    stem = blob_stem(lease, job.media.id)
    async with (
        context.scratch.folder(job.id, job.attempt) as folder,
        StagedUploads(context.blobs) as staged_uploads,
        PendingUpload(staged_uploads, stem, content_type=plan.format.content_type) as pending,
    ):
        if plan.format.kind is FormatKind.TRANSCRIPT:
            made = await _transcribe(context, plan, job, lease, folder)
            pending.start(made.path)
        else:
            made = await _transcode(context, plan, job, lease, folder, stem, pending)
        await lease.update(entered(job_pb2.JOB_STAGE_STORING))
        staged_file = await pending.finish()
        check_stored(staged_file)
        media = _described(made, staged_file, parent, job, context.blobs.url(staged_file.key))
        sheets = [FetchedSideFile(path, SideFile.KIND_STORYBOARD) for path in made.sheets]
        media.side_files.extend(await stage_side_files(context.blobs, staged_uploads, stem, sheets))
        winner = await commit(
            context.catalog,
            context.blobs,
            Manifest(media=media),
            staged_uploads,
            lease,
            stored=stored,
        )
        return Stored(winner, cached=False)


async def _transcode(
    context: WorkerContext,
    plan: Plan,
    job: Job,
    lease: Lease,
    folder: Path,
    stem: str,
    pending: PendingUpload,
) -> Transcoded:
    """Make the result of the plan in `folder`, and begin to upload it under a key from `stem`."""
    recipe, parent, on_progress = job.recipes[0], plan.media, _report_to(lease)
    async with _cover(context, parent, recipe, folder) as cover:
        encoded = await context.speculative.take_encoded(
            parent.blob.sha256, recipe, folder, on_progress
        )
        async with (
            _slots(context, lease, _ALL_SLOTS if plan.takes_all_processors else 1),
            source_file(context, plan, job, folder, on_progress) as source,
        ):
            return await context.transcoder.transcode(
                plan,
                source.path,
                folder,
                tags_for(plan, album=job.list_title, cover=await cover),
                encoded=encoded or source.encoded,
                on_progress=on_progress,
                on_output=pending.start,
                sheet_name=partial(sheet_name, stem),
            )


async def _transcribe(
    context: WorkerContext, plan: Plan, job: Job, lease: Lease, folder: Path
) -> Transcoded:
    async with _slots(context, lease, 1):
        return await make_transcript(context, plan, job, folder, _report_to(lease))


@asynccontextmanager
async def _slots(context: WorkerContext, lease: Lease, cost: int) -> AsyncIterator[None]:
    """Hold slots for ffmpeg; while all are in use, the job says that it waits.

    A conversion that was dispatched has its slot already: nothing of it waits here.
    """
    if lease.has_slot:
        yield
        return

    def on_wait(jobs_ahead: int) -> None:
        cause = JobWaiting.CAUSE_CONVERSION_LIMIT
        lease.note(waits(JobWaiting(cause=cause, jobs_ahead=jobs_ahead)))

    async with context.slots.acquire(cost, on_wait):
        lease.note(goes_on)
        yield


@asynccontextmanager
async def _cover(
    context: WorkerContext, parent: Media, recipe: Recipe, folder: Path
) -> AsyncIterator[asyncio.Task[bytes]]:
    """Prepare the cover while the audio is encoded. Decoding an image is quick, so no slot is used.

    The task returns the image, or empty bytes if there is none.
    """
    preparing = asyncio.create_task(_stored_thumbnail(context, parent, recipe, folder))
    try:
        yield preparing
    finally:
        await cancel_and_wait(preparing)


async def _stored_thumbnail(
    context: WorkerContext, parent: Media, recipe: Recipe, folder: Path
) -> bytes:
    if not format_of(recipe).has_cover:
        return b""
    for file in parent.side_files:
        if file.kind == SideFile.KIND_THUMBNAIL and file.size_bytes < LARGEST_COVER:
            path = folder / "thumbnail"
            content = [
                data
                async for data in context.blobs.read_object(
                    context.blobs.key(file.url), offset=0, limit=file.size_bytes
                )
            ]
            await asyncio.to_thread(path.write_bytes, b"".join(content))
            return await prepare_cover(path, folder, context.ffmpeg)
    return b""


def _described(
    made: Transcoded, staged_file: StagedFile, parent: Media, job: Job, blob_url: str
) -> Media:
    """Return the media item of the result: its own measurements and the parent's metadata."""
    media = derived_media(parent, job.recipes[0])
    media.MergeFrom(made.media)
    media.derived_from_sha256 = parent.blob.sha256
    media.title = parent.title
    media.description = parent.description
    media.tags.extend(parent.tags)
    media.uploader = parent.uploader
    if parent.HasField("publish_time"):
        media.publish_time.CopyFrom(parent.publish_time)
    media.thumbnail_url = parent.thumbnail_url
    set_blob(
        media, Blob(url=blob_url, size_bytes=staged_file.file_bytes, sha256=staged_file.sha256)
    )
    media.labels.update(job.labels)
    media.create_time.FromDatetime(datetime.now(UTC))
    media.truncated_fields.extend(_INHERITED & set(parent.truncated_fields))
    bound(media)
    return media


def _report_to(lease: Lease) -> OnProgress:
    def report(progress: TranscodeProgress) -> None:
        lease.note(converted(progress.done_seconds, progress.total_seconds, speed=progress.speed))

    return report
