"""The commit of a media item: its manifest into the bucket, and the removal of what lost."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ingot.v1.media_pb2 import Media
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest import files_of
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.transfer.staged import PendingUpload, StagedUploads
from ingot_server.transfer.streaming_upload import StreamingUpload

logger = logging.getLogger(__name__)

# Each attempt after the first means that a caller changed the description just then.
_ATTEMPTS: Final = 5


async def commit(
    catalog: Catalog,
    blobs: Blobs,
    manifest: Manifest,
    upload: StreamingUpload | PendingUpload | StagedUploads,
    *,
    stored: Manifest | None,
    superseding: bool,
) -> Media:
    """Write `manifest`, and return the media item that stands.

    That may be another job's; then the objects of `upload` are removed. `stored` is the version
    that is replaced. `superseding` removes what earlier attempts left behind.
    """
    media = manifest.media
    if stored is not None:
        media.create_time.CopyFrom(stored.media.create_time)
    upload.keep()
    committing = asyncio.create_task(_commit_over(catalog, manifest, stored))
    try:
        winner = (await asyncio.shield(committing)).media
    except (asyncio.CancelledError, Failure):
        # The manifest may have been written all the same. Only the bucket knows which blob it
        # names.
        await asyncio.wait([committing])
        standing = await catalog.get(media.id)
        if standing is None or standing.media.blob.url != media.blob.url:
            await upload.discard()
        raise
    if winner.blob.url != media.blob.url:
        await upload.discard()
    elif superseding or stored is not None:
        await _remove_superseded(blobs, winner)
    return winner


async def _commit_over(catalog: Catalog, manifest: Manifest, stored: Manifest | None) -> Manifest:
    """Commit `manifest` over the file of `stored`, and return the manifest that stands.

    A caller may change the description of that file meanwhile: then the file is still the one to
    replace, under a new etag.
    """
    if stored is None:
        return await catalog.commit(manifest)
    ours, former = manifest.media.blob.url, stored.media.blob.url
    winner = stored
    for _ in range(_ATTEMPTS):
        winner = await catalog.commit(manifest, replacing=winner.media.etag)
        if winner.media.blob.url == ours or winner.media.blob.url != former:
            break
    return winner


async def _remove_superseded(blobs: Blobs, media: Media) -> None:
    """Remove the objects of lost attempts and of the former version: none can be committed now."""
    folder = f"media/{media.id}/"
    try:
        keep = {folder + "media.json", *(blobs.key(url) for url in files_of(media))}
        await blobs.remove_tree(folder, keep=keep)
        await blobs.abort_uploads(folder)
    except Failure as failure:
        logger.warning("objects were left in the bucket: %s: %s", folder, failure.message)
