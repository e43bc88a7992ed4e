"""The commit of a media item: its manifest into the bucket, and the removal of what lost.

Nothing is removed on a guess. A manifest whose PUT failed may be written all the same, at once or
later: then the objects stay, and `ingot-server gc` removes them if no manifest names them in the
end. What is removed belongs to this commit alone: its own objects, if another manifest stands; the
files of the versions that it replaced; and what earlier attempts of its own job left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from ingot.v1 import job_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.jobs.changes import entered
from ingot_server.jobs.lease import Lease
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest import files_of
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.log_events import Event
from ingot_server.metrics.definitions import STORED_BYTES, source_label
from ingot_server.pipeline.attempt import is_of_earlier_run, job_stem
from ingot_server.transfer.staged import PendingUpload, StagedUploads
from ingot_server.transfer.streaming_upload import StreamingUpload

logger = EventLogger(__name__)

# Each attempt after the first means that a caller changed the description just then, or that the
# blob of the version that stood was gone or damaged.
_ATTEMPTS: Final = 5


async def commit(
    catalog: Catalog,
    blobs: Blobs,
    manifest: Manifest,
    upload: StreamingUpload | PendingUpload | StagedUploads,
    lease: Lease,
    *,
    stored: Manifest | None,
) -> Media:
    """Enter the stage COMMITTING, and write `manifest` while the lease lasts.

    Returns the media item that stands. That may be another job's; then the objects of `upload` are
    removed. `stored` is the version that is replaced. Raises LeaseLost, and what `Catalog.commit`
    raises: then nothing is removed.
    """
    if stored is not None:
        manifest.media.create_time.CopyFrom(stored.media.create_time)
        manifest.media.owner = stored.media.owner
    else:
        manifest.media.owner = lease.job.requested_by
    await lease.prove(entered(job_pb2.JOB_STAGE_COMMITTING))
    upload.keep()
    replaced: list[Media] = []
    committing = asyncio.create_task(_commit_over(catalog, manifest, stored, lease, replaced))
    try:
        winner = (await asyncio.shield(committing)).media
    except asyncio.CancelledError:
        await asyncio.wait([committing])
        if committing.exception() is None:
            await _remove_if_lost(upload, manifest.media, committing.result().media)
        raise
    await _remove_if_lost(upload, manifest.media, winner)
    if winner.blob.url == manifest.media.blob.url:
        STORED_BYTES.add(source_label(winner.source.name), amount=winner.blob.size_bytes)
        await _remove_superseded(blobs, winner, replaced, lease)
    return winner


async def _commit_over(
    catalog: Catalog,
    manifest: Manifest,
    stored: Manifest | None,
    lease: Lease,
    replaced: list[Media],
) -> Manifest:
    """Commit `manifest` over the file of `stored`, and return the manifest that stands.

    A caller may change the description of that file meanwhile: then the file is still the one to
    replace, under a new etag. A manifest without its whole blob is replaced, too. Adds to
    `replaced` what was written over.
    """
    ours = manifest.media.blob.url
    former = stored.media.blob.url if stored is not None else ""
    over = stored
    for _ in range(_ATTEMPTS):
        manifest.media.pinned = over is not None and over.media.pinned
        winner = await catalog.commit(
            manifest,
            replacing=over.media.etag if over is not None else "",
            time_left=lease.time_left,
        )
        if winner.media.blob.url == ours:
            if over is not None:
                replaced.append(over.media)
            break
        if winner.media.blob.url != former and await catalog.is_whole(winner):
            break
        over = winner
    return winner


async def _remove_if_lost(
    upload: StreamingUpload | PendingUpload | StagedUploads, ours: Media, winner: Media
) -> None:
    """Remove what was uploaded if another manifest stands: none can name it now."""
    if winner.blob.url != ours.blob.url:
        await upload.discard()


async def _remove_superseded(
    blobs: Blobs, media: Media, replaced: Sequence[Media], lease: Lease
) -> None:
    """Remove the files of the replaced versions, and what the job's earlier runs left."""
    if not replaced and lease.run == 1:
        return
    await lease.prove()
    folder = f"media/{media.id}/"
    kept = files_of(media)
    try:
        for former in replaced:
            for url in files_of(former) - kept:
                if url.startswith(blobs.url(folder)):
                    await blobs.remove(blobs.key(url))
        if lease.run > 1:
            stem = job_stem(lease.job, media.id)
            for found in await blobs.list_objects(stem):
                if is_of_earlier_run(lease, media.id, found.key):
                    await blobs.remove(found.key)
            await blobs.abort_uploads(stem)
    except Failure as failure:
        logger.warning(
            Event.OBJECTS_LEFT,
            "objects were left in the bucket: %s: %s",
            folder,
            failure.message,
            reason=failure.reason,
        )
