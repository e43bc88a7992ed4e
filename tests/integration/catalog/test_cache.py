"""What processes hold and what Redis holds never outlives a change, with Redis or without."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library import invalidation
from ingot_server.library.blobs import Blobs
from ingot_server.library.cache import MARK_SECONDS
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.redis import Redis
from tests.integration.catalog.running_catalog import GONE, ID, holding, new_media, opened
from tests.waiting import until


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


async def test_wiping_redis_loses_nothing(blobs: Blobs, catalog: Catalog, redis: Redis) -> None:
    committed = await catalog.commit(new_media(blobs))
    await holding(catalog)
    await redis.flushall()
    await until(lambda: catalog.get_from_memory(ID) is None)
    assert await catalog.get(ID) == committed
    assert await redis.get(f"ingot:media:{ID}")


async def test_redis_serves_reads_without_the_bucket(
    blobs: Blobs, catalog: Catalog, redis: Redis, settings: Settings
) -> None:
    committed = await catalog.commit(new_media(blobs))
    value = await redis.get(f"ingot:media:{ID}")
    assert isinstance(value, bytes)
    assert Manifest.FromString(value) == committed
    assert 0 < await redis.ttl(f"ingot:media:{ID}") <= settings.manifest_ttl.total_seconds()
    await blobs.remove(f"media/{ID}/media.json")
    assert await catalog.get(ID) == committed


@pytest.mark.parametrize("change", ["replace", "delete"])
async def test_another_process_is_notified_of_a_change(
    blobs: Blobs, catalog: Catalog, other: Catalog, change: str
) -> None:
    first = await catalog.commit(new_media(blobs))
    assert await holding(other) == first
    if change == "replace":
        expected: Manifest | None = await catalog.commit(
            new_media(blobs, 2), replacing=first.media.etag
        )
    else:
        expected = None
        await catalog.delete(ID)
    assert catalog.get_from_memory(ID) is None
    await until(lambda: other.get_from_memory(ID) is None)
    assert await catalog.get(ID) == await other.get(ID) == expected


async def test_what_changed_while_it_was_read_is_not_held(
    blobs: Blobs, catalog: Catalog, other: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await catalog.commit(new_media(blobs))
    gate = Gate()
    monkeypatch.setattr(other._cache, "_query", gate.behind(other._cache._query))
    reading = asyncio.create_task(other.get(ID))
    await gate.reached.wait()
    heard = asyncio.Event()
    drop = other._cache._memory.invalidate

    def drop_and_tell(name: str) -> None:
        drop(name)
        heard.set()

    monkeypatch.setattr(other._cache._memory, "invalidate", drop_and_tell)
    second = await catalog.commit(new_media(blobs, 2), replacing=first.media.etag)
    await heard.wait()
    gate.opened.set()
    assert await reading == first
    assert other.get_from_memory(ID) is None
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
    await until(lambda: catalog.get_from_memory(ID) is None)
    gate = Gate()
    monkeypatch.setattr(other, "_load", gate.behind(other._load))
    reading = asyncio.create_task(other.get(ID))
    await gate.reached.wait()
    if change == "replace":
        expected: Manifest | None = await catalog.commit(
            new_media(blobs, 2), replacing=first.media.etag
        )
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
    replacing = asyncio.create_task(catalog.commit(new_media(blobs, 2), replacing=first.media.etag))
    await gate.reached.wait()
    await redis.flushall()
    assert await other.get(ID) == first
    gate.opened.set()
    second = await replacing
    assert await other.get(ID) == second


async def test_a_mark_without_its_writer_ends(blobs: Blobs, catalog: Catalog, redis: Redis) -> None:
    committed = await catalog.commit(new_media(blobs))
    await catalog._cache.mark(ID)
    assert await catalog.get(ID) == committed
    assert catalog.get_from_memory(ID) is None
    assert 0 < await redis.pttl(f"ingot:media:{ID}") <= MARK_SECONDS * 1000


async def test_callers_at_once_share_a_read_that_begins_after_them(
    blobs: Blobs, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = 0
    load = catalog._load

    async def counted(name: str) -> Manifest | None:
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
    assert not catalog._reads._running
    assert not catalog._reads._waiting


async def test_a_caller_that_leaves_does_not_cancel_the_others(
    blobs: Blobs, catalog: Catalog
) -> None:
    committed = await catalog.commit(new_media(blobs))
    first, second = asyncio.create_task(catalog.get(ID)), asyncio.create_task(catalog.get(ID))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == committed


async def test_without_redis_the_bucket_answers(
    blobs: Blobs, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = settings.replace(redis_url=f"unix://{tmp_path}/nothing.sock")
    async with opened(blobs, away) as catalog:
        committed = await catalog.commit(new_media(blobs))
        assert await catalog.get(ID) == committed
        assert catalog.get_from_memory(ID) is None
        assert await catalog.load_many([ID]) == [committed]
        await catalog.remember_failure(ID, GONE)
        assert await catalog.remembered_failure(ID) is None
        # Who holds the media could not be told.
        for change in (
            catalog.delete(ID),
            catalog.commit(committed, replacing=committed.media.etag),
        ):
            with pytest.raises(Failure) as raised:
                await change
            assert raised.value.reason == reason_pb2.REASON_CACHE_UNAVAILABLE
        assert await catalog.get(ID) == committed
    ours = [record for record in caplog.records if record.name.startswith("ingot_server")]
    warned = {record.name for record in ours if record.levelno >= logging.WARNING}
    assert warned == {"ingot_server.outage", "ingot_server.library.catalog"}


async def test_nothing_is_cached_while_no_changes_are_received(
    blobs: Blobs, catalog: Catalog, redis: Redis
) -> None:
    await catalog.commit(new_media(blobs))
    await holding(catalog)
    for client in await redis.client_list(_type="pubsub"):
        await redis.client_kill_filter(_id=client["id"])
    await until(lambda: catalog.get_from_memory(ID) is None)
    # It comes back by itself.
    await holding(catalog)


async def test_a_silent_redis_is_noticed(
    blobs: Blobs, catalog: Catalog, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invalidation, "PING_SECONDS", 60.0)
    monkeypatch.setattr(invalidation, "IDLE_SECONDS", 1.0)
    await catalog.commit(new_media(blobs))
    await holding(catalog)
    for client in await redis.client_list(_type="pubsub"):
        await redis.client_kill_filter(_id=client["id"])
    await holding(catalog)
    await until(lambda: catalog.get_from_memory(ID) is None)


@pytest.mark.parametrize("loss", ["flush", "restart"])
async def test_who_restores_what_redis_loses_hears_of_it(
    blobs: Blobs, redis: Redis, settings: Settings, loss: str
) -> None:
    catalog = Catalog(blobs, redis, settings)
    await catalog.start()
    wakeup = redis.losses.wakeup()
    assert not await wakeup.wait(0)
    if loss == "flush":
        await redis.flushall()
    else:
        for client in await redis.client_list(_type="pubsub"):
            await redis.client_kill_filter(_id=client["id"])
    assert await wakeup.wait(60)
    assert not await wakeup.wait(0)
    await catalog.close()
