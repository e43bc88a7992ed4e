"""A few media items with files of their own, stored without a worker, and what a caller sees."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import BinaryIO

from ingot.v1.media_pb2 import Blob, Media, SideFile, VideoStream
from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest import files_of
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.media_index import MediaFilter
from ingot_server.library.media_list import MediaList
from ingot_server.redis import Redis, connect
from tests.integration.catalog.running_catalog import media_id

LARGE = secrets.token_bytes(12 << 20) + b"."
"""More than two parts of an upload. Tests replace its last byte by another one."""
FIRST, SECOND, THIRD, ALIAS = map(media_id, ("first", "second", "third", "alias"))


class Memory:
    """Content of an upload that is in memory."""

    def __init__(self, data: bytes) -> None:
        self.expected_bytes: int | None = len(data)
        self._data = data

    def wait(self, end: int) -> int:
        return min(end, len(self._data))

    def part(self, begin: int, end: int) -> BinaryIO:
        return BytesIO(self._data[begin:end])

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Library:
    """One installation's side of the bucket and Redis."""

    settings: Settings
    blobs: Blobs
    catalog: Catalog
    redis: Redis

    async def store(self, media: Media, content: bytes) -> None:
        """Store a media item with a thumbnail."""
        stem = f"media/{media.id}/job-1"
        for key, data, file in (
            (f"{stem}.mp4", content, media.blob),
            (f"{stem}.jpg", content[:99], media.side_files.add(kind=SideFile.KIND_THUMBNAIL)),
        ):
            await self.blobs.upload(
                key, Memory(data), content_type="video/mp4", size_bytes=len(data)
            )
            file.url, file.size_bytes = self.blobs.url(key), len(data)
            file.content_type, file.sha256 = "video/mp4", hashlib.sha256(data).hexdigest()
        media.video.add(url=media.blob.url, width=640)
        await self.catalog.commit(Manifest(media=media))

    async def fill(self) -> None:
        """Store three media items and an alias."""
        first = Media(id=FIRST, title="Füße", owner="ann", pinned=True, labels={"team": "a"})
        second = Media(id=SECOND)
        second.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=9))
        await self.store(first, LARGE)
        await self.store(second, b"second" * 99)
        await self.store(Media(id=THIRD), b"third" * 99)
        await self.catalog.put_alias(ALIAS, FIRST, source_key="http:https://example.com/")

    async def files(self, media: Media) -> dict[str, bytes]:
        """Return the bytes of the files of a media item, by their names."""
        return {
            url.rpartition("/")[2]: b"".join(self.blobs.chunks(self.blobs.key(url)))
            for url in files_of(media)
        }

    async def everything(self) -> Mapping[str, tuple[Media, Mapping[str, bytes]]]:
        """Return what callers of this installation see, by media id, wherever the bucket is."""
        page = await MediaList(self.catalog, self.blobs, self.redis).page(MediaFilter(), limit=99)
        found: dict[str, tuple[Media, Mapping[str, bytes]]] = {}
        for listed in page.media:
            manifest = await self.catalog.get(listed.id)
            assert manifest is not None
            assert manifest.media == listed
            files = await self.files(listed)
            seen = Media()
            seen.CopyFrom(listed)
            seen.ClearField("etag")
            named: list[Blob | SideFile | VideoStream] = [seen.blob, *seen.side_files, *seen.video]
            for file in named:
                file.url = file.url.removeprefix(self.blobs.url(""))
            found[listed.id] = seen, files
        return found


@asynccontextmanager
async def opened_library(settings: Settings) -> AsyncIterator[Library]:
    blobs = Blobs(settings)
    await blobs.prepare()
    async with connect(settings) as redis:
        catalog = Catalog(blobs, redis, settings)
        try:
            yield Library(settings, blobs, catalog, redis)
        finally:
            await catalog.close()
            await blobs.close()
