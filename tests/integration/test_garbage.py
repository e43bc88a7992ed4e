"""gc removes what nothing needs, after a time of grace, and nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from ingot.v1.ingest_service_pb2 import UploadHeader
from ingot_server import garbage_collection
from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.garbage import GarbageCollector
from ingot_server.library.manifest import serialize
from ingot_server.library.manifest_objects import ManifestObjects, manifest_key
from ingot_server.library.manifest_pb2 import Manifest, Tombstone
from ingot_server.library.uploads import Uploads
from ingot_server.redis import connect
from ingot_server.retention_rules import RetentionRules
from tests.integration.catalog.running_catalog import media_id, new_media, opened

pytestmark = pytest.mark.any_stores

STORED, DELETED, FAILED, EXPIRED = map(media_id, ("stored", "deleted", "failed", "expired"))
ALIAS, DANGLING = map(media_id, ("alias", "dangling"))
UPLOAD = "an-upload"


@pytest.fixture
async def catalog(blobs: Blobs, settings: Settings) -> AsyncIterator[Catalog]:
    async with opened(blobs, settings) as catalog:
        yield catalog


async def put_file(blobs: Blobs, name: str, attempt: object) -> str:
    key = f"media/{name}/{attempt}.mp4"
    await blobs.put(key, b"x", content_type="video/mp4")
    return key


@pytest.fixture
async def filled(blobs: Blobs, catalog: Catalog, settings: Settings) -> set[str]:
    """A bucket with garbage of every kind; returns the keys that are needed."""
    for name in (STORED, DELETED, FAILED, EXPIRED):
        await put_file(blobs, name, "lost-1")
    stored = await put_file(blobs, STORED, 1)
    await catalog.commit(new_media(blobs, 1, STORED))
    await catalog.put_alias(ALIAS, STORED, source_key="x")
    await catalog.put_alias(DANGLING, DELETED, source_key="y")
    await put_file(blobs, DELETED, 1)
    await catalog.commit(new_media(blobs, 1, DELETED))
    assert await catalog.delete(DELETED)
    await put_file(blobs, EXPIRED, 1)
    expired = new_media(blobs, 1, EXPIRED)
    expired.media.expire_time.FromDatetime(datetime.now(UTC) - timedelta(seconds=1))
    await catalog.commit(expired)
    create = blobs._s3.calls.client._create_multipart_upload
    key = f"media/{FAILED}/lost-2.mp4"
    await blobs._s3.calls.run(lambda: create(blobs.bucket, key, {}))
    await blobs.put("probe/of-a-killed-process", b"1", content_type="text/plain")
    await Uploads(blobs, settings).begin(UPLOAD, UploadHeader(filename="a.mp4"))
    return {stored, manifest_key(STORED), f"alias/{ALIAS}"}


async def keys(blobs: Blobs) -> set[str]:
    return {each.key for each in await blobs.list_objects("")}


async def collect(settings: Settings, *, delete: bool) -> list[str]:
    lines: list[str] = []
    await garbage_collection.collect_garbage(settings, delete=delete, say=lines.append)
    return lines


def without_grace(settings: Settings) -> Settings:
    return settings.replace(gc_grace=timedelta(0), upload_ttl=timedelta(0))


async def test_everything_young_stays_except_what_has_expired(
    blobs: Blobs, settings: Settings, filled: set[str]
) -> None:
    before = await keys(blobs)
    assert await collect(settings, delete=True) == ["There is nothing to remove."]
    assert await keys(blobs) == before
    assert filled <= before


async def test_gc_lists_first_and_removes_only_when_told(
    blobs: Blobs, settings: Settings, filled: set[str]
) -> None:
    old = without_grace(settings)
    before = await keys(blobs)

    listed = await collect(old, delete=False)

    assert await keys(blobs) == before
    assert "`ingot-server gc --delete` removes them." in listed[-1]
    kinds = {re.split(" (?:media|alias|probe)/", line)[0] for line in listed[:-1]}
    assert kinds >= {
        "file",
        "tombstone",
        "expired media item",
        "alias",
        "unfinished multipart upload",
        "check of the bucket",
    }

    removed = await collect(old, delete=True)

    assert removed[:-1] == listed[:-1]
    # A second run removes what the first one made garbage: the tombstone of what had expired.
    await collect(old, delete=True)
    assert await keys(blobs) == filled
    assert await blobs.unfinished_uploads("") == []
    assert await collect(old, delete=True) == ["There is nothing to remove."]


async def test_a_worker_collects_garbage_from_time_to_time(
    blobs: Blobs, catalog: Catalog, settings: Settings, filled: set[str]
) -> None:
    often = without_grace(settings).replace(gc_interval=timedelta(milliseconds=50))
    async with connect(settings) as redis, asyncio.timeout(30):
        collecting = asyncio.create_task(
            garbage_collection.keep_collecting(redis, catalog, blobs, often, RetentionRules(often))
        )
        while await keys(blobs) != filled:  # noqa: ASYNC110 - only the bucket says
            await asyncio.sleep(0.05)
        collecting.cancel()


async def test_what_was_replaced_since_it_was_found_is_not_removed(
    blobs: Blobs, catalog: Catalog, settings: Settings, filled: set[str]
) -> None:
    collector = GarbageCollector(catalog, blobs, without_grace(settings))
    found = [each async for each in collector.find() if each.media_id in (DELETED, DANGLING)]
    await put_file(blobs, DELETED, 2)
    again = await catalog.commit(new_media(blobs, 2, DELETED))

    for each in found:
        await collector.remove(each)

    assert await catalog.get(DELETED) == again
    assert await catalog.alias_of(DANGLING) == DELETED
    assert await blobs.stat(f"media/{DELETED}/2.mp4") is not None


async def test_a_tombstone_is_as_old_as_the_bucket_says(
    blobs: Blobs, catalog: Catalog, settings: Settings
) -> None:
    # Its writer had a clock that was a day fast.
    ahead = Manifest(tombstone=Tombstone())
    ahead.tombstone.delete_time.FromDatetime(datetime.now(UTC) + timedelta(days=1))
    key = manifest_key(STORED)
    await blobs.put(key, serialize(ahead, key), content_type="application/json")

    await collect(without_grace(settings), delete=True)

    assert await keys(blobs) == set()


async def test_nothing_is_written_over_a_tombstone_that_is_about_to_be_removed(
    blobs: Blobs, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await catalog.commit(new_media(blobs))
    assert await catalog.delete(new_media(blobs).media.id)
    removing = asyncio.Event()
    remove = Blobs.remove_within

    async def removed_later(found: Blobs, key: str, *, lifetime: timedelta) -> None:
        removing.set()
        await asyncio.sleep(0.5)
        await remove(found, key, lifetime=lifetime)

    monkeypatch.setattr(Blobs, "remove_within", removed_later)
    objects = ManifestObjects(blobs)
    name = new_media(blobs).media.id
    closing = asyncio.create_task(objects.remove_tombstone(name, (await objects.read(name)).etag))
    await removing.wait()

    committed: Manifest = await catalog.commit(new_media(blobs, 2))

    assert await closing
    assert await catalog.get(name) == committed
    assert (await objects.read(name)).manifest == committed
