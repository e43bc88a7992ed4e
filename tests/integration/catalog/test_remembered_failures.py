from __future__ import annotations

from datetime import timedelta

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.redis import Redis
from tests.integration.catalog.running_catalog import GONE, ID, new_media, opened


async def test_a_failure_is_remembered_for_as_long_as_its_reason_is_cached(
    blobs: Blobs, catalog: Catalog, other: Catalog, redis: Redis
) -> None:
    assert await catalog.remembered_failure(ID) is None
    await catalog.remember_failure(ID, GONE)
    remembered = await other.remembered_failure(ID)
    assert remembered is not None
    failure, age = remembered
    assert (failure.reason, failure.message, failure.metadata) == (
        GONE.reason,
        GONE.message,
        GONE.metadata,
    )
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert 0 < await redis.ttl(f"ingot:negative:{ID}") <= 600
    await catalog.forget_failure(ID)
    assert await other.remembered_failure(ID) is None
    await catalog.remember_failure(ID, GONE)
    await catalog.commit(new_media(blobs))
    assert await other.remembered_failure(ID) is None


async def test_what_may_change_at_once_is_not_remembered(
    blobs: Blobs, catalog: Catalog, settings: Settings
) -> None:
    await catalog.remember_failure(ID, Failure(reason_pb2.REASON_STALLED, "too slow"))
    assert await catalog.remembered_failure(ID) is None
    async with opened(blobs, settings.replace(negative_ttl=timedelta(0))) as forgetful:
        await forgetful.remember_failure(ID, GONE)
        assert await forgetful.remembered_failure(ID) is None
