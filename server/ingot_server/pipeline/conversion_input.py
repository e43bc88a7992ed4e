"""The file that a conversion reads: kept by its workflow, or fetched from the bucket.

    kept:            its early conversion is waited for
    in the bucket:   blob into scratch, and ffmpeg is fed with what has arrived so far

Not every file can be read as a stream. If ffmpeg refuses it, or validation does later
(transcode/transcoder.py), it is converted again from the whole file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.library.damage import media_damaged, report_damage, wrong_content
from ingot_server.log_events import Event
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.transcode.ffmpeg_run import EncodedFile, OnProgress
from ingot_server.transcode.plan import Plan, can_begin_early
from ingot_server.transcode.transcoder import Transcoder
from ingot_server.transfer.scratch import ScratchFile

logger = EventLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConversionInput:
    """The whole source file, and what ffmpeg made of it while it arrived; None if nothing."""

    path: Path
    encoded: EncodedFile | None


@asynccontextmanager
async def source_file(
    context: WorkerContext, plan: Plan, job: Job, folder: Path, on_progress: OnProgress
) -> AsyncIterator[ConversionInput]:
    """Provide the blob of the plan's media item as a file, for as long as this is open.

    `folder` is for what is encoded meanwhile. Raises Failure MEDIA_DAMAGED if the blob is not
    what its manifest says, and what reading the blob and ffmpeg raise.
    """
    kept = folder / "source"
    if context.speculative.link_source(plan.media.blob.sha256, kept):
        yield ConversionInput(kept, None)
        return
    async with context.scratch.open(job.id, job.attempt) as file:
        fetching = asyncio.create_task(_fetch_blob(context, plan.media, file))
        encoding = asyncio.create_task(
            _encode_growing(context.transcoder, plan, job.recipes[0], file, folder, on_progress)
        )
        try:
            await asyncio.wait([fetching, encoding], return_when=asyncio.FIRST_EXCEPTION)
            if fetching.done():
                fetching.result()
            encoded = await encoding
            await fetching
        finally:
            await cancel_and_wait(fetching, encoding)
        yield ConversionInput(file.path, encoded)


async def _fetch_blob(context: WorkerContext, media: Media, file: ScratchFile) -> None:
    blob = media.blob
    try:
        file.reserve(blob.size_bytes)
        bucket, key = context.blobs.locate(blob.url)
        async for data in bucket.read_object(key, offset=0, limit=blob.size_bytes):
            await file.write(data)
        await file.complete()
    except BaseException as exc:
        file.fail(exc)
        raise
    if file.sha256 != blob.sha256:
        problem = wrong_content(file.sha256, blob.sha256)
        await report_damage(context.catalog, media, blob.url, problem)
        raise media_damaged(media.id, problem)


async def _encode_growing(
    transcoder: Transcoder,
    plan: Plan,
    recipe: Recipe,
    file: ScratchFile,
    folder: Path,
    on_progress: OnProgress,
) -> EncodedFile | None:
    """Encode the file while it arrives. Returns None if that needs the whole file."""
    if not can_begin_early(recipe):
        return None
    early = folder / "early"
    early.mkdir()
    try:
        return await transcoder.encode_stream(plan, file.tail(), early, on_progress=on_progress)
    except Failure as failure:
        if failure.reason != reason_pb2.REASON_CONVERSION_FAILED:
            raise
        logger.info(
            Event.EARLY_CONVERSION_IMPOSSIBLE,
            "the conversion needs the whole file: %s",
            failure.message,
            reason=failure.reason,
        )
        return None
