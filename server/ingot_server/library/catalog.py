"""Which media there are: one manifest each, and its PUT is the commit.

    media/<id>/media.json      the Media as protobuf JSON, without its etag, which is the object's

A media exists from the PUT of its manifest to the removal of it. A manifest is written only where
there is none, or over the version that was read: of two writers the bucket refuses the second.
Blobs are stored before it and removed after it, so that no reader follows it to nothing. The cache
(cache.py) only saves the way to the bucket. An id may be an alias of another one (aliases.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf import json_format
from redis.asyncio import Redis

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.aliases import Aliases
from ingot_server.library.blobs import Blobs
from ingot_server.library.cache import Cache
from ingot_server.library.identity import is_media_id
from ingot_server.library.recipes import derived_id, is_current

logger = logging.getLogger(__name__)

FOLDER: Final = "media/"
_CONTENT_TYPE: Final = "application/json"
_READERS: Final = 16
_COMMIT_ATTEMPTS: Final = 5
_LARGEST_BATCH: Final = 1000


class Catalog:
    """All media in the bucket. What it answers with is shared: callers must not change it.

    Every method but `held` raises Failure STORAGE_UNAVAILABLE when the bucket does not answer; what
    changes a stored media, CACHE_UNAVAILABLE when Redis does not. All can be repeated.
    """

    def __init__(self, blobs: Blobs, redis: Redis, settings: Settings) -> None:
        self._blobs = blobs
        self._cache = Cache(redis, settings)
        self._aliases = Aliases(blobs, self._cache)
        self._reading = asyncio.Semaphore(_READERS)
        self._running: dict[str, asyncio.Task[Media | None]] = {}
        self._waiting: dict[str, asyncio.Task[Media | None]] = {}

    async def start(self) -> None:
        """Begins to hold media in this process; returns also when Redis cannot be reached."""
        await self._cache.start()

    async def close(self) -> None:
        """Ends what `start` began, and reads that nobody waits for."""
        if reading := [*self._waiting.values(), *self._running.values()]:
            for task in reading:
                task.cancel()
            await asyncio.wait(reading)
        await self._cache.close()

    def get_from_memory(self, media_id: str) -> Media | None:
        """The media if this process holds it; no I/O. None says nothing."""
        return self._cache.get_from_memory(media_id)

    async def get(self, media_id: str) -> Media | None:
        """The media as it is now, or was at some moment since the call; None when there is none.

        A thousand calls at once read it twice at most: each joins a read that begins after it.
        """
        if not is_media_id(media_id):
            return None
        held = self._cache.get_from_memory(media_id)
        if held is not None:
            return held
        reading = self._waiting.get(media_id)
        if reading is None:
            reading = asyncio.create_task(self._turn(media_id, self._running.get(media_id)))
            reading.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            self._waiting[media_id] = reading
        return await asyncio.shield(reading)

    async def find(self, media_id: str) -> tuple[str, Media | None]:
        """The media that an id names, by itself or as an alias, and the id it goes by.

        Where there is no such media, None and the id that it would go by.
        """
        if not is_media_id(media_id):
            return media_id, None
        held = self._aliases.get_from_memory(media_id)
        if held is not None and (media := await self.get(held)) is not None:
            return held, media
        media = await self.get(media_id)
        if media is not None:
            return media_id, media
        # What was held may be late: there is nothing where it led.
        target = await self._aliases.get(media_id, late=False)
        if target is None:
            return media_id, None
        return target, await self.get(target) if target != held else None

    async def conversion(self, parent: Media, recipe: Recipe) -> Media | None:
        """What a canonical recipe made of `parent`; None when that was another file since."""
        made = await self.get(derived_id(parent.id, recipe))
        return made if made is not None and is_current(made, parent) else None

    def alias_from_memory(self, media_id: str) -> str | None:
        """What `alias_of` answers if this process knows it; no I/O. None says nothing."""
        return self._aliases.get_from_memory(media_id)

    async def alias_of(self, media_id: str) -> str | None:
        """The id of the media that this id is an alias of; None when it is none."""
        return await self._aliases.get(media_id)

    async def put_alias(self, media_id: str, target_id: str, *, source_key: str) -> None:
        """Makes an id an alias of the media `target_id`, of which `source_key` is the identity."""
        await self._aliases.put(media_id, target_id, source_key)

    async def remove_alias(self, media_id: str) -> None:
        """Makes an id stand for itself again."""
        await self._aliases.remove(media_id)

    async def _turn(self, media_id: str, before: asyncio.Task[Media | None] | None) -> Media | None:
        if before is not None:
            await asyncio.wait([before])
        task = self._running[media_id] = self._waiting.pop(media_id)
        try:
            return await self._read(media_id)
        finally:
            if self._running.get(media_id) is task:
                del self._running[media_id]

    async def _read(self, media_id: str) -> Media | None:
        cached = await self._cache.get(media_id)
        if cached is not None:
            return cached
        begun = asyncio.get_running_loop().time()
        media = await self._load(media_id)
        if media is not None:
            await self._cache.fill(media, begun)
        return media

    async def commit(self, media: Media, *, replacing: str = "") -> Media:
        """Makes `media` exist, its blob being stored; answers with the manifest that stands.

        Without `replacing` it must be new; with the etag of a stored version it takes that one's
        place, or is new where that was deleted meanwhile. Who comes second gets the manifest of who
        came first and has to remove a blob that it does not name. Repeated after a lost answer, a
        commit gets its own.
        """
        key = _key(media.id)
        committed = Media()
        committed.CopyFrom(media)
        committed.ClearField("etag")
        if not committed.HasField("create_time"):
            committed.create_time.FromDatetime(datetime.now(UTC))
        content = _manifest(committed)
        mark = await self._cache.mark(media.id) if replacing else b""
        begun = asyncio.get_running_loop().time()
        for attempt in range(_COMMIT_ATTEMPTS):
            etag = await self._blobs.put(
                key,
                content,
                content_type=_CONTENT_TYPE,
                if_none_match=not replacing,
                if_match=replacing,
            )
            if etag is not None:
                break
            winner = await self._load(media.id)
            if winner is not None:
                return winner
            replacing = ""
            await asyncio.sleep(0.02 * 2**attempt)
        else:
            raise Failure(
                reason_pb2.REASON_STORAGE_UNAVAILABLE,
                f"The bucket refuses the manifest {key} and has none. Try again.",
            )
        committed.etag = etag
        if mark:
            await self._cache.settle(committed, mark)
        else:
            await self._cache.fill(committed, begun)
        await self._cache.forget_failure(media.id)
        return committed

    async def delete(self, media_id: str, *, etag: str = "") -> bool:
        """Ends a media and removes the files that its manifest names; False when there is none.

        Files of an attempt that is still under way stay: its commit may come. Raises Failure
        ETAG_MISMATCH for another version than `etag`. S3 servers do not agree on conditional
        deletes: a version committed within the same milliseconds may go with the one meant.
        """
        if not is_media_id(media_id):
            return False
        key = _key(media_id)
        found = await self._blobs.get(key)
        if found is None:
            return False
        if etag and etag != found[1]:
            raise Failure(
                reason_pb2.REASON_ETAG_MISMATCH,
                f"The media is at the version {found[1]!r}, not {etag!r}. Look at it again.",
            )
        await self._cache.mark(media_id)
        await self._blobs.remove(key)
        await self._cache.mark(media_id)
        try:
            folder = self._blobs.url(f"{FOLDER}{media_id}/")
            for name in files_of(_parsed(media_id, *found)):
                if not name.startswith(folder):
                    continue  # adopted where it lay, and not ours to remove
                await self._blobs.remove(self._blobs.key(name))
        except Failure as failure:
            logger.warning("files of the deleted media %s were left: %s", media_id, failure)
        return True

    async def list(self, *, after: str, limit: int) -> list[Media]:
        """At most `limit` media by id, from behind the id `after` on; fewer only at the end.

        A manifest that cannot be read is left out and logged.
        """
        found: list[Media] = []
        batch = limit
        while len(found) < limit:
            names = await self._blobs.list_folders(FOLDER, after=after, limit=batch)
            found += await self._many([name for name in names if is_media_id(name)])
            if len(names) < batch:
                break
            after = names[-1]
            # Folders without a manifest may be many: ask for more of them each time.
            batch = min(2 * batch, _LARGEST_BATCH)
        return found[:limit]

    async def _many(self, media_ids: Sequence[str]) -> Sequence[Media]:
        async def one(media_id: str, cached: Media | None) -> Media | None:
            if cached is not None:
                return cached
            try:
                async with self._reading:
                    return await self._load(media_id)
            except Failure as failure:
                if failure.reason != reason_pb2.REASON_INTERNAL:
                    raise
                logger.error("%s", failure)
                return None

        cached = await self._cache.get_many(media_ids)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(*pair)) for pair in zip(media_ids, cached, strict=True)]
        return [media for task in tasks if (media := task.result()) is not None]

    async def _load(self, media_id: str) -> Media | None:
        found = await self._blobs.get(_key(media_id))
        return _parsed(media_id, *found) if found is not None else None

    async def remember_failure(self, media_id: str, failure: Failure) -> None:
        """Keeps for a while why the source does not give this media, if the reason holds at all."""
        await self._cache.remember_failure(media_id, failure)

    async def remembered_failure(self, media_id: str) -> tuple[Failure, timedelta] | None:
        """What the source lately said instead of giving this media, and how long ago."""
        return await self._cache.remembered_failure(media_id)

    async def forget_failure(self, media_id: str) -> None:
        """Has the source asked again."""
        await self._cache.forget_failure(media_id)


def _key(media_id: str) -> str:
    if not is_media_id(media_id):
        raise ValueError(f"{media_id!r} is no media id")
    return f"{FOLDER}{media_id}/media.json"


def _manifest(media: Media) -> bytes:
    """Protobuf JSON, the same bytes for the same media."""
    text = json_format.MessageToJson(media, sort_keys=True, ensure_ascii=False, indent=2)
    return text.encode()


def _parsed(media_id: str, content: bytes, etag: str) -> Media:
    """The media of a manifest; fields that a later version added are skipped."""
    try:
        media = json_format.Parse(content.decode(), Media(), ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError) as exc:
        raise Failure(
            reason_pb2.REASON_INTERNAL,
            f"The manifest {_key(media_id)} cannot be read: {exc}. Restore it or remove it.",
        ) from exc
    media.id = media_id
    media.etag = etag
    return media


def files_of(media: Media) -> set[str]:
    """The internal addresses of all files of a media."""
    urls = {media.blob.url}
    urls.update(stream.url for stream in media.video)
    urls.update(stream.url for stream in media.audio)
    urls.update(file.url for file in media.side_files)
    return urls - {""}
