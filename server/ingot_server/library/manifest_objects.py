"""Manifests and tombstones in the bucket: every change of one is conditional.

    media/<id>/media.json      a Manifest (manifest.proto) as protobuf JSON, or a tombstone

A PUT whose response was lost, or whose sender was stopped, may still arrive when other writers have
gone on. It changes nothing then, because every PUT names the version that it replaces:

- a new manifest needs that there is no object, or replaces one tombstone;
- a deletion replaces the manifest by a tombstone, which stays until no PUT can be that late;
- the signature of a PUT expires with the lease of the job that commits.

A tombstone is removed in two steps, because S3 servers do not agree on conditional deletes: first
it is replaced by one that is `closing`, over which nothing is written for CLOSING; then a DELETE
follows, whose signature expires long before that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ingot_server.library.blobs import Blobs
from ingot_server.library.identity import is_media_id
from ingot_server.library.manifest import SCHEMA_VERSION, parse, serialize
from ingot_server.library.manifest_pb2 import Manifest, Tombstone

FOLDER: Final = "media/"
CLOSING: Final = timedelta(seconds=30)
_REMOVAL: Final = timedelta(seconds=5)
_CONTENT_TYPE: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Version:
    """What is in the place of a manifest."""

    manifest: Manifest | None
    """None if the media item is not stored: there is no object, or a tombstone."""
    etag: str
    """The ETag of the manifest or tombstone; empty if there is no object."""
    tombstone: Tombstone | None = None
    """Set if the media item was deleted."""

    @property
    def is_closing(self) -> bool:
        """Whether nothing may be written over this version yet."""
        if self.tombstone is None or not self.tombstone.closing:
            return False
        return datetime.now(UTC) - self.tombstone.delete_time.ToDatetime(UTC) < CLOSING


class ManifestObjects:
    """The manifests in the bucket. Every coroutine raises Failure STORAGE_UNAVAILABLE."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def read(self, media_id: str) -> Version:
        """Return what is stored under the id. Raises Failure INTERNAL if it cannot be read."""
        key = manifest_key(media_id)
        found = await self._blobs.get(key)
        if found is None:
            return Version(None, "")
        manifest, etag = parse(media_id, key, *found), found[1]
        if manifest.HasField("tombstone"):
            return Version(None, etag, manifest.tombstone)
        return Version(manifest, etag)

    async def write(
        self, manifest: Manifest, *, over: str, lifetime: timedelta | None = None
    ) -> str | None:
        """Write a manifest over the version with the ETag `over`, empty if there is no object.

        Gives it the newest schema version. Returns the new ETag, or None if another version of the
        object is stored. The bucket refuses a PUT that arrives after `lifetime`, which counts in
        whole seconds. Raises Failure INTERNAL if the manifest is too large.
        """
        key = manifest_key(manifest.media.id)
        # The cache has it, too: so an older process does not take what it cannot read from there.
        manifest.schema_version = SCHEMA_VERSION
        return await self._put(key, serialize(manifest, key), over, lifetime)

    async def bury(self, media_id: str, etag: str) -> bool:
        """Replace the manifest with this ETag by a tombstone; False if another one is stored."""
        return await self._put_tombstone(media_id, etag) is not None

    async def remove_tombstone(self, media_id: str, etag: str) -> bool:
        """Remove the tombstone with this ETag; False if another version is stored."""
        closed = await self._put_tombstone(media_id, etag, closing=True)
        if closed is None:
            return False
        await self._blobs.remove_within(manifest_key(media_id), lifetime=_REMOVAL)
        return True

    async def _put_tombstone(
        self, media_id: str, over: str, *, closing: bool = False
    ) -> str | None:
        key = manifest_key(media_id)
        grave = Manifest(tombstone=Tombstone(closing=closing))
        grave.tombstone.delete_time.FromDatetime(datetime.now(UTC))
        return await self._put(key, serialize(grave, key), over, None)

    async def _put(
        self, key: str, content: bytes, over: str, lifetime: timedelta | None
    ) -> str | None:
        return await self._blobs.put(
            key,
            content,
            content_type=_CONTENT_TYPE,
            if_none_match=not over,
            if_match=over,
            lifetime=lifetime,
        )


def manifest_key(media_id: str) -> str:
    """Return the key of a manifest in the bucket. Raises ValueError for anything but an id."""
    if not is_media_id(media_id):
        raise ValueError(f"{media_id!r} is not a media id")
    return f"{FOLDER}{media_id}/media.json"
