from __future__ import annotations

import asyncio
from typing import cast

import pytest

from ingot_server.api import store_health
from ingot_server.api.store_health import StoreHealth, Stores
from ingot_server.library.blobs import Blobs
from ingot_server.redis import Redis


async def test_a_cancellation_that_is_lost_does_not_keep_a_server_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = asyncio.Event()

    async def lose_cancellation(_: object) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    class Bucket:
        async def require_bucket(self) -> None:
            await asyncio.Event().wait()

    async def changed(_: Stores) -> None:
        raise AssertionError("both can be used")

    monkeypatch.setattr(store_health, "require_writes", lose_cancellation)
    health = StoreHealth(cast("Redis", None), cast("Blobs", Bucket()))
    health.start(changed)
    await asked.wait()

    async with asyncio.timeout(10):
        await health.close()
