from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from tests.integration.catalog.running_catalog import ID, media_id, new_media


async def test_pages_hold_every_media_once_in_order(
    blobs: Blobs, catalog: Catalog, redis: Redis
) -> None:
    ids = sorted(media_id(number) for number in range(120))
    without = set(ids[10:40])
    writing = asyncio.Semaphore(16)

    async def write(name: str) -> None:
        async with writing:
            if name in without:
                await blobs.put(f"media/{name}/1.mp4", b"x", content_type="video/mp4")
            else:
                await catalog.commit(new_media(blobs, name=name))

    await asyncio.gather(*(write(name) for name in ids))
    await blobs.put("media/no-id/media.json", b"{}", content_type="application/json")
    # Some from Redis, some from the bucket.
    await redis.delete(*(f"ingot:media:{name}" for name in ids[::2]))
    found: list[str] = []
    pages: list[int] = []
    while page := await catalog.list(after=found[-1] if found else "", limit=25):
        pages.append(len(page))
        found += [media.id for media in page]
        assert all(media.etag for media in page)
    assert found == [name for name in ids if name not in without]
    assert pages == [25, 25, 25, 15]


async def test_an_empty_bucket_lists_nothing(catalog: Catalog) -> None:
    assert await catalog.list(after="", limit=10) == []
    assert await catalog.list(after=ID, limit=10) == []
