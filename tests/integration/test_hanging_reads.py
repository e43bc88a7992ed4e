"""Reads of the bucket that hang take nothing from other calls."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from ingot.v1.media_service_pb2 import DownloadRequest, GetMediaRequest
from ingot_server.config import Settings
from tests.bucket_proxy import BucketProxy, bucket_behind_proxy
from tests.integration.api.running_api import CONTENT, Api, serving

pytestmark = pytest.mark.any_stores

# Less than the time limits of reads that hang.
PROMPT_SECONDS = 8.0
MORE_THAN_THREADS = 100


@pytest.fixture
async def bucket(settings: Settings) -> AsyncIterator[tuple[BucketProxy, Api]]:
    """An API whose bucket is behind the proxy."""
    async with bucket_behind_proxy(settings) as (proxy, behind), serving(behind) as api:
        yield proxy, api
        proxy.release()


def any_media_id() -> str:
    return base64.b32encode(secrets.token_bytes(32)).decode().lower().rstrip("=")


def hanging_manifests(api: Api, proxy: BucketProxy, count: int) -> list[Any]:
    """Begin to read manifests that the bucket does not answer for."""
    ids = [any_media_id() for _ in range(count)]
    proxy.hold(lambda method, path: method == "GET" and any(each in path for each in ids))
    return [api.media.GetMedia(GetMediaRequest(media_id=each)) for each in ids]


async def downloaded(api: Api, media_id: str) -> bytes:
    return b"".join(
        [response.data async for response in api.media.Download(DownloadRequest(media_id=media_id))]
    )


async def test_forty_manifests_that_hang_keep_no_call_from_a_healthy_object(
    bucket: tuple[BucketProxy, Api], redis: Redis
) -> None:
    proxy, api = bucket
    media = await api.store()
    await redis.flushall()
    calls = hanging_manifests(api, proxy, 40)
    await proxy.held(40)

    async with asyncio.timeout(PROMPT_SECONDS):
        assert await downloaded(api, media.id) == CONTENT
    for call in calls:
        call.cancel()


@pytest.mark.parametrize("fault", ["hold", "stall"])
async def test_forty_downloads_that_hang_keep_no_call_from_a_healthy_object(
    bucket: tuple[BucketProxy, Api], redis: Redis, fault: str
) -> None:
    proxy, api = bucket
    media, other = await api.store(), await api.store("http://127.0.0.1/other.mp4")
    await redis.flushall()
    getattr(proxy, fault)(lambda method, path: method == "GET" and f"{media.id}/1.mp4" in path)
    tasks = [asyncio.create_task(downloaded(api, media.id)) for _ in range(40)]
    await proxy.held(40)

    async with asyncio.timeout(PROMPT_SECONDS):
        assert await downloaded(api, other.id) == CONTENT
    for task in tasks:
        task.cancel()


async def test_a_cancelled_read_of_a_manifest_gives_its_thread_back(
    bucket: tuple[BucketProxy, Api], redis: Redis
) -> None:
    proxy, api = bucket
    media = await api.store()
    await redis.flushall()
    calls = hanging_manifests(api, proxy, MORE_THAN_THREADS)
    await proxy.held(64)
    for call in calls:
        call.cancel()

    async with asyncio.timeout(PROMPT_SECONDS):
        assert await downloaded(api, media.id) == CONTENT


@pytest.mark.parametrize("fault", ["hold", "stall"])
async def test_a_cancelled_download_gives_its_thread_back(
    bucket: tuple[BucketProxy, Api], fault: str
) -> None:
    proxy, api = bucket
    media, other = await api.store(), await api.store("http://127.0.0.1/other.mp4")
    getattr(proxy, fault)(lambda method, path: method == "GET" and f"{media.id}/1.mp4" in path)
    tasks = [asyncio.create_task(downloaded(api, media.id)) for _ in range(MORE_THAN_THREADS)]
    await proxy.held(64)
    for task in tasks:
        task.cancel()

    async with asyncio.timeout(PROMPT_SECONDS):
        assert await downloaded(api, other.id) == CONTENT
