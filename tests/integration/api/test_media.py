"""MediaService: media are read, listed, downloaded and deleted."""

from __future__ import annotations

import asyncio
import time
import urllib.parse
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from ingot.v1.media_pb2 import Media
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    DeleteMediaRequest,
    DownloadRequest,
    GetMediaRequest,
    ListMediaRequest,
    UpdateMediaRequest,
)
from tests.integration.api.running_api import CONTENT, URL, Api
from tests.refusals import refused
from tests.waiting import TIMEOUT_SECONDS


async def test_media_are_read_by_any_of_their_names(api: Api) -> None:
    media = await api.store()
    assert media.etag
    for request in (
        GetMediaRequest(media_id=media.id),
        GetMediaRequest(url="http://127.0.0.1:80/./clip.mp4"),
        GetMediaRequest(url=media.blob.url),
    ):
        for _ in range(2):
            assert (await api.media.GetMedia(request)).media == media


async def test_media_are_listed_page_by_page(api: Api) -> None:
    stored = [(await api.store(f"http://127.0.0.1/{n}.mp4", b"x")).id for n in range(5)]
    found: list[str] = []
    request = ListMediaRequest(page_size=2)
    while True:
        response = await api.media.ListMedia(request)
        assert len(response.media) <= 2
        found += [media.id for media in response.media]
        if not response.next_page_token:
            break
        request.page_token = response.next_page_token
    assert found == stored[::-1]


async def download(api: Api, **fields: Any) -> bytes:
    content = b""
    offset = fields.get("offset", 0)
    async for response in api.media.Download(DownloadRequest(url=URL, **fields)):
        assert response.offset == offset + len(content)
        assert 0 < len(response.data) <= 256 << 10
        content += response.data
    return content


async def test_a_download_is_resumed_where_it_broke(api: Api) -> None:
    media = await api.store()
    size = len(CONTENT)
    assert await download(api) == CONTENT
    assert await download(api, offset=300_000, sha256=media.blob.sha256) == CONTENT[300_000:]
    assert await download(api, offset=5, limit=7) == CONTENT[5:12]
    assert await download(api, offset=size - 1, limit=1 << 62) == CONTENT[-1:]
    assert await download(api, offset=size) == b""
    past = await refused(api.media.Download(DownloadRequest(url=URL, offset=size + 1)))
    assert (past.code, past.fields) == (grpc.StatusCode.OUT_OF_RANGE, {"offset"})
    other = await refused(api.media.Download(DownloadRequest(url=URL, sha256="0" * 64)))
    assert (other.code, other.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")


async def test_a_download_url_works_for_anybody(api: Api) -> None:
    await api.store()
    response = await api.media.CreateDownloadUrl(
        CreateDownloadUrlRequest(url=URL, lifetime=Duration(seconds=60))
    )

    def fetch() -> tuple[bytes, str]:
        with urllib.request.urlopen(response.url) as answer:
            return answer.read(), answer.headers["Content-Disposition"]

    content, disposition = await asyncio.to_thread(fetch)
    assert content == CONTENT
    assert "A clip.mp4" in urllib.parse.unquote(disposition)
    assert response.HasField("expire_time")


async def test_a_deletion_is_guarded_by_the_etag(api: Api) -> None:
    media = await api.store()
    found = await refused(
        api.media.DeleteMedia(DeleteMediaRequest(media_id=media.id, etag="other"))
    )
    assert (found.code, found.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    await api.media.DeleteMedia(DeleteMediaRequest(media_id=media.id, etag=media.etag))
    found = await refused(api.media.GetMedia(GetMediaRequest(media_id=media.id)))
    assert found.reason == "MEDIA_NOT_FOUND"


async def test_a_media_item_is_deleted_by_any_of_its_names(api: Api) -> None:
    alias = "a" * 52
    for number in range(3):
        media = await api.store()
        await api.catalog.put_alias(alias, media.id, source_key=media.source.key)
        request = (
            DeleteMediaRequest(url="http://127.0.0.1:80/./clip.mp4"),
            DeleteMediaRequest(url=media.blob.url),
            DeleteMediaRequest(media_id=alias),
        )[number]
        await api.media.DeleteMedia(request)
        found = await refused(api.media.GetMedia(GetMediaRequest(media_id=media.id)))
        assert found.reason == "MEDIA_NOT_FOUND"


async def test_deleting_what_is_not_stored_succeeds_only_if_that_is_allowed(api: Api) -> None:
    found = await refused(api.media.DeleteMedia(DeleteMediaRequest(url=URL)))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "MEDIA_NOT_FOUND")
    await api.media.DeleteMedia(DeleteMediaRequest(url=URL, allow_missing=True))


def update(media: Media, *paths: str, etag: str = "", **fields: Any) -> UpdateMediaRequest:
    return UpdateMediaRequest(
        media_id=media.id, media=Media(**fields), update_mask=FieldMask(paths=paths), etag=etag
    )


async def test_an_update_changes_the_fields_of_its_mask_only(api: Api) -> None:
    media = await api.store()
    request = update(media, "title", "tags", title="A bell", tags=["bells"], description="Unnamed")
    changed = (await api.media.UpdateMedia(request)).media
    assert (changed.title, list(changed.tags), changed.description) == ("A bell", ["bells"], "")
    assert (changed.labels, changed.blob) == (media.labels, media.blob)
    assert changed.etag != media.etag
    changed = (await api.media.UpdateMedia(update(media, "labels", labels={"a": "b"}))).media
    changed = (await api.media.UpdateMedia(update(media, "tags"))).media
    assert (changed.title, list(changed.tags), changed.labels) == ("A bell", [], {"a": "b"})
    assert (await api.media.GetMedia(GetMediaRequest(url=URL))).media == changed


async def test_an_update_is_guarded_by_the_etag_and_stores_nothing_new(api: Api) -> None:
    media = await api.store()
    found = await refused(api.media.UpdateMedia(update(media, "title", etag="other")))
    assert (found.code, found.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    await api.media.UpdateMedia(update(media, "title", etag=media.etag))
    await api.media.DeleteMedia(DeleteMediaRequest(media_id=media.id))
    found = await refused(api.media.UpdateMedia(update(media, "title")))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "MEDIA_NOT_FOUND")


async def test_a_media_item_is_not_stored_once_it_has_expired(api: Api) -> None:
    media = await api.store()
    expire_time = Timestamp()
    expire_time.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    changed = (
        await api.media.UpdateMedia(update(media, "expire_time", expire_time=expire_time))
    ).media
    assert changed.expire_time == expire_time
    changed = (await api.media.UpdateMedia(update(media, "expire_time"))).media
    assert not changed.HasField("expire_time")

    expire_time.FromDatetime(datetime.now(UTC) + timedelta(seconds=1))
    await api.media.UpdateMedia(update(media, "expire_time", expire_time=expire_time))
    stored = GetMediaRequest(media_id=media.id)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        # The server has it in memory, and nothing tells the server that it expires.
        while time.time_ns() < expire_time.ToNanoseconds():
            with suppress(grpc.aio.AioRpcError):
                await api.media.GetMedia(stored)
    found = await refused(api.media.GetMedia(stored))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "MEDIA_NOT_FOUND")
    assert not (await api.media.ListMedia(ListMediaRequest())).media


async def test_a_media_item_is_pinned_until_it_is_unpinned(api: Api) -> None:
    media = await api.store()
    changed = (await api.media.UpdateMedia(update(media, "pinned", pinned=True))).media
    assert changed.pinned
    assert (await api.media.GetMedia(GetMediaRequest(media_id=media.id))).media == changed
    changed = (await api.media.UpdateMedia(update(media, "pinned"))).media
    assert not changed.pinned


async def test_of_updates_at_the_same_time_none_is_lost(api: Api) -> None:
    media = await api.store()
    updates = (update(media, "title", title="A bell"), update(media, "tags", tags=["bells"]))
    await asyncio.gather(*(api.media.UpdateMedia(each) for each in updates))
    stored = (await api.media.GetMedia(GetMediaRequest(media_id=media.id))).media
    assert (stored.title, list(stored.tags)) == ("A bell", ["bells"])


async def test_an_update_that_is_not_allowed_names_the_field(api: Api) -> None:
    media = await api.store()
    for request, field in (
        (update(media), "update_mask"),
        (update(media, "blob"), "update_mask"),
        (update(media, "title", title="x" * 5000), "media.title"),
        (update(media, "labels", labels={"A b": ""}), "media.labels['A b']"),
        (update(media, "expire_time", expire_time=Timestamp(seconds=1)), "media.expire_time"),
    ):
        found = await refused(api.media.UpdateMedia(request))
        assert found.reason == "INVALID_REQUEST"
        assert field in found.fields, found.fields
    assert (await api.media.GetMedia(GetMediaRequest(media_id=media.id))).media == media
