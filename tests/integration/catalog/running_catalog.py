"""Catalogs, as two processes on the same stores have them, and media to put in."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.redis import connect
from tests.waiting import TIMEOUT_SECONDS

GONE = Failure(reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, "It was deleted.", metadata={"a": "b"})


def media_id(name: object) -> str:
    digest = hashlib.sha256(str(name).encode()).digest()
    return base64.b32encode(digest).decode().rstrip("=").lower()


ID = media_id("one")


def new_media(blobs: Blobs, attempt: object = 1, name: str = ID) -> Manifest:
    media = Media(id=name, title="Füße", labels={"b": "1", "a": "2"})
    media.blob.url = blobs.url(f"media/{name}/{attempt}.mp4")
    media.blob.size_bytes = 1 << 40
    media.duration.FromTimedelta(timedelta(seconds=1.5))
    media.video.add(url=media.blob.url, width=640)
    return Manifest(media=media)


@asynccontextmanager
async def opened(blobs: Blobs, settings: Settings) -> AsyncIterator[Catalog]:
    async with connect(settings) as connection:
        catalog = Catalog(blobs, connection, settings)
        await catalog.start()
        yield catalog
        await catalog.close()


async def holding(catalog: Catalog, name: str = ID) -> Manifest:
    """Reads until the process holds the media."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (held := catalog.get_from_memory(name)) is None:
            await catalog.get(name)
            await asyncio.sleep(0.002)
    return held
