"""Garbage: what the bucket has and no media item, upload or alias needs any more.

    files of a media item that its manifest does not name: of attempts that failed, or of workers
        that were lost
    tombstones, when no request of before the deletion can still arrive
    media items whose expire_time has come
    media items past a rule of retention (found by retention.py)
    aliases of media items that are not stored
    uploads that received nothing for `upload_ttl`
    unfinished multipart uploads
    groups of the journal that no job needs (found by journal/leftovers.py, which asks Redis)
    what a process that was killed while it started left of its check of the bucket

Everything but those media items stays for `gc_grace` first. That is longer than any job takes
from the beginning of an upload to its commit, so jobs may run meanwhile: what they have uploaded is
younger, and what is older than that can no longer be committed.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from ingot_server.config import Settings
from ingot_server.library.aliases import FOLDER as ALIASES
from ingot_server.library.blobs import Blobs, StoredObject, UnfinishedUpload
from ingot_server.library.bucket_probe import FOLDER as PROBES
from ingot_server.library.catalog import Catalog
from ingot_server.library.identity import FIRST_CHARACTERS, is_media_id
from ingot_server.library.manifest import files_of, has_expired
from ingot_server.library.manifest_objects import FOLDER as MEDIA
from ingot_server.library.manifest_objects import ManifestObjects, Version, manifest_key
from ingot_server.library.uploads import FOLDER as UPLOADS
from ingot_server.library.uploads import Uploads


class GarbageKind(enum.Enum):
    """What a piece of garbage is, in words for people."""

    FILE = "file"
    TOMBSTONE = "tombstone"
    EXPIRED = "expired media item"
    RETENTION = "media item past a rule"
    ALIAS = "alias"
    UPLOAD = "upload"
    UNFINISHED = "unfinished multipart upload"
    JOURNAL = "group of the journal"
    PROBE = "check of the bucket"


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something to remove."""

    kind: GarbageKind
    key: str
    """Key of the object; for an upload the folder, with a slash."""
    size_bytes: int
    """Zero if unknown."""
    time: datetime
    """When it was written, or began."""
    version: str = ""
    """The ETag of a tombstone or manifest, or the id of a multipart upload."""
    rule: str = ""
    """Name of the rule of retention that a media item is past."""
    limit: str = ""
    """Which limit of that rule, such as `max_age`."""

    @property
    def media_id(self) -> str:
        """The media item that the key belongs to; for an alias, its own id."""
        return self.key.split("/")[1]


class GarbageCollector:
    """Finds and removes garbage. The coroutines raise Failure STORAGE_UNAVAILABLE."""

    def __init__(self, catalog: Catalog, blobs: Blobs, settings: Settings) -> None:
        self._catalog = catalog
        self._aliases = catalog.aliases
        self._blobs = blobs
        self._objects = ManifestObjects(blobs)
        self._uploads = Uploads(blobs, settings)
        self._grace = settings.gc_grace

    async def find(self) -> AsyncIterator[Garbage]:
        """Yield all garbage. What is found is still garbage later, unless it is removed."""
        for character in FIRST_CHARACTERS:
            for found in await self._in_media(character):
                yield found
            for found in await self._in_aliases(character):
                yield found
        for folder, latest in (await self._uploads.expired()).items():
            yield Garbage(GarbageKind.UPLOAD, folder, 0, latest)
        for probe in await self._blobs.list_objects(PROBES):
            if self._is_old(probe.modify_time):
                yield _garbage(GarbageKind.PROBE, probe)
        for prefix in (MEDIA, UPLOADS, PROBES):
            for upload in await self._blobs.unfinished_uploads(prefix):
                if self._is_old(upload.begin_time):
                    yield _unfinished(upload)

    async def remove(self, garbage: Garbage) -> bool:
        """Remove a piece of garbage; False if it was replaced or removed meanwhile."""
        match garbage.kind:
            case GarbageKind.FILE | GarbageKind.JOURNAL | GarbageKind.PROBE:
                await self._blobs.remove(garbage.key)
            case GarbageKind.TOMBSTONE:
                return await self._objects.remove_tombstone(garbage.media_id, garbage.version)
            case GarbageKind.EXPIRED | GarbageKind.RETENTION:
                return await self._catalog.deletions.delete_version(
                    garbage.media_id, garbage.version
                )
            case GarbageKind.ALIAS:
                target = await self._aliases.read(garbage.media_id)
                if target is None or not await self._is_gone(target):
                    return False
                await self._aliases.remove(garbage.media_id)
            case GarbageKind.UPLOAD:
                await self._blobs.remove_tree(garbage.key)
            case GarbageKind.UNFINISHED:
                await self._blobs.abort_upload(garbage.key, garbage.version)
        return True

    async def _in_media(self, character: str) -> list[Garbage]:
        """Return the garbage of the media items whose ids begin with `character`."""
        listed = await self._blobs.list_objects(MEDIA + character)
        return [
            garbage
            for media_id, objects in groupby(listed, _folder_name)
            if is_media_id(media_id)
            for garbage in await self._of_media(media_id, list(objects))
        ]

    async def _in_aliases(self, character: str) -> list[Garbage]:
        """Return the dangling aliases whose ids begin with `character`."""
        return [
            _garbage(GarbageKind.ALIAS, alias)
            for alias in await self._blobs.list_objects(ALIASES + character)
            if self._is_old(alias.modify_time) and await self._is_dangling(alias)
        ]

    async def _of_media(self, media_id: str, objects: Iterable[StoredObject]) -> list[Garbage]:
        """Return the garbage in the folder of one media item."""
        old = [each for each in objects if self._is_old(each.modify_time)]
        manifest = manifest_key(media_id)
        if not old:
            return []
        version = await self._objects.read(media_id)
        if version.manifest is not None and has_expired(version.manifest):
            return [Garbage(GarbageKind.EXPIRED, manifest, 0, _expire_time(version), version.etag)]
        named = set(files_of(version.manifest.media)) if version.manifest is not None else set()
        garbage = [
            _garbage(GarbageKind.FILE, each)
            for each in old
            if each.key != manifest and self._blobs.url(each.key) not in named
        ]
        if version.tombstone is not None:
            # Its delete_time says what the clock of its writer said, which may have been wrong.
            garbage += [
                _garbage(GarbageKind.TOMBSTONE, each)
                for each in old
                if each.key == manifest and each.etag == version.etag
            ]
        return garbage

    async def _is_dangling(self, alias: StoredObject) -> bool:
        target = await self._aliases.read(_folder_name(alias))
        return target is None or await self._is_gone(target)

    async def _is_gone(self, media_id: str) -> bool:
        return (await self._objects.read(media_id)).manifest is None

    def _is_old(self, time: datetime) -> bool:
        return datetime.now(UTC) - time > self._grace


def _folder_name(found: StoredObject) -> str:
    return found.key.split("/")[1]


def _expire_time(version: Version) -> datetime:
    assert version.manifest is not None
    return version.manifest.media.expire_time.ToDatetime(UTC)


def _garbage(kind: GarbageKind, found: StoredObject) -> Garbage:
    return Garbage(kind, found.key, found.size_bytes, found.modify_time, found.etag)


def _unfinished(upload: UnfinishedUpload) -> Garbage:
    return Garbage(GarbageKind.UNFINISHED, upload.key, 0, upload.begin_time, upload.upload_id)
