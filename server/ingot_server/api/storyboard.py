"""The index of a stored storyboard, with signed links to its sheets."""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePosixPath

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media, SideFile
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.damage import refuse_damaged
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.storyboard_index import with_links


async def linked_storyboard(manifest: Manifest, blobs: Blobs, lifetime: timedelta) -> str:
    """Return the WebVTT index of a media item's storyboard, with links that work for `lifetime`.

    Raises Failure MEDIA_NOT_FOUND if it has none, MEDIA_DAMAGED and STORAGE_UNAVAILABLE.
    """
    media = manifest.media
    url, size_bytes = _index_of(media)
    refuse_damaged(manifest, url)
    bucket, key = blobs.locate(url)
    parts = [data async for data in bucket.read_object(key, offset=0, limit=size_bytes)]
    links = {}
    for side in media.side_files:
        if side.kind == SideFile.KIND_STORYBOARD:
            refuse_damaged(manifest, side.url)
            _, sheet = blobs.locate(side.url)
            name = PurePosixPath(sheet).name
            links[name] = await bucket.download_url(
                sheet,
                lifetime=lifetime,
                filename=name,
                content_type=side.content_type,
            )
    return with_links(b"".join(parts).decode(), links)


def _index_of(media: Media) -> tuple[str, int]:
    if media.recipe.HasField("storyboard"):
        return media.blob.url, media.blob.size_bytes
    for side in media.side_files:
        if side.kind == SideFile.KIND_STORYBOARD_INDEX:
            return side.url, side.size_bytes
    raise Failure(
        reason_pb2.REASON_MEDIA_NOT_FOUND,
        f"The media item {media.id} has no storyboard. Convert it with the recipe "
        '{"storyboard": {}}, and name the result.',
    )
