from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library import cache as cache_module
from ingot_server.library import invalidation
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog

GONE = Failure(reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, "It was deleted.", metadata={"a": "b"})


def media_id(name: object) -> str:
    digest = hashlib.sha256(str(name).encode()).digest()
    return base64.b32encode(digest).decode().rstrip("=").lower()


ID = media_id("one")


def new_media(blobs: Blobs, attempt: object = 1, name: str = ID) -> Media:
    media = Media(id=name, title="Füße", labels={"b": "1", "a": "2"})
    media.blob.url = blobs.url(f"media/{name}/{attempt}.mp4")
    media.blob.size_bytes = 1 << 40
    media.duration.FromTimedelta(timedelta(seconds=1.5))
    media.video.add(url=media.blob.url, width=640)
    return media


@pytest.fixture
async def catalog(blobs: Blobs, settings: Settings) -> AsyncIterator[Catalog]:
    async with opened(blobs, settings) as catalog:
        yield catalog


@pytest.fixture
async def other(blobs: Blobs, settings: Settings) -> AsyncIterator[Catalog]:
    """The catalog of another process."""
    async with opened(blobs, settings) as catalog:
        yield catalog


@asynccontextmanager
async def opened(blobs: Blobs, settings: Settings) -> AsyncIterator[Catalog]:
    async with Redis.from_url(settings.redis_url) as connection:
        catalog = Catalog(blobs, connection, settings)
        await catalog.start()
        yield catalog
        await catalog.close()


async def until(happened: Callable[[], object]) -> None:
    """Waits for what another connection brings about."""
    async with asyncio.timeout(5):
        while not happened():  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.002)


async def holding(catalog: Catalog, name: str = ID) -> Media:
    """Reads until the process holds the media."""
    async with asyncio.timeout(5):
        while (held := catalog.held(name)) is None:
            await catalog.get(name)
            await asyncio.sleep(0.002)
    return held


class Gate:
    """Stops whoever calls the wrapped coroutine function, after it did its work."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    def behind(self, function: Callable[..., Awaitable[object]]) -> Callable[..., object]:
        async def wrapped(*arguments: object, **named: object) -> object:
            answer = await function(*arguments, **named)
            self.reached.set()
            await self.opened.wait()
            return answer

        return wrapped


# Commit ------------------------------------------------------------------------------------------


async def test_a_committed_media_is_found_everywhere(
    blobs: Blobs, catalog: Catalog, other: Catalog
) -> None:
    assert await catalog.get(ID) is None
    committed = await catalog.commit(new_media(blobs))
    assert committed.etag
    assert committed.HasField("create_time")
    for each in (catalog, other):
        assert await each.get(ID) == committed
        assert await holding(each) == committed


async def test_the_manifest_is_deterministic_json_without_etag(
    blobs: Blobs, catalog: Catalog
) -> None:
    media = new_media(blobs)
    media.etag = "not stored"
    media.create_time.FromSeconds(1)
    first = await catalog.commit(media)
    stored = await blobs.get(f"media/{ID}/media.json")
    assert stored is not None
    manifest = json.loads(stored[0])
    assert "Füße".encode() in stored[0]
    assert "etag" not in manifest
    assert manifest["blob"]["sizeBytes"] == str(1 << 40)
    assert manifest["createTime"] == "1970-01-01T00:00:01Z"
    assert list(manifest["labels"]) == ["a", "b"]
    again = await catalog.commit(media, replacing=first.etag)
    assert again.etag == first.etag


async def test_of_sixteen_commits_one_wins_and_all_get_it(
    blobs: Blobs, catalog: Catalog, other: Catalog
) -> None:
    answers = await asyncio.gather(
        *((catalog, other)[attempt % 2].commit(new_media(blobs, attempt)) for attempt in range(16))
    )
    assert len({answer.etag for answer in answers}) == 1
    assert all(answer == answers[0] for answer in answers)
    replaced = await asyncio.gather(
        *(
            (catalog, other)[attempt % 2].commit(
                new_media(blobs, attempt), replacing=answers[0].etag
            )
            for attempt in range(16, 32)
        )
    )
    assert len({answer.etag for answer in replaced}) == 1
    assert replaced[0].etag != answers[0].etag
    assert await catalog.get(ID) == await other.get(ID) == replaced[0]


async def test_a_reader_never_sees_a_torn_media(
    blobs: Blobs, catalog: Catalog, other: Catalog
) -> None:
    standing = await catalog.commit(new_media(blobs, 0))
    seen: list[int] = []
    ended = False

    async def read() -> None:
        while not ended:
            media = await other.get(ID)
            assert media is not None
            assert media.video[0].url == media.blob.url
            seen.append(int(media.blob.url.rpartition("/")[2].removesuffix(".mp4")))
            await asyncio.sleep(0)

    reading = asyncio.create_task(read())
    for attempt in range(1, 20):
        standing = await catalog.commit(new_media(blobs, attempt), replacing=standing.etag)
    ended = True
    await reading
    assert seen == sorted(seen)
    assert await other.get(ID) == standing


async def test_replacing_what_was_deleted_meanwhile_makes_it_new(
    blobs: Blobs, catalog: Catalog
) -> None:
    first = await catalog.commit(new_media(blobs))
    assert await catalog.delete(ID)
    second = await catalog.commit(new_media(blobs, 2), replacing=first.etag)
    assert await catalog.get(ID) == second


@pytest.mark.parametrize("text", ["", "../x", ID[:-1], ID.upper(), ID + "/x"])
async def test_what_is_no_id_is_no_key(blobs: Blobs, catalog: Catalog, text: str) -> None:
    assert catalog.held(text) is None
    assert await catalog.get(text) is None
    assert not await catalog.delete(text)
    with pytest.raises(ValueError, match="is no media id"):
        await catalog.commit(new_media(blobs, name=text))


async def test_a_manifest_of_a_later_version_is_read(blobs: Blobs, catalog: Catalog) -> None:
    manifest = b'{"id": "x", "title": "t", "inventedLater": {"a": 1}}'
    await blobs.put(f"media/{ID}/media.json", manifest, content_type="application/json")
    media = await catalog.get(ID)
    assert media is not None
    assert (media.id, media.title) == (ID, "t")


async def test_a_broken_manifest_is_named(blobs: Blobs, catalog: Catalog) -> None:
    await blobs.put(f"media/{ID}/media.json", b"{", content_type="application/json")
    with pytest.raises(Failure, match=f"media/{ID}/media.json cannot be read"):
        await catalog.get(ID)
    assert await catalog.list(after="", limit=10) == []


# Cache -------------------------------------------------------------------------------------------


async def test_wiping_redis_loses_nothing(blobs: Blobs, catalog: Catalog, redis: Redis) -> None:
    committed = await catalog.commit(new_media(blobs))
    await holding(catalog)
    await redis.flushall()
    await until(lambda: catalog.held(ID) is None)
    assert await catalog.get(ID) == committed
    assert await redis.get(f"ingot:media:{ID}")


async def test_redis_answers_without_the_bucket(
    blobs: Blobs, catalog: Catalog, redis: Redis, settings: Settings
) -> None:
    committed = await catalog.commit(new_media(blobs))
    value = await redis.get(f"ingot:media:{ID}")
    assert isinstance(value, bytes)
    assert Media.FromString(value) == committed
    assert 0 < await redis.ttl(f"ingot:media:{ID}") <= settings.manifest_ttl.total_seconds()
    await blobs.remove(f"media/{ID}/media.json")
    assert await catalog.get(ID) == committed


@pytest.mark.parametrize("change", ["replace", "delete"])
async def test_another_process_hears_of_a_change(
    blobs: Blobs, catalog: Catalog, other: Catalog, change: str
) -> None:
    first = await catalog.commit(new_media(blobs))
    assert await holding(other) == first
    if change == "replace":
        expected: Media | None = await catalog.commit(new_media(blobs, 2), replacing=first.etag)
    else:
        expected = None
        await catalog.delete(ID)
    assert catalog.held(ID) is None
    await until(lambda: other.held(ID) is None)
    assert await catalog.get(ID) == await other.get(ID) == expected


async def test_what_changed_while_it_was_read_is_not_held(
    blobs: Blobs, catalog: Catalog, other: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await catalog.commit(new_media(blobs))
    gate = Gate()
    monkeypatch.setattr(other._cache, "_ask", gate.behind(other._cache._ask))
    reading = asyncio.create_task(other.get(ID))
    await gate.reached.wait()
    heard = asyncio.Event()
    drop = other._cache._held.drop

    def drop_and_tell(name: str) -> None:
        drop(name)
        heard.set()

    monkeypatch.setattr(other._cache._held, "drop", drop_and_tell)
    second = await catalog.commit(new_media(blobs, 2), replacing=first.etag)
    await heard.wait()
    gate.opened.set()
    assert await reading == first
    assert other.held(ID) is None
    assert await other.get(ID) == second


@pytest.mark.parametrize("change", ["replace", "delete"])
async def test_what_changed_while_it_was_read_is_not_put_into_redis(
    blobs: Blobs,
    catalog: Catalog,
    other: Catalog,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    first = await catalog.commit(new_media(blobs))
    await redis.flushall()
    await until(lambda: catalog.held(ID) is None)
    gate = Gate()
    monkeypatch.setattr(other, "_load", gate.behind(other._load))
    reading = asyncio.create_task(other.get(ID))
    await gate.reached.wait()
    if change == "replace":
        expected: Media | None = await catalog.commit(new_media(blobs, 2), replacing=first.etag)
    else:
        expected = None
        await catalog.delete(ID)
    gate.opened.set()
    assert await reading == first
    assert await other.get(ID) == await catalog.get(ID) == expected


async def test_a_change_during_which_redis_is_wiped_leaves_nothing_stale(
    blobs: Blobs,
    catalog: Catalog,
    other: Catalog,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = await catalog.commit(new_media(blobs))
    gate = Gate()
    monkeypatch.setattr(catalog._cache, "mark", gate.behind(catalog._cache.mark))
    replacing = asyncio.create_task(catalog.commit(new_media(blobs, 2), replacing=first.etag))
    await gate.reached.wait()
    await redis.flushall()
    assert await other.get(ID) == first
    gate.opened.set()
    second = await replacing
    assert await other.get(ID) == second


async def test_a_mark_without_its_writer_ends(
    blobs: Blobs,
    catalog: Catalog,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache_module, "MARK_SECONDS", 1)
    committed = await catalog.commit(new_media(blobs))
    await catalog._cache.mark(ID)
    assert await catalog.get(ID) == committed
    assert catalog.held(ID) is None
    assert 0 < await redis.pttl(f"ingot:media:{ID}") <= 1000


async def test_callers_at_once_share_a_read_that_begins_after_them(
    blobs: Blobs, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = 0
    load = catalog._load

    async def counted(name: str) -> Media | None:
        nonlocal loads
        loads += 1
        return await load(name)

    monkeypatch.setattr(catalog, "_load", counted)
    assert set(await asyncio.gather(*(catalog.get(ID) for _ in range(500)))) == {None}
    assert loads == 1

    gate = Gate()
    monkeypatch.setattr(catalog, "_load", gate.behind(counted))
    early = asyncio.create_task(catalog.get(ID))
    await gate.reached.wait()
    committed = await catalog.commit(new_media(blobs))
    late = asyncio.create_task(catalog.get(ID))
    await asyncio.sleep(0)
    gate.opened.set()
    assert await early is None
    assert await late == committed
    assert not catalog._running
    assert not catalog._waiting


async def test_a_caller_that_leaves_takes_nobody_along(blobs: Blobs, catalog: Catalog) -> None:
    committed = await catalog.commit(new_media(blobs))
    first, second = asyncio.create_task(catalog.get(ID)), asyncio.create_task(catalog.get(ID))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == committed


# Redis away --------------------------------------------------------------------------------------


async def test_without_redis_the_bucket_answers(
    blobs: Blobs, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = settings.replace(redis_url=f"unix://{tmp_path}/nothing.sock")
    async with opened(blobs, away) as catalog:
        committed = await catalog.commit(new_media(blobs))
        assert await catalog.get(ID) == committed
        assert catalog.held(ID) is None
        assert await catalog.list(after="", limit=10) == [committed]
        await catalog.remember_absence(ID, GONE)
        assert await catalog.absence(ID) is None
        # Who holds the media could not be told.
        for change in (catalog.delete(ID), catalog.commit(committed, replacing=committed.etag)):
            with pytest.raises(Failure) as raised:
                await change
            assert raised.value.reason == reason_pb2.REASON_CACHE_UNAVAILABLE
        assert await catalog.get(ID) == committed
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1


async def test_nothing_is_held_while_changes_are_not_heard(
    blobs: Blobs, catalog: Catalog, redis: Redis
) -> None:
    await catalog.commit(new_media(blobs))
    await holding(catalog)
    for client in await redis.client_list(_type="pubsub"):
        await redis.client_kill_filter(_id=client["id"])
    await until(lambda: catalog.held(ID) is None)
    # It comes back by itself.
    await holding(catalog)


async def test_a_silent_redis_is_noticed(
    blobs: Blobs, catalog: Catalog, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invalidation, "PING_SECONDS", 60.0)
    monkeypatch.setattr(invalidation, "SILENCE_SECONDS", 0.1)
    await catalog.commit(new_media(blobs))
    await holding(catalog)
    for client in await redis.client_list(_type="pubsub"):
        await redis.client_kill_filter(_id=client["id"])
    await holding(catalog)
    await until(lambda: catalog.held(ID) is None)


# Delete ------------------------------------------------------------------------------------------


async def test_a_deleted_media_leaves_only_what_is_under_way(
    blobs: Blobs, catalog: Catalog
) -> None:
    for attempt in (1, 2):
        key = f"media/{ID}/{attempt}.mp4"
        await blobs.upload(key, io.BytesIO(b"x"), content_type="video/mp4", size_bytes=1)
    committed = await catalog.commit(new_media(blobs, 1))
    with pytest.raises(Failure) as raised:
        await catalog.delete(ID, etag="0" * 32)
    assert raised.value.reason == reason_pb2.REASON_ETAG_MISMATCH
    assert await catalog.get(ID) == committed
    assert await catalog.delete(ID, etag=committed.etag)
    assert await catalog.get(ID) is None
    assert not await catalog.delete(ID)
    assert await blobs.stat(f"media/{ID}/media.json") is None
    assert await blobs.stat(f"media/{ID}/1.mp4") is None
    assert await blobs.stat(f"media/{ID}/2.mp4") is not None


async def test_a_manifest_cannot_have_another_media_s_files_deleted(
    blobs: Blobs, catalog: Catalog
) -> None:
    theirs = f"media/{media_id('two')}/1.mp4"
    await blobs.put(theirs, b"x", content_type="video/mp4")
    media = new_media(blobs)
    media.blob.url = blobs.url(theirs)
    await catalog.commit(media)
    assert await catalog.delete(ID)
    assert await blobs.stat(theirs) is not None


# List --------------------------------------------------------------------------------------------


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


# Absence -----------------------------------------------------------------------------------------


async def test_an_absence_is_remembered_for_as_long_as_its_reason_holds(
    blobs: Blobs, catalog: Catalog, other: Catalog, redis: Redis
) -> None:
    assert await catalog.absence(ID) is None
    await catalog.remember_absence(ID, GONE)
    remembered = await other.absence(ID)
    assert remembered is not None
    failure, age = remembered
    assert (failure.reason, failure.message, failure.metadata) == (
        GONE.reason,
        GONE.message,
        GONE.metadata,
    )
    assert timedelta(0) <= age < timedelta(seconds=5)
    assert 0 < await redis.ttl(f"ingot:absent:{ID}") <= 600
    await catalog.forget_absence(ID)
    assert await other.absence(ID) is None
    await catalog.remember_absence(ID, GONE)
    await catalog.commit(new_media(blobs))
    assert await other.absence(ID) is None


async def test_what_may_change_at_once_is_not_remembered(
    blobs: Blobs, catalog: Catalog, settings: Settings
) -> None:
    await catalog.remember_absence(ID, Failure(reason_pb2.REASON_STALLED, "too slow"))
    assert await catalog.absence(ID) is None
    async with opened(blobs, settings.replace(negative_ttl=timedelta(0))) as forgetful:
        await forgetful.remember_absence(ID, GONE)
        assert await forgetful.absence(ID) is None
