"""Lists of media items come from the index, which the bucket can always build again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingot.v1 import media_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.media_index import MediaFilter, MediaIndex, entry_of
from ingot_server.library.media_list import MediaList
from ingot_server.redis import Redis
from tests.integration.catalog.running_catalog import ID, media_id, new_media

ANY = MediaFilter()
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def media_list(blobs: Blobs, catalog: Catalog, redis: Redis) -> MediaList:
    return MediaList(catalog, blobs, redis)


@pytest.fixture(autouse=True)
async def stored(blobs: Blobs, catalog: Catalog) -> list[Media]:
    """Six media items, a minute apart, the latest first."""
    media = [dated(blobs, number) for number in range(6)]
    media[0].source.name = "youtube"
    media[1].source.name = "youtube"
    media[1].title = "A talk about Whales"
    media[1].uploader = "Ocean Channel"
    media[2].labels["team"] = "a/b=c\nd"
    media[3].derived_from_media_id = media[0].id
    media[3].ClearField("video")
    media[3].audio.add(url=media[3].blob.url)
    media[4].blob.content_type = "image/png"
    committed = [(await catalog.commit(Manifest(media=each))).media for each in media]
    return committed[::-1]


def dated(blobs: Blobs, number: int) -> Media:
    media = new_media(blobs, name=media_id(number)).media
    media.create_time.FromDatetime(START + timedelta(minutes=number))
    return media


async def everything(
    media_list: MediaList, wanted: MediaFilter = ANY, *, limit: int = 10
) -> list[Media]:
    found: list[Media] = []
    cursor = ""
    while True:
        page = await media_list.page(wanted, limit=limit, cursor=cursor)
        assert len(page.media) <= limit
        found += page.media
        cursor = page.cursor
        if not cursor:
            return found


@pytest.mark.parametrize("limit", [1, 2, 4, 6, 7])
async def test_the_latest_is_first_and_every_media_item_is_on_one_page(
    media_list: MediaList, stored: Sequence[Media], limit: int
) -> None:
    assert await everything(media_list, limit=limit) == stored


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"source": "youtube"}, [1, 0]),
        ({"source": "vimeo"}, []),
        ({"kind": media_pb2.MEDIA_KIND_VIDEO}, [5, 2, 1, 0]),
        ({"kind": media_pb2.MEDIA_KIND_AUDIO}, [3]),
        ({"kind": media_pb2.MEDIA_KIND_IMAGE}, [4]),
        ({"labels": {"team": "a/b=c\nd"}}, [2]),
        ({"labels": {"team": "a/b=c\nd", "a": "2"}}, [2]),
        ({"labels": {"team": "other"}}, []),
        ({"derived_from_media_id": media_id(0)}, [3]),
        ({"text": "whales OCEAN"}, [1]),
        ({"text": "whales desert"}, []),
        ({"text": "füsse"}, [5, 4, 3, 2, 0]),
        ({"source": "youtube", "text": "Füße", "kind": media_pb2.MEDIA_KIND_VIDEO}, [0]),
        ({"created_after": START + timedelta(minutes=4)}, [5, 4]),
        ({"created_before": START + timedelta(minutes=1)}, [0]),
        (
            {
                "created_after": START + timedelta(minutes=1),
                "created_before": START + timedelta(minutes=3),
            },
            [2, 1],
        ),
    ],
)
async def test_only_what_matches_every_filter_is_listed(
    media_list: MediaList, wanted: dict[str, Any], numbers: list[int]
) -> None:
    for limit in 1, 10:
        found = await everything(media_list, MediaFilter(**wanted), limit=limit)
        assert [media.id for media in found] == [media_id(number) for number in numbers]


async def test_a_media_item_that_changed_is_listed_as_it_is(
    catalog: Catalog, media_list: MediaList, stored: Sequence[Media]
) -> None:
    changed = Manifest(media=stored[-1])
    changed.media.source.name = "vimeo"
    await catalog.commit(changed, replacing=changed.media.etag)

    listed = [each.id for each in await everything(media_list, MediaFilter(source="youtube"))]
    assert listed == [media_id(1)]
    assert len(await everything(media_list)) == 6


async def test_what_is_deleted_is_not_listed(
    catalog: Catalog, media_list: MediaList, stored: Sequence[Media]
) -> None:
    await catalog.delete(stored[0].id)

    assert await everything(media_list) == stored[1:]


async def test_the_index_never_says_that_something_is_stored(
    blobs: Blobs, catalog: Catalog, media_list: MediaList, redis: Redis, stored: Sequence[Media]
) -> None:
    gone = dated(blobs, 9)
    await MediaIndex(redis).add(gone)

    assert await everything(media_list) == stored
    assert gone.id not in [each async for each in MediaIndex(redis).listed()]


async def test_after_a_loss_of_redis_the_list_is_right_again(
    media_list: MediaList, redis: Redis, stored: Sequence[Media]
) -> None:
    await redis.flushall()
    page = await media_list.page(ANY, limit=10)
    assert (page.media, page.is_complete) == ([], False)

    assert await media_list.rebuild_index() == 6

    page = await media_list.page(ANY, limit=10)
    assert (page.media, page.is_complete) == (stored, True)
    assert len(await everything(media_list, MediaFilter(source="youtube"))) == 2


async def test_an_index_that_was_lost_while_it_was_built_is_built_again(
    media_list: MediaList, redis: Redis, stored: Sequence[Media]
) -> None:
    async with MediaIndex(redis).building():
        await redis.flushall()
    assert not await MediaIndex(redis).is_built()

    keeping = asyncio.create_task(media_list.keep_index_built())
    async with asyncio.timeout(30):
        while not (await media_list.page(ANY, limit=10)).is_complete:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    keeping.cancel()
    assert await everything(media_list) == stored


async def test_the_last_page_says_that_it_is_the_last(media_list: MediaList) -> None:
    for wanted in ANY, MediaFilter(kind=media_pb2.MEDIA_KIND_VIDEO, text="füße"):
        count = len(await everything(media_list, wanted))
        assert (await media_list.page(wanted, limit=count)).cursor == ""
        assert (await media_list.page(wanted, limit=count - 1)).cursor != ""


async def test_a_rebuild_removes_what_the_bucket_does_not_have(
    blobs: Blobs, media_list: MediaList, redis: Redis
) -> None:
    await MediaIndex(redis).add(dated(blobs, 9))

    assert await media_list.rebuild_index() == 6
    assert len([each async for each in MediaIndex(redis).listed()]) == 6


async def test_one_process_builds_the_index_at_a_time(media_list: MediaList, redis: Redis) -> None:
    async with MediaIndex(redis).building() as ours:
        assert ours
        assert await media_list.rebuild_index() is None
    assert await media_list.rebuild_index() == 6


async def test_a_server_builds_the_index_by_itself(media_list: MediaList, redis: Redis) -> None:
    await redis.flushall()
    keeping = asyncio.create_task(media_list.keep_index_built())
    async with asyncio.timeout(30):
        while not (await media_list.page(ANY, limit=10)).is_complete:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    keeping.cancel()

    assert len(await everything(media_list)) == 6


@pytest.fixture
def manifests_read(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the manifests that are read from the bucket."""
    read: list[str] = []
    get = blobs.get

    async def recorded(key: str) -> tuple[bytes, str] | None:
        if key.endswith("media.json"):
            read.append(key)
        return await get(key)

    monkeypatch.setattr(blobs, "get", recorded)
    return read


async def test_a_lost_index_is_built_from_its_copy_and_what_changed_since(
    catalog: Catalog,
    blobs: Blobs,
    media_list: MediaList,
    redis: Redis,
    stored: Sequence[Media],
    manifests_read: list[str],
) -> None:
    assert await media_list.rebuild_index() == 6
    changed = Manifest(media=stored[0])
    changed.media.title = "Another title"
    await catalog.commit(changed, replacing=changed.media.etag)
    await catalog.delete(stored[1].id)
    new = (await catalog.commit(Manifest(media=dated(blobs, 7)))).media
    await redis.flushall()
    manifests_read.clear()

    assert await media_list.rebuild_index() == 6

    # The deleted one has a tombstone.
    assert sorted(manifests_read) == sorted(
        f"media/{media_id}/media.json" for media_id in (new.id, changed.media.id, stored[1].id)
    )
    listed = [each.id for each in await everything(media_list)]
    assert listed == [new.id, *(each.id for each in stored if each.id != stored[1].id)]
    found = await everything(media_list, MediaFilter(text="another title"))
    assert [each.id for each in found] == [changed.media.id]


async def test_a_damaged_copy_of_the_index_is_written_again(
    blobs: Blobs, media_list: MediaList, redis: Redis, manifests_read: list[str]
) -> None:
    assert await media_list.rebuild_index() == 6
    for each in await blobs.list_objects("index/"):
        await blobs.put(each.key, b"\xff", content_type="text/plain")
    for expected in (6, 0):
        await redis.flushall()
        manifests_read.clear()
        assert await media_list.rebuild_index() == 6
        assert len(manifests_read) == expected


async def test_a_check_lists_what_missed_the_index(
    media_list: MediaList, redis: Redis, stored: Sequence[Media]
) -> None:
    assert await media_list.rebuild_index() == 6
    await MediaIndex(redis).remove(stored[3].id)
    assert len(await everything(media_list)) == 5

    assert await media_list.rebuild_index() == 6

    assert await everything(media_list) == stored


async def test_a_copy_of_the_index_does_not_replace_what_is_newer(
    redis: Redis, stored: Sequence[Media]
) -> None:
    older = entry_of(stored[0])
    older.sets.append("source:vimeo")
    await MediaIndex(redis).add_missing([older])

    assert (await MediaIndex(redis).find(MediaFilter(source="vimeo"), limit=10)).media_ids == []


async def test_a_page_is_read_from_the_bucket_once(
    media_list: MediaList, redis: Redis, manifests_read: list[str]
) -> None:
    await redis.flushall()
    await media_list.rebuild_index()
    for expected in (6, 0):
        manifests_read.clear()
        await everything(media_list)
        assert len(manifests_read) == expected


async def test_what_cannot_be_read_is_left_out(
    blobs: Blobs, media_list: MediaList, redis: Redis
) -> None:
    await blobs.put(f"media/{ID}/media.json", b"{", content_type="application/json")
    await blobs.put("media/no-id/media.json", b"{}", content_type="application/json")

    assert await media_list.rebuild_index() == 6


async def test_a_media_item_that_missed_the_index_is_listed_once_it_is_read(
    catalog: Catalog, media_list: MediaList, redis: Redis, stored: Sequence[Media]
) -> None:
    await redis.flushall()

    assert await catalog.get(stored[2].id) is not None

    assert await everything(media_list) == [stored[2]]
