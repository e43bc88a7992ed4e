"""A commit makes media visible, whole, and once; a deletion removes what it may."""

from __future__ import annotations

import asyncio
import json

import pytest

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from tests.integration.catalog.running_catalog import ID, holding, media_id, new_media


async def test_a_committed_media_is_found_everywhere(
    blobs: Blobs, catalog: Catalog, other: Catalog
) -> None:
    assert await catalog.get(ID) is None
    committed = await catalog.commit(new_media(blobs))
    assert committed.media.etag
    assert committed.media.HasField("create_time")
    for each in (catalog, other):
        assert await each.get(ID) == committed
        assert await holding(each) == committed


async def test_the_manifest_is_deterministic_json_without_etag(
    blobs: Blobs, catalog: Catalog
) -> None:
    media = new_media(blobs)
    media.media.etag = "not stored"
    media.media.create_time.FromSeconds(1)
    first = await catalog.commit(media)
    stored = await blobs.get(f"media/{ID}/media.json")
    assert stored is not None
    manifest = json.loads(stored[0])["media"]
    assert "Füße".encode() in stored[0]
    assert "etag" not in manifest
    assert manifest["blob"]["sizeBytes"] == str(1 << 40)
    assert manifest["createTime"] == "1970-01-01T00:00:01Z"
    assert list(manifest["labels"]) == ["a", "b"]
    again = await catalog.commit(media, replacing=first.media.etag)
    assert again.media.etag == first.media.etag


async def test_of_sixteen_commits_one_wins_and_all_get_it(
    blobs: Blobs, catalog: Catalog, other: Catalog
) -> None:
    answers = await asyncio.gather(
        *((catalog, other)[attempt % 2].commit(new_media(blobs, attempt)) for attempt in range(16))
    )
    assert len({answer.media.etag for answer in answers}) == 1
    assert all(answer == answers[0] for answer in answers)
    replaced = await asyncio.gather(
        *(
            (catalog, other)[attempt % 2].commit(
                new_media(blobs, attempt), replacing=answers[0].media.etag
            )
            for attempt in range(16, 32)
        )
    )
    assert len({answer.media.etag for answer in replaced}) == 1
    assert replaced[0].media.etag != answers[0].media.etag
    assert await catalog.get(ID) == await other.get(ID) == replaced[0]


async def test_a_reader_never_sees_a_torn_media(
    blobs: Blobs, catalog: Catalog, other: Catalog
) -> None:
    standing = await catalog.commit(new_media(blobs, 0))
    seen: list[int] = []
    ended = False

    async def read() -> None:
        while not ended:
            manifest = await other.get(ID)
            assert manifest is not None
            media = manifest.media
            assert media.video[0].url == media.blob.url
            seen.append(int(media.blob.url.rpartition("/")[2].removesuffix(".mp4")))
            await asyncio.sleep(0)

    reading = asyncio.create_task(read())
    for attempt in range(1, 20):
        standing = await catalog.commit(new_media(blobs, attempt), replacing=standing.media.etag)
    ended = True
    await reading
    assert seen == sorted(seen)
    assert await other.get(ID) == standing


async def test_replacing_what_was_deleted_meanwhile_makes_it_new(
    blobs: Blobs, catalog: Catalog
) -> None:
    first = await catalog.commit(new_media(blobs))
    assert await catalog.delete(ID)
    second = await catalog.commit(new_media(blobs, 2), replacing=first.media.etag)
    assert await catalog.get(ID) == second


@pytest.mark.parametrize("text", ["", "../x", ID[:-1], ID.upper(), ID + "/x"])
async def test_only_a_media_id_becomes_a_key(blobs: Blobs, catalog: Catalog, text: str) -> None:
    assert catalog.get_from_memory(text) is None
    assert await catalog.get(text) is None
    assert not await catalog.delete(text)
    with pytest.raises(ValueError, match="is not a media id"):
        await catalog.commit(new_media(blobs, name=text))


async def test_a_manifest_of_a_later_version_is_read(blobs: Blobs, catalog: Catalog) -> None:
    manifest = b'{"media": {"id": "x", "title": "t", "a": {"b": 1}}, "inventedLater": 1}'
    await blobs.put(f"media/{ID}/media.json", manifest, content_type="application/json")
    read = await catalog.get(ID)
    assert read is not None
    assert (read.media.id, read.media.title) == (ID, "t")


@pytest.mark.parametrize("manifest", [b"{", b"{}"])
async def test_a_broken_manifest_is_named(blobs: Blobs, catalog: Catalog, manifest: bytes) -> None:
    await blobs.put(f"media/{ID}/media.json", manifest, content_type="application/json")
    with pytest.raises(Failure, match=f"media/{ID}/media.json cannot be read"):
        await catalog.get(ID)
    assert await catalog.load_many([ID]) == []


async def test_a_deleted_media_leaves_only_what_is_under_way(
    blobs: Blobs, catalog: Catalog
) -> None:
    for attempt in (1, 2):
        key = f"media/{ID}/{attempt}.mp4"
        await blobs.put(key, b"x", content_type="video/mp4")
    committed = await catalog.commit(new_media(blobs, 1))
    with pytest.raises(Failure) as raised:
        await catalog.delete(ID, etag="0" * 32)
    assert raised.value.reason == reason_pb2.REASON_ETAG_MISMATCH
    assert await catalog.get(ID) == committed
    assert await catalog.delete(ID, etag=committed.media.etag)
    assert await catalog.get(ID) is None
    assert not await catalog.delete(ID)
    assert await blobs.stat(f"media/{ID}/1.mp4") is None
    assert await blobs.stat(f"media/{ID}/2.mp4") is not None


async def test_of_two_deletions_one_succeeds(
    blobs: Blobs, catalog: Catalog, other: Catalog
) -> None:
    await catalog.commit(new_media(blobs))
    assert sorted(await asyncio.gather(catalog.delete(ID), other.delete(ID))) == [False, True]


async def test_a_deletion_of_one_version_never_deletes_the_next(
    blobs: Blobs, catalog: Catalog, other: Catalog
) -> None:
    standing = await catalog.commit(new_media(blobs, 0))
    for attempt in range(1, 10):
        deleting = asyncio.create_task(catalog.delete(ID, etag=standing.media.etag))
        standing = await other.commit(new_media(blobs, attempt), replacing=standing.media.etag)
        await asyncio.wait([deleting])
        assert isinstance(deleting.exception(), Failure) or deleting.result() is True
        assert await other.get(ID) == standing


async def test_a_manifest_cannot_have_another_media_s_files_deleted(
    blobs: Blobs, catalog: Catalog
) -> None:
    theirs = f"media/{media_id('two')}/1.mp4"
    await blobs.put(theirs, b"x", content_type="video/mp4")
    media = new_media(blobs)
    media.media.blob.url = blobs.url(theirs)
    await catalog.commit(media)
    assert await catalog.delete(ID)
    assert await blobs.stat(theirs) is not None


async def test_a_media_item_that_has_expired_is_not_stored_and_is_stored_anew(
    blobs: Blobs, catalog: Catalog, other: Catalog
) -> None:
    for attempt in (1, 2):
        key = f"media/{ID}/{attempt}.mp4"
        await blobs.put(key, b"x", content_type="video/mp4")
    expired = new_media(blobs, 1)
    expired.media.expire_time.FromSeconds(1)
    await catalog.commit(expired)
    for each in (catalog, other):
        assert await each.get(ID) is None
        assert await each.find(ID) == (ID, None)
        assert await each.load_many([ID]) == []

    committed = await other.commit(new_media(blobs, 2))

    assert committed.media.blob.url == blobs.url(f"media/{ID}/2.mp4")
    assert await catalog.get(ID) == committed
    assert await blobs.stat(f"media/{ID}/1.mp4") is None
    assert await blobs.stat(f"media/{ID}/2.mp4") is not None
