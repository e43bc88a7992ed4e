"""A conditional PUT whose response was lost is sent again, and says only what is certain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from tests.bucket_proxy import BucketProxy, bucket_behind_proxy
from tests.integration.catalog.running_catalog import ID, new_media, opened

pytestmark = pytest.mark.any_stores


@pytest.fixture
async def behind(settings: Settings) -> AsyncIterator[tuple[BucketProxy, Blobs]]:
    async with bucket_behind_proxy(settings) as (proxy, behind_it):
        blobs = Blobs(behind_it)
        await blobs.prepare()
        yield proxy, blobs
        await blobs.close()


async def test_a_write_that_was_repeated_has_written(behind: tuple[BucketProxy, Blobs]) -> None:
    proxy, blobs = behind
    proxy.before_repetition = lambda: asyncio.sleep(0)

    etag = await blobs.put("a", b"mine", content_type="text/plain", if_none_match=True)

    assert etag is not None
    assert await blobs.get("a") == (b"mine", etag)


async def test_a_repeated_write_that_others_wrote_over_is_no_refusal(
    behind: tuple[BucketProxy, Blobs],
) -> None:
    proxy, blobs = behind
    proxy.before_repetition = lambda: blobs.put("a", b"theirs", content_type="text/plain")

    with pytest.raises(Failure, match="has been changed since"):
        await blobs.put("a", b"mine", content_type="text/plain", if_none_match=True)


async def test_a_commit_that_was_deleted_before_its_repetition_does_not_come_back(
    behind: tuple[BucketProxy, Blobs], settings: Settings
) -> None:
    proxy, blobs = behind
    async with opened(blobs, settings) as catalog:
        proxy.before_repetition = lambda: catalog.delete(ID)
        with pytest.raises(Failure) as failed:
            await catalog.commit(new_media(blobs))

        assert failed.value.reason == reason_pb2.REASON_STORAGE_UNAVAILABLE
        assert await catalog.get(ID) is None


async def test_a_deleted_version_is_not_replaced(blobs: Blobs, catalog: Catalog) -> None:
    stored = await catalog.commit(new_media(blobs))
    await catalog.delete(ID)

    assert await catalog.replace(stored) is None
    assert await catalog.get(ID) is None
