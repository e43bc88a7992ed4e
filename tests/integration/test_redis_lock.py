"""A lock in Redis has one holder, and ends with it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from ingot_server.config import Settings
from ingot_server.redis import Redis, connect
from ingot_server.redis_lock import redis_lock
from tests.relay import relaying
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores

KEY = "ingot:lock"
MINUTE = timedelta(minutes=1)


async def hold(redis: Redis, lifetime: timedelta = MINUTE) -> None:
    async with redis_lock(redis, KEY, lifetime):
        await asyncio.Event().wait()


async def test_a_lock_has_one_holder_at_a_time(redis: Redis) -> None:
    async with redis_lock(redis, KEY, MINUTE) as first:
        async with redis_lock(redis, KEY, MINUTE) as second:
            assert first is not None
            assert second is None
        assert await redis.get(KEY) == first.encode()
    assert not await redis.exists(KEY)


async def test_a_caller_that_is_cancelled_while_it_acquires_a_lock_leaves_none(
    redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        relaying(settings.redis_url.removeprefix("unix://"), tmp_path / "relay") as relay,
        connect(settings.replace(redis_url=f"unix://{tmp_path / 'relay'}")) as behind,
    ):
        relay.hold_back(b"'NX'")
        holding = asyncio.create_task(hold(behind))
        await relay.held.wait()
        holding.cancel()
        # Time enough to remove the key too early, before it is set.
        await asyncio.wait([holding], timeout=0.2)
        relay.release()
        await asyncio.wait([holding])
        await relay.delivered.wait()

        await redis.ping()  # what was written to the server before is carried out
        assert not await redis.exists(KEY)
        assert holding.cancelled()


async def test_a_lock_is_renewed_while_it_is_held(redis: Redis) -> None:
    holding = asyncio.create_task(hold(redis, timedelta(seconds=4)))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        before = -2
        while not 0 < before < await redis.pttl(KEY):
            before = await redis.pttl(KEY)
        holding.cancel()
        await asyncio.wait([holding])
    assert not await redis.exists(KEY)


async def test_whoever_lost_a_lock_neither_renews_nor_removes_that_of_another(
    redis: Redis,
) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        async with redis_lock(redis, KEY, timedelta(milliseconds=40)):
            await redis.set(KEY, "another's")
            renewed = await evaluations(redis) + 2
            while await evaluations(redis) < renewed:  # noqa: ASYNC110 - only Redis says
                await asyncio.sleep(0.01)
            assert await redis.pttl(KEY) == -1
        assert await redis.get(KEY) == b"another's"


async def evaluations(redis: Redis) -> int:
    """How many scripts Redis has run."""
    return int((await redis.info("commandstats"))["cmdstat_eval"]["calls"])
