"""One stored media in, another out: the sequence of a conversion.

    slots of the processor -> blob into scratch, made meanwhile -> gate, stored meanwhile -> commit

The result is a media like any other, under an id that follows from its parent's and the recipe; so
it is found again without work, and whatever ends the sequence early leaves nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media, SideFile
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.errors import Failure
from ingot_server.jobs.changes import entered
from ingot_server.jobs.lease import Lease
from ingot_server.library.recipe_formats import format_of
from ingot_server.library.recipes import derived_media, is_current
from ingot_server.pipeline.attempt import Stored
from ingot_server.pipeline.commit import commit
from ingot_server.pipeline.conversion_input import source_file
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.transcode.cover import LARGEST_COVER, prepare_cover
from ingot_server.transcode.ffmpeg_run import OnProgress, TranscodeProgress
from ingot_server.transcode.plan import plan_conversion
from ingot_server.transcode.tags import tags_for
from ingot_server.transcode.transcoder import Transcoded
from ingot_server.transfer.staged import PendingUpload, StagedFile, StagedUploads

# x264 uses every processor there is; all else runs on one.
_ALL: Final = 1 << 16


async def convert(context: WorkerContext, job: Job, lease: Lease) -> Stored:
    """Makes what `job.recipes` says of `job.media.derived_from`; answers as Pipeline.ingest does.

    Raises Failure with the reason why not. Safe to repeat.
    """
    recipe = job.recipes[0]
    parent = await context.catalog.get(job.media.derived_from)
    if parent is None:
        raise Failure(
            reason_pb2.REASON_MEDIA_NOT_FOUND,
            f"The media {job.media.derived_from} is no longer stored. Ingest it again.",
        )
    stored = await context.catalog.get(job.media.id)
    if stored is not None and is_current(stored, parent):
        return Stored(stored, cached=True)
    plan = plan_conversion(recipe, parent)
    on_progress = _progress(lease)
    await lease.update(entered(job_pb2.JOB_STAGE_CONVERTING))
    stem = f"media/{job.media.id}/{job.id}-{job.attempt}"
    async with (
        context.scratch.folder(job.id, job.attempt) as folder,
        _cover(context, parent, recipe, folder) as cover,
    ):
        encoded = await context.speculative.take_encoded(
            parent.blob.sha256, recipe, folder, on_progress
        )
        async with (
            context.slots.acquire(_ALL if plan.video is not None else 1),
            source_file(context, plan, job, folder, on_progress) as (source, meanwhile),
            StagedUploads(context.blobs) as staged_uploads,
            PendingUpload(staged_uploads, stem, content_type=plan.format.content_type) as pending,
        ):
            made = await context.transcoder.transcode(
                plan,
                source,
                folder,
                tags_for(plan, album=job.list_title, cover=await cover),
                encoded=encoded or meanwhile,
                on_progress=on_progress,
                on_output=pending.start,
            )
            await lease.update(entered(job_pb2.JOB_STAGE_STORING))
            staged_file = await pending.finish()
            media = _described(made, staged_file, parent, job, context.blobs.url(staged_file.key))
            await lease.update(entered(job_pb2.JOB_STAGE_COMMITTING))
            superseding = job.attempt > 1
            winner = await commit(context, media, stored, staged_uploads, superseding=superseding)
            return Stored(winner, cached=False)


@asynccontextmanager
async def _cover(
    context: WorkerContext, parent: Media, recipe: Recipe, folder: Path
) -> AsyncIterator[asyncio.Task[bytes]]:
    """The stored thumbnail, made ready while the sound is encoded; empty when there is none.

    It takes no slot: a picture is decoded in no time.
    """
    reading = asyncio.create_task(_read_cover(context, parent, recipe, folder))
    try:
        yield reading
    finally:
        await cancel_and_wait(reading)


async def _read_cover(context: WorkerContext, parent: Media, recipe: Recipe, folder: Path) -> bytes:
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
    """The whole of the new media: its own measures, and what is said of its parent."""
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
    media.blob.url = blob_url
    media.blob.size_bytes = staged_file.file_bytes
    media.blob.sha256 = staged_file.sha256
    for video in media.video:
        video.url = blob_url
    for audio in media.audio:
        audio.url = blob_url
    media.labels.update(job.labels)
    media.create_time.FromDatetime(datetime.now(UTC))
    return media


def _progress(lease: Lease) -> OnProgress:
    def advance(progress: TranscodeProgress) -> None:
        done, total, speed = progress.done_seconds, progress.total_seconds, progress.speed

        def mutate(job: Job) -> None:
            job.progress.speed = speed
            share = min(1.0, done / total) if total else 0.0
            # What is made again of the whole file begins at zero.
            job.progress.fraction = max(job.progress.fraction, share)
            if speed > 0:
                job.progress.eta.FromTimedelta(timedelta(seconds=max(0.0, total - done) / speed))

        lease.note(mutate)

    return advance
