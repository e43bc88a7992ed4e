"""The end of every way: stages and progress into the job, the manifest into the bucket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final

from ingot.v1.media_pb2 import Media
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.errors import Failure
from ingot_server.jobs.changes import progressed
from ingot_server.jobs.lease import Lease
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import files_of
from ingot_server.pipeline.progress import Meter
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.transfer.staged import StagedUploads
from ingot_server.transfer.streaming_upload import StreamingUpload

logger = logging.getLogger(__name__)

REPORT_SECONDS: Final = 0.25


@contextlib.asynccontextmanager
async def reporting(lease: Lease, meter: Meter) -> AsyncIterator[None]:
    """Writes the meter's progress into the job while the body runs."""

    async def report() -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            await lease.update(progressed(meter.measure))

    reporter = asyncio.create_task(report())
    try:
        yield
    finally:
        await cancel_and_wait(reporter)


async def commit(
    context: WorkerContext,
    media: Media,
    stored: Media | None,
    upload: StreamingUpload | StagedUploads,
    *,
    superseding: bool,
) -> Media:
    """Writes the manifest; answers with the one that stands, which may be another's.

    `stored` is the version it replaces; `superseding` has what earlier attempts left removed.
    """
    replacing = ""
    if stored is not None:
        media.create_time.CopyFrom(stored.create_time)
        replacing = stored.etag
    upload.keep()
    committing = asyncio.create_task(context.catalog.commit(media, replacing=replacing))
    try:
        winner = await asyncio.shield(committing)
    except (asyncio.CancelledError, Failure):
        # The manifest may be there all the same: only the bucket tells whose blob it names.
        await asyncio.wait([committing])
        standing = await context.catalog.get(media.id)
        if standing is None or standing.blob.url != media.blob.url:
            await upload.discard()
        raise
    if winner.blob.url != media.blob.url:
        await upload.discard()
    elif superseding or stored is not None:
        await _remove_superseded(context.blobs, winner)
    return winner


async def _remove_superseded(blobs: Blobs, media: Media) -> None:
    """Removes what lost attempts and the version before left: none can be committed now."""
    folder = f"media/{media.id}/"
    try:
        keep = {folder + "media.json", *(blobs.key(url) for url in files_of(media))}
        await blobs.remove_tree(folder, keep=keep)
        await blobs.abort_uploads(folder)
    except Failure as failure:
        logger.warning("left in the bucket: %s: %s", folder, failure.message)
