"""Damage: stored files that are no longer what their manifest says.

What is known of it is in the manifest itself. There it outlives Redis, reaches every server as any
other change of the manifest does, costs no read another request, and ends with the version that
has it: a new version is written without. The bucket refuses a mark for a version that was replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Blob, Media
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.library.blobs import Blobs
from ingot_server.library.bucket import Hash
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest import problem_of
from ingot_server.library.manifest_objects import FOLDER
from ingot_server.library.manifest_pb2 import Damage, DamagedFile, Manifest
from ingot_server.log_events import Event

logger = EventLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a media item, as its manifest has it."""

    url: str
    size_bytes: int
    sha256: str
    """In hexadecimal; empty if it is not known."""


def own_files(media: Media, blobs: Blobs) -> Iterator[StoredFile]:
    """Return the files that Ingot has stored for a media item; adopted ones belong to others."""
    files = [StoredFile(media.blob.url, media.blob.size_bytes, media.blob.sha256)]
    files += [StoredFile(side.url, side.size_bytes, side.sha256) for side in media.side_files]
    folder = blobs.url(f"{FOLDER}{media.id}/")
    return (file for file in files if file.url.startswith(folder))


def media_damaged(media_id: str, problem: str) -> Failure:
    """Return the failure of a call that needs a damaged file."""
    return Failure(
        reason_pb2.REASON_MEDIA_DAMAGED,
        f"The stored file of the media item {media_id} is damaged: {problem}. Ingest its URL "
        "again, which replaces it, or upload the file again.",
    )


def refuse_damaged(manifest: Manifest, url: str = "") -> None:
    """Raise Failure MEDIA_DAMAGED if a file, by default the blob, is known to be damaged."""
    if problem := problem_of(manifest, url or manifest.media.blob.url):
        raise media_damaged(manifest.media.id, problem)


async def check_read(
    catalog: Catalog, blobs: Blobs, media: Media, file: Blob, digest: Hash | None
) -> None:
    """Raise Failure MEDIA_DAMAGED, and note that, if a read of a file has shown it.

    `digest` is of all its bytes and not as it should be, or None if there were too few. Objects
    that were adopted belong to others, who may have replaced them.
    """
    if file.url not in {each.url for each in own_files(media, blobs)}:
        return
    found = await blobs.stat(blobs.key(file.url))
    if found is None:
        return  # deleted meanwhile
    if found.size_bytes != file.size_bytes:
        problem = wrong_size(found.size_bytes, file.size_bytes)
    elif digest is not None:
        problem = wrong_content(digest.hexdigest(), file.sha256)
    else:
        return
    await report_damage(catalog, media, file.url, problem)
    raise media_damaged(media.id, problem)


def wrong_size(size_bytes: int, expected: int) -> str:
    """Return in words that a file has another size."""
    return f"it has {size_bytes} bytes instead of {expected}"


def wrong_content(sha256: str, expected: str) -> str:
    """Return in words that a file has other bytes."""
    return f"its SHA-256 is {sha256} instead of {expected}"


async def report_damage(catalog: Catalog, media: Media, url: str, problem: str) -> None:
    """Mark one file of a stored media item as damaged. Without Redis or the bucket, only log it."""
    logger.warning(Event.MEDIA_DAMAGED, "%s is damaged: %s", url, problem)
    try:
        stored = await catalog.read_stored(media.id)
        if stored is None or stored.media.etag != media.etag:
            return
        known = {file.url: file.problem for file in stored.damage.files}
        await mark_damage(catalog, stored, {**known, url: problem})
    except Failure as failure:
        logger.warning(
            Event.DAMAGE_NOT_NOTED,
            "the damage of %s was not noted: %s",
            media.id,
            failure.message,
            media_id=media.id,
            reason=failure.reason,
        )


async def mark_damage(catalog: Catalog, stored: Manifest, problems: Mapping[str, str]) -> bool:
    """Note what is wrong with files of a version, by URL; no problems mean that it is whole.

    Returns False if that version is no longer stored. Raises Failure STORAGE_UNAVAILABLE and
    CACHE_UNAVAILABLE.
    """
    files = [DamagedFile(url=url, problem=problems[url]) for url in sorted(problems)]
    if files == list(stored.damage.files):
        return True
    marked = Manifest()
    marked.CopyFrom(stored)
    marked.ClearField("damage")
    if files:
        marked.damage.CopyFrom(Damage(files=files, find_time=stored.damage.find_time))
        if not stored.HasField("damage"):
            marked.damage.find_time.GetCurrentTime()
    return await catalog.replace(marked) is not None
