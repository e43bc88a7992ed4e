"""The file that a conversion is made of: kept by its workflow, or on its way out of the bucket.

    kept:            what was begun early is waited for
    in the bucket:   blob into scratch, and ffmpeg fed with what has come of it so far

Not every file can be read in one go from its beginning. What ffmpeg refuses then, or the gate does
later (`conversion/making.py`), is made again from the whole file.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.errors import Failure
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.transcode.ffmpeg_run import EncodedFile, OnProgress
from ingot_server.transcode.plan import Plan, can_begin_early
from ingot_server.transfer.scratch import ScratchFile

logger = logging.getLogger(__name__)


@asynccontextmanager
async def source_file(
    context: WorkerContext, plan: Plan, job: Job, folder: Path, on_progress: OnProgress
) -> AsyncIterator[tuple[Path, EncodedFile | None]]:
    """The blob of `parent`, whole, and what was made meanwhile, in `folder`, of the job's recipe.

    Raises Failure CHECKSUM_MISMATCH when the blob is not what its manifest says, and what reading
    it and ffmpeg raise.
    """
    parent = plan.media
    here = folder / "source"
    if context.speculative.link_source(parent.blob.sha256, here):
        yield here, None
        return
    async with context.scratch.open(job.id, job.attempt) as file:
        fetching = asyncio.create_task(_fetch(context, parent, file))
        encoding = asyncio.create_task(_encode(context, plan, job, file, folder, on_progress))
        try:
            await asyncio.wait([fetching, encoding], return_when=asyncio.FIRST_EXCEPTION)
            if fetching.done():
                fetching.result()
            encoded = await encoding
            await fetching
        finally:
            await cancel_and_wait(fetching, encoding)
        yield file.path, encoded


async def _fetch(context: WorkerContext, parent: Media, file: ScratchFile) -> None:
    blob = parent.blob
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
        raise Failure(
            reason_pb2.REASON_CHECKSUM_MISMATCH,
            f"The blob of the media {parent.id} is no longer what its manifest says. "
            "Ingest it again.",
        )


async def _encode(
    context: WorkerContext,
    plan: Plan,
    job: Job,
    file: ScratchFile,
    folder: Path,
    on_progress: OnProgress,
) -> EncodedFile | None:
    """What can be made of the file as it comes; None when nothing can."""
    if not can_begin_early(job.recipes[0]):
        return None
    early = folder / "early"
    early.mkdir()
    try:
        return await context.transcoder.encode_stream(
            plan, file.tail(), early, on_progress=on_progress
        )
    except Failure as failure:
        if failure.reason != reason_pb2.REASON_CONVERSION_FAILED:
            raise
        logger.info("the whole file is needed: %s", failure.message)
        return None
