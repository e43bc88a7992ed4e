"""A stored file that was damaged in the bucket is never handed out as if it were whole."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.job_pb2 import JOB_STATE_QUEUED
from ingot.v1.media_pb2 import Media, SideFile
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    DeleteMediaRequest,
    DownloadRequest,
    GetMediaRequest,
    ListMediaRequest,
)
from ingot_server.config import Settings
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.scrub import scrub
from tests.integration.api.running_api import CONTENT, URL, Api
from tests.recipes import make_recipe
from tests.refusals import refused

pytestmark = pytest.mark.any_stores

FLIPPED = CONTENT[:5000] + bytes([CONTENT[5000] ^ 1]) + CONTENT[5001:]
CALLS: dict[str, Callable[[Api, Media], Awaitable[object]]] = {
    "GetMedia": lambda api, media: api.media.GetMedia(GetMediaRequest(media_id=media.id)),
    "Download": lambda api, media: api.media.Download(DownloadRequest(media_id=media.id)),
    "Download by URL": lambda api, _: api.media.Download(DownloadRequest(url=URL, offset=9)),
    "CreateDownloadUrl": lambda api, media: api.media.CreateDownloadUrl(
        CreateDownloadUrlRequest(media_id=media.id)
    ),
    "Convert": lambda api, media: api.ingest.Convert(
        ConvertRequest(media_id=media.id, recipe=make_recipe("mp3"))
    ),
}


async def damage(api: Api, media: Media, content: bytes) -> None:
    await api.blobs.put(api.blobs.key(media.blob.url), content, content_type="video/mp4")


async def listed(api: Api) -> list[str]:
    return [each.id for each in (await api.media.ListMedia(ListMediaRequest())).media]


async def assert_not_served(api: Api, media: Media) -> None:
    for name, call in CALLS.items():
        found = await refused(call(api, media))
        assert (name, found.reason, found.code.name) == (name, "MEDIA_DAMAGED", "DATA_LOSS")
    assert media.id not in await listed(api)


@pytest.mark.parametrize("offset", [0, 1000], ids=["whole", "resumed"])
async def test_a_download_that_the_bucket_ends_early_fails(api: Api, offset: int) -> None:
    media = await api.store()
    await damage(api, media, CONTENT[:-1])

    found = await refused(api.media.Download(DownloadRequest(media_id=media.id, offset=offset)))

    assert found.reason == "MEDIA_DAMAGED"
    await assert_not_served(api, media)


async def test_a_whole_download_finds_a_flipped_bit_and_then_nothing_is_served(
    api: Api, redis: Redis
) -> None:
    media = await api.store()
    await damage(api, media, FLIPPED)

    found = await refused(api.media.Download(DownloadRequest(media_id=media.id)))

    assert found.reason == "MEDIA_DAMAGED"
    await assert_not_served(api, media)
    await redis.flushall()
    await assert_not_served(api, media)


async def test_an_ingest_of_a_damaged_media_item_is_not_a_hit(api: Api) -> None:
    media = await api.store()
    assert (await api.submit()).cached
    await damage(api, media, FLIPPED)
    await refused(api.media.Download(DownloadRequest(media_id=media.id)))

    job = await api.submit()

    assert (job.state, job.media.id) == (JOB_STATE_QUEUED, media.id)


async def test_a_damaged_media_item_is_whole_again_when_it_is_stored_again(api: Api) -> None:
    media = await api.store()
    await damage(api, media, FLIPPED)
    await refused(api.media.Download(DownloadRequest(media_id=media.id)))
    await damage(api, media, CONTENT)
    marked = await api.catalog.get(media.id, damaged=True)
    assert marked is not None
    assert marked.HasField("damage")

    await api.catalog.commit(Manifest(media=media), replacing=marked.media.etag)

    download = api.media.Download(DownloadRequest(media_id=media.id))
    assert b"".join([part.data async for part in download]) == CONTENT
    assert await listed(api) == [media.id]


async def test_a_damaged_media_item_can_be_deleted(api: Api) -> None:
    media = await api.store()
    await damage(api, media, FLIPPED)
    await refused(api.media.Download(DownloadRequest(media_id=media.id)))

    await api.media.DeleteMedia(DeleteMediaRequest(media_id=media.id))

    found = await refused(api.media.GetMedia(GetMediaRequest(media_id=media.id)))
    assert found.reason == "MEDIA_NOT_FOUND"


async def test_a_damaged_side_file_is_refused_alone_and_asked_for_again(
    api: Api, settings: Settings
) -> None:
    media = await api.store()
    stored = Manifest(media=media)
    side = stored.media.side_files.add(kind=SideFile.KIND_THUMBNAIL, size_bytes=3)
    side.url = api.blobs.url(f"media/{media.id}/1.jpg")
    side.sha256 = hashlib.sha256(b"one").hexdigest()
    await api.blobs.put(api.blobs.key(side.url), b"two", content_type="image/jpeg")
    await api.catalog.replace(stored)

    assert not await scrub(settings, restart=False, say=lambda _line: None)

    found = await refused(api.media.Download(DownloadRequest(url=side.url)))
    assert found.reason == "MEDIA_DAMAGED"
    assert [each async for each in api.media.Download(DownloadRequest(media_id=media.id))]
    assert (await api.submit()).state == JOB_STATE_QUEUED
