"""The scrub finds every stored file that is no longer what its manifest says."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest_pb2 import Manifest, ScrubProgress
from ingot_server.library.scrubber import Scrubber
from ingot_server.redis import connect
from ingot_server.scrub import COMMAND, _go_on, keep_scrubbing, scrub
from tests.bucket_proxy import bucket_behind_proxy
from tests.harness import Harness
from tests.integration.catalog.running_catalog import media_id, new_media, opened
from tests.origin import Origin, Page
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores

CONTENT = bytes(range(256)) * 400
DAMAGED = {
    "flipped": CONTENT[:70_000] + bytes([CONTENT[70_000] ^ 1]) + CONTENT[70_001:],
    "cut": CONTENT[:-1],
    "missing": None,
}
HEALTHY = [media_id(f"healthy {number}") for number in range(3)]


@pytest.fixture
async def catalog(blobs: Blobs, settings: Settings) -> AsyncIterator[Catalog]:
    async with opened(blobs, settings) as catalog:
        yield catalog


async def put(blobs: Blobs, name: str, content: bytes | None) -> None:
    key = f"media/{name}/1.mp4"
    if content is None:
        await blobs.remove(key)
    else:
        await blobs.put(key, content, content_type="video/mp4")


async def store(blobs: Blobs, catalog: Catalog, name: str) -> Manifest:
    manifest = new_media(blobs, 1, name)
    manifest.media.blob.size_bytes = len(CONTENT)
    manifest.media.blob.sha256 = hashlib.sha256(CONTENT).hexdigest()
    await put(blobs, name, CONTENT)
    return await catalog.commit(manifest)


@pytest.fixture
async def library(blobs: Blobs, catalog: Catalog) -> None:
    """Media items of which one is damaged in every way, and the others are whole."""
    for name in (*HEALTHY, *map(media_id, DAMAGED)):
        await store(blobs, catalog, name)
    for name, content in DAMAGED.items():
        await put(blobs, media_id(name), content)


async def damaged_items(blobs: Blobs, catalog: Catalog) -> set[str]:
    folders = await blobs.list_folders("media/", after="", limit=100)
    found = [await catalog.read_stored(name) for name in folders]
    return {each.media.id for each in found if each is not None and each.HasField("damage")}


@pytest.mark.usefixtures("library")
async def test_a_scrub_finds_what_was_flipped_cut_or_lost_and_nothing_else(
    blobs: Blobs, catalog: Catalog, settings: Settings
) -> None:
    lines: list[str] = []

    assert not await scrub(settings, restart=False, say=lines.append)

    assert await damaged_items(blobs, catalog) == set(map(media_id, DAMAGED))
    assert "6 media items" in lines[-1]
    assert "3 are damaged" in lines[-1]
    assert sorted(line.rpartition(": ")[2].partition(" instead")[0] for line in lines[:-1]) == [
        f"it has {len(CONTENT) - 1} bytes",
        "it is missing",
        f"its SHA-256 is {hashlib.sha256(DAMAGED['flipped'] or b'').hexdigest()}",
    ]
    for name in map(media_id, DAMAGED):
        assert await catalog.get(name) is None
    for name in HEALTHY:
        assert await catalog.if_whole(await catalog.get(name)) is not None


@pytest.mark.usefixtures("library")
async def test_a_file_that_was_restored_is_served_again_after_the_next_scrub(
    blobs: Blobs, catalog: Catalog, settings: Settings
) -> None:
    await scrub(settings, restart=False, say=lambda _line: None)
    for name in DAMAGED:
        await put(blobs, media_id(name), CONTENT)
    lines: list[str] = []

    assert await scrub(settings, restart=False, say=lines.append)

    assert sum("is whole again" in line for line in lines) == len(DAMAGED)
    assert await damaged_items(blobs, catalog) == set()
    for name in map(media_id, DAMAGED):
        assert await catalog.get(name) is not None


@pytest.mark.usefixtures("library")
async def test_a_scrub_goes_on_where_it_was_stopped_also_after_a_loss_of_redis(
    blobs: Blobs, catalog: Catalog, settings: Settings
) -> None:
    scrubber = Scrubber(catalog, blobs, 0)
    begun = ScrubProgress()
    begun.begin_time.GetCurrentTime()
    async with contextlib.aclosing(_go_on(scrubber, COMMAND, begun)) as stopped:
        read = [(await anext(stopped)).media_id for _ in range(2)]
    async with connect(settings) as redis:
        await redis.flushall()
    lines: list[str] = []

    await scrub(settings, restart=False, say=lines.append)

    assert lines[0].startswith(f"Going on after {read[-1]}")
    assert "6 media items" in lines[-1]
    lines.clear()
    await scrub(settings, restart=True, say=lines.append)
    assert "6 media items" in lines[-1]


@pytest.mark.usefixtures("library")
async def test_a_scrub_keeps_to_its_rate(blobs: Blobs, catalog: Catalog) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()

    assert [each async for each in Scrubber(catalog, blobs, 2 << 20).scrub("")]

    read_bytes = 4 * (len(CONTENT) + (64 << 10))
    assert loop.time() - began > read_bytes / (2 << 20)


async def test_a_file_that_the_server_cannot_read_is_damaged_if_others_can_be_read(
    blobs: Blobs, catalog: Catalog, settings: Settings
) -> None:
    for name in HEALTHY:
        await store(blobs, catalog, name)
    broken = min(HEALTHY)
    async with bucket_behind_proxy(settings) as (proxy, behind):
        proxy.refuses = lambda method, path: method == "GET" and f"{broken}/1.mp4" in path
        assert not await scrub(behind, restart=False, say=lambda _line: None)
        assert await damaged_items(blobs, catalog) == {broken}

        proxy.refuses = lambda method, path: method == "GET" and max(HEALTHY) in path
        with pytest.raises(Failure, match="AccessDenied"):
            await scrub(behind, restart=False, say=lambda _line: None)
    assert await damaged_items(blobs, catalog) == set()


@pytest.mark.usefixtures("library")
async def test_one_worker_at_a_time_scrubs_in_the_background(
    blobs: Blobs, catalog: Catalog, settings: Settings
) -> None:
    often = settings.replace(scrub_interval=timedelta(milliseconds=50))
    expected = set(map(media_id, DAMAGED))
    async with connect(settings) as redis, asyncio.timeout(TIMEOUT_SECONDS):
        workers = [
            asyncio.create_task(keep_scrubbing(redis, catalog, blobs, often)) for _ in range(2)
        ]
        while await damaged_items(blobs, catalog) != expected:  # noqa: ASYNC110 - only the bucket says
            await asyncio.sleep(0.05)
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
        assert not await redis.exists(redis.key("scrub"))


async def test_a_source_that_still_has_a_damaged_media_item_is_asked_again(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    url = origin.serve("/clip.mp4", Page(clip))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        first = (await harness.ingest(url)).media
        former = harness.blobs.key(first.blob.url)
        await harness.blobs.put(former, clip[:-1] + b"?", content_type="video/mp4")
        await scrub(harness.settings, restart=False, say=lambda _line: None)
        asked = len(origin.log)

        job = await harness.ingest(url)

    assert not job.cached
    assert job.media.id == first.id
    assert len(origin.log) > asked
    assert await harness.download(media_id=first.id) == clip
    assert former not in await harness.keys("media/")
    assert not (await harness.manifest(first.id)).HasField("damage")
    assert (await harness.ask(url)).cached
