"""The catalog of stored media items: each has a manifest, and its PUT is the commit.

A media item exists from the PUT of its manifest to the PUT of its tombstone. A manifest is written
only if there is none, or over the version that was read: of two writers the bucket refuses the
second (manifest_objects.py). Blobs are stored before the manifest and removed after its tombstone,
so a reader of a manifest finds its blobs. If the blob is gone all the same, the media item counts
as not stored: this is checked when a manifest is read from the bucket, and for what an ingest would
reuse at most once in RECHECK_SECONDS. The cache (cache.py) only saves requests to the bucket. An id
may be an alias of another one (aliases.py).

A media item whose expire_time has come is not stored: no read returns it, and the next commit
deletes it first. Nor does a read return one whose blob is known to be damaged (damage.py), unless
it asks for that; the next commit replaces it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.library.aliases import Aliases
from ingot_server.library.blob_checks import BlobChecks
from ingot_server.library.blobs import Blobs
from ingot_server.library.cache import Cache
from ingot_server.library.deletions import Deletions
from ingot_server.library.identity import is_media_id
from ingot_server.library.manifest import UNREADABLE, has_expired, is_damaged
from ingot_server.library.manifest_objects import (
    ManifestObjects,
    Version,
    manifest_key,
)
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.media_index import MediaIndex
from ingot_server.library.recipes import derived_id, is_current
from ingot_server.library.shared_calls import SharedCalls
from ingot_server.log_events import Event
from ingot_server.redis import Redis, unavailable

logger = EventLogger(__name__)

_READERS: Final = 16
_COMMIT_ATTEMPTS: Final = 5
_CLOSING_POLL_SECONDS: Final = 0.5


class Catalog:
    """The manifests of all media items in the bucket. They are shared: do not change them.

    `aliases` are those of its media items, `deletions` deletes them.

    The coroutines raise Failure STORAGE_UNAVAILABLE when the bucket cannot be reached. Those that
    change a stored media item raise CACHE_UNAVAILABLE when Redis cannot be reached. All can be
    repeated.
    """

    def __init__(self, blobs: Blobs, redis: Redis, settings: Settings) -> None:
        self._blobs = blobs
        self._objects = ManifestObjects(blobs)
        self._checks = BlobChecks(blobs)
        self._cache = Cache(redis, settings)
        self.aliases = Aliases(blobs, self._cache)
        self._index = MediaIndex(redis)
        self.deletions = Deletions(blobs, self._objects, self._cache, self._index)
        self._reading = asyncio.Semaphore(_READERS)
        self._reads = SharedCalls(self._read)

    async def start(self) -> None:
        """Begin to keep media items in memory; returns also when Redis cannot be reached."""
        await self._cache.start()

    async def close(self) -> None:
        """End what `start` began, and reads whose callers are gone."""
        await self._reads.close()
        await self.aliases.close()
        await self._cache.close()

    def get_from_memory(self, media_id: str) -> Manifest | None:
        """Return the manifest if this process has it in memory, without I/O.

        None does not mean that there is none.
        """
        return _if_readable(self._cache.get_from_memory(media_id))

    async def get(self, media_id: str, *, damaged: bool = False) -> Manifest | None:
        """Return the manifest as it was at some moment since the call; None if there is none.

        With `damaged`, also that of a media item whose blob is damaged. A thousand calls at once
        read it twice at most.
        """
        manifest = self._cache.get_from_memory(media_id)
        if manifest is None:
            if not is_media_id(media_id):
                return None
            manifest = await self._reads.get(media_id)
        return _if_readable(manifest, damaged=damaged)

    async def find(self, media_id: str, *, damaged: bool = False) -> tuple[str, Manifest | None]:
        """Return id and manifest of the media item that `media_id` names, by itself or as an alias.

        If there is no such media item, return the id that it would have, and None. With `damaged`,
        one whose blob is damaged counts, too.
        """
        remembered = self.aliases.get_from_memory(media_id)
        if (
            remembered is not None
            and (manifest := await self.get(remembered, damaged=damaged)) is not None
        ):
            return remembered, manifest
        manifest = await self.get(media_id, damaged=damaged)
        if manifest is not None:
            return media_id, manifest
        if not is_media_id(media_id):
            return media_id, None
        # The alias in memory may be stale, because its media item does not exist.
        target = await self.aliases.get(media_id, allow_stale=False)
        if target is None:
            return media_id, None
        if target == remembered:
            return target, None
        return target, await self.get(target, damaged=damaged)

    async def conversion(self, parent: Media, recipe: Recipe) -> Manifest | None:
        """Return what a canonical recipe made of the present file of `parent`; else None."""
        made = await self.get(derived_id(parent.id, recipe))
        if made is None or not is_current(made.media, parent):
            return None
        return await self.if_whole(made)

    def alias_from_memory(self, media_id: str) -> str | None:
        """Return what `alias_of` returns, if this process has it in memory, without I/O."""
        return self.aliases.get_from_memory(media_id)

    async def alias_of(self, media_id: str) -> str | None:
        """Return the media id that this id is an alias of; None if it is not an alias."""
        return await self.aliases.get(media_id) if is_media_id(media_id) else None

    async def put_alias(self, media_id: str, target_id: str, *, source_key: str) -> None:
        """Make an id an alias of `target_id`, whose source key is `source_key`."""
        await self.aliases.put(media_id, target_id, source_key)

    async def remove_alias(self, media_id: str) -> None:
        """Remove an alias; the id then stands for itself."""
        await self.aliases.remove(media_id)

    async def _read(self, media_id: str) -> Manifest | None:
        cached = await self._cache.get(media_id)
        if cached is not None:
            return cached
        begun = asyncio.get_running_loop().time()
        manifest = await self._load(media_id)
        if manifest is not None:
            await self._cache.fill(manifest, begun)
            await self._put_in_index(manifest.media)
        return manifest

    async def if_whole(self, manifest: Manifest | None) -> Manifest | None:
        """Return the manifest if its files are whole, as far as is known; else None.

        Otherwise it counts as not stored: whoever asks for it ingests it again.
        """
        if manifest is None or manifest.HasField("damage"):
            return None
        if await self._checks.was_there(manifest.media):
            return manifest
        logger.warning(
            Event.BLOB_MISSING,
            "the blob of %s is gone from the bucket",
            manifest.media.id,
            media_id=manifest.media.id,
        )
        return None

    async def is_whole(self, manifest: Manifest) -> bool:
        """Return whether the blob is there now, and no file is known to be damaged."""
        return not manifest.HasField("damage") and await self._checks.is_there(manifest.media)

    async def read_stored(self, media_id: str) -> Manifest | None:
        """Return the manifest that the bucket has, whatever is known of it; None if there is none.

        It is not cached.
        """
        return await self._load(media_id)

    async def commit(
        self,
        manifest: Manifest,
        *,
        replacing: str = "",
        time_left: Callable[[], timedelta] | None = None,
    ) -> Manifest:
        """Write `manifest`, whose blob is stored; return the manifest that won.

        Without `replacing` the media item must be new. With the etag of a stored version it
        replaces that version, or is new if that version was deleted meanwhile: so the files of
        that version must not be those of `manifest` (see `replace`). The second of two writers
        gets the manifest of the first, and must remove its blob if that manifest does not name it.
        A commit that is repeated after a lost response gets its own manifest.

        `time_left` returns how long the writer may write, at least a second, or raises: the bucket
        refuses what arrives later. After a Failure the manifest may be written, or be written soon.
        Raises Failure INTERNAL for more than LARGEST_MANIFEST bytes.
        """
        media_id = manifest.media.id
        committed = Manifest()
        committed.CopyFrom(manifest)
        if not committed.media.HasField("create_time"):
            committed.media.create_time.FromDatetime(datetime.now(UTC))
        mark = await self._cache.mark(media_id) if replacing else b""
        begun = asyncio.get_running_loop().time()
        over = replacing
        for attempt in range(_COMMIT_ATTEMPTS):
            lifetime = time_left() if time_left is not None else None
            etag = await self._objects.write(committed, over=over, lifetime=lifetime)
            if etag is not None:
                break
            version = await self._open_version(media_id)
            if version.manifest is not None and has_expired(version.manifest):
                await self.deletions.delete_version(media_id, version.etag)
                version = await self._open_version(media_id)
            if version.manifest is not None:
                return version.manifest
            over = version.etag
            await asyncio.sleep(0.02 * 2**attempt)
        else:
            raise Failure(
                reason_pb2.REASON_STORAGE_UNAVAILABLE,
                f"The bucket refuses the manifest {manifest_key(media_id)}, although it does not "
                "have one. Try again.",
            )
        committed.media.etag = etag
        if mark:
            await self._cache.settle(committed, mark)
        else:
            await self._cache.fill(committed, begun)
        await self._cache.forget_failure(media_id)
        await self._put_in_index(committed.media)
        return committed

    async def _open_version(self, media_id: str) -> Version:
        """Return what is stored, when something may be written over it."""
        while True:
            version = await self._objects.read(media_id)
            if not version.is_closing:
                return version
            await asyncio.sleep(_CLOSING_POLL_SECONDS)

    async def replace(
        self, manifest: Manifest, *, lifetime: timedelta | None = None
    ) -> Manifest | None:
        """Write `manifest` over the version that has its etag; None if that is no longer stored.

        Unlike `commit`, it never makes a media item new, because a deletion of that version removes
        its files, which `manifest` still names. The bucket refuses what arrives after `lifetime`.
        """
        mark = await self._cache.mark(manifest.media.id)
        etag = await self._objects.write(manifest, over=manifest.media.etag, lifetime=lifetime)
        if etag is None:
            return None
        replaced = Manifest()
        replaced.CopyFrom(manifest)
        replaced.media.etag = etag
        await self._cache.settle(replaced, mark)
        await self._put_in_index(replaced.media)
        return replaced

    async def _put_in_index(self, media: Media) -> None:
        """List the media item. Without Redis it is listed when it is next read from the bucket."""
        try:
            with unavailable():
                await self._index.add(media)
        except Failure as failure:
            logger.warning(
                Event.MEDIA_NOT_INDEXED,
                "%s is not listed until it is read again, or `ingot-server rebuild` runs: %s",
                media.id,
                failure.message,
                media_id=media.id,
                reason=failure.reason,
            )

    async def delete(self, media_id: str, *, etag: str = "") -> bool:
        """Delete a media item as `Deletions.delete` does."""
        return await self.deletions.delete(media_id, etag=etag)

    async def load_many(
        self, media_ids: Sequence[str], *, cache: bool = False
    ) -> Sequence[Manifest]:
        """Return the manifests of those media items that exist and are not damaged, in order.

        A manifest that cannot be read is left out and logged. `cache` puts what was read from the
        bucket into the cache.
        """

        async def load_one(media_id: str, cached: Manifest | None) -> Manifest | None:
            if cached is not None:
                return cached
            try:
                async with self._reading:
                    begun = asyncio.get_running_loop().time()
                    manifest = await self._load(media_id)
                    if cache and manifest is not None:
                        await self._cache.fill(manifest, begun)
                    return manifest
            except Failure as failure:
                if failure.reason not in UNREADABLE:
                    raise
                logger.error(Event.MANIFEST_UNREADABLE, "%s", failure)
                return None

        cached = await self._cache.get_many(media_ids)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(load_one(*pair)) for pair in zip(media_ids, cached, strict=True)
            ]
        found = [_if_readable(task.result()) for task in tasks]
        return [manifest for manifest in found if manifest is not None]

    async def _load(self, media_id: str) -> Manifest | None:
        return (await self._objects.read(media_id)).manifest

    async def remember_failure(self, media_id: str, failure: Failure) -> None:
        """Store in the negative cache why the source does not give this media item.

        The reason decides how long; many reasons are not cached.
        """
        await self._cache.remember_failure(media_id, failure)

    async def remembered_failure(self, media_id: str) -> tuple[Failure, timedelta] | None:
        """Return the failure in the negative cache and its age; None if there is none."""
        return await self._cache.remembered_failure(media_id)

    async def forget_failure(self, media_id: str) -> None:
        """Remove the negative cache entry, so that the source is asked again."""
        await self._cache.forget_failure(media_id)


def _if_readable(manifest: Manifest | None, *, damaged: bool = False) -> Manifest | None:
    if manifest is None or has_expired(manifest) or (is_damaged(manifest) and not damaged):
        return None
    return manifest
