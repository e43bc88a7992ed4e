"""What the media items of a caller have is counted and bounded."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import QuotaFailure
from google.rpc.status_pb2 import Status

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import ConvertRequest, CreateUploadUrlRequest
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot.v1.media_service_pb2 import DeleteMediaRequest
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.caller_limits import CallerLimits
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.records import Records
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest import size_of
from ingot_server.library.media_index import MediaIndex, entry_of
from ingot_server.library.media_list import MediaList
from ingot_server.redis import Redis
from tests.harness import Harness
from tests.integration.catalog.running_catalog import media_id
from tests.integration.uploads.upload_servers import clip, requests
from tests.limited_callers import CALLER, LimitedCaller, limited
from tests.origin import Origin, Page
from tests.records import new_job
from tests.refusals import reason_name_of

MP3 = Recipe(mp3=Recipe.Mp3())


async def used(harness: Harness) -> int:
    return await harness.records.stored_bytes.used(CALLER)


def stored(job: Job) -> Media:
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.error.message
    return job.media


async def delete(harness: Harness, caller: LimitedCaller, media: Media) -> None:
    await caller.call_of(harness.media, "DeleteMedia", DeleteMediaRequest(media_id=media.id))


async def require_full(call: Any) -> None:
    """The call is refused, and its QuotaFailure says what to do."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    packed = dict(raised.value.trailing_metadata())["grpc-status-details-bin"]
    assert isinstance(packed, bytes)
    status = Status.FromString(packed)
    assert Failure.from_status(status).metadata == {"quota": "stored_bytes", "limit": "1"}
    quota = QuotaFailure()
    assert any(detail.Unpack(quota) for detail in status.details)
    assert "Delete some of them" in quota.violations[0].description


async def test_who_is_full_stores_nothing_more_until_something_is_deleted(
    settings: Settings, origin: Origin
) -> None:
    async with limited(settings, {"stored_bytes": "1"}) as (harness, caller):
        page = Page(clip())
        url = origin.serve("/first.mp4", page)
        later = origin.serve("/second.mp4", page)
        first, second = await caller.ask(url), await caller.ask(later)
        # A job that has begun may exceed the limit by its own size.
        media = stored(await harness.end(first))
        assert await used(harness) == size_of(media) >= media.blob.size_bytes > 1

        # One that was accepted before fails when its turn comes.
        ended = await harness.end(second)
        assert reason_name_of(ended) == "QUOTA_EXCEEDED"
        assert Failure.from_status(ended.error).metadata["quota"] == "stored_bytes"

        upload = CreateUploadUrlRequest(size_bytes=9, content_type="video/mp4")
        convert = ConvertRequest(media_id=media.id, recipe=MP3)
        await require_full(caller.ask(later))
        await require_full(caller.call("Convert", convert))
        await require_full(caller.call("CreateUploadUrl", upload))
        await require_full(caller.call("Upload", requests(b"upload", content_type="video/mp4")))
        # What is stored costs nothing.
        assert (await caller.ask(url)).cached

        await delete(harness, caller, media)
        assert await used(harness) == 0
        assert stored(await harness.end(await caller.ask(later))).owner == CALLER


async def test_conversions_count_for_their_owner_also_after_redis_was_lost(
    settings: Settings, origin: Origin
) -> None:
    async with limited(settings, {"stored_bytes": "1GiB"}) as (harness, caller):
        job = await caller.ask(origin.serve("/film.mp4", Page(clip())), recipes=[MP3])
        parent = stored(await harness.end(job))
        _, child_id = (await harness.record(job.id)).child_job_ids
        conversion = (await harness.record(child_id)).media
        assert conversion.owner == CALLER
        assert await used(harness) == size_of(parent) + size_of(conversion)

        catalog = Catalog(harness.blobs, harness.redis, harness.settings)
        media_list = MediaList(catalog, harness.blobs, harness.redis)
        # The first build reads manifests, the second one the copy that the first has left.
        for _ in range(2):
            await harness.redis.flushall()
            assert await used(harness) == 0
            await media_list.rebuild_index()
            assert await used(harness) == size_of(parent) + size_of(conversion)

        await delete(harness, caller, parent)
        assert await used(harness) == size_of(conversion)


async def test_the_limit_of_a_list_is_that_of_its_entries(records: Records, redis: Redis) -> None:
    limits = CallerLimits(stored_bytes=100)
    parent = (await records.create(new_job("list"), caller=CALLER, limits=limits)).job
    claim = await records.claim(parent.id)
    assert claim is not None
    child = await records.children.add(
        new_job("entry"), parent_id=parent.id, token=claim.token, entry="entry", order=0
    )
    await records.job_bytes.require(child.id, receives=True)
    await MediaIndex(redis).add(owned(0, CALLER, 100))
    for receives in (False, True):
        with pytest.raises(Failure, match="have 100 bytes or more") as raised:
            await records.job_bytes.require(child.id, receives=receives)
        assert raised.value.final


def owned(number: int, owner: str, *sizes: int) -> Media:
    """A media item with a file and side files of these sizes."""
    first, *others = sizes
    media = Media(id=media_id(number), owner=owner)
    media.blob.size_bytes = first
    for each in others:
        media.side_files.add(size_bytes=each)
    return media


async def test_the_count_is_always_the_sum_over_the_index(redis: Redis) -> None:
    index, chance = MediaIndex(redis), random.Random(5)
    present: dict[str, Media] = {}
    for _ in range(400):
        number, what = chance.randrange(12), chance.choice(["add", "add", "missing", "remove"])
        sizes = (chance.randrange(1 << 50), *chance.choices(range(9), k=chance.randrange(3)))
        media = owned(number, chance.choice(["", "a", "b", "c d"]), *sizes)
        if what == "remove":
            await index.remove(media.id)
            present.pop(media.id, None)
        elif what == "add":
            await index.add(media)
            present[media.id] = media
        else:
            await index.add_missing([entry_of(media)])
            present.setdefault(media.id, media)
        expected: Counter[str] = Counter()
        for each in present.values():
            expected[each.owner] += size_of(each)
        del expected[""]
        found = await redis.hgetall(redis.key("index:owner-bytes"))
        assert found == {owner.encode(): b"%d" % count for owner, count in expected.items()}


async def test_an_entry_without_bytes_counts_when_it_is_read_again(redis: Redis) -> None:
    """An earlier version of the server has left such entries."""
    index, media = MediaIndex(redis), owned(1, "a", 7)
    await redis.hset(redis.key("index:entries"), media.id, f"{1:014}{media.id} all\nowner:a")
    await redis.zadd(redis.key("index:owner:a"), {f"{1:014}{media.id}": 0})
    await index.add(media)
    assert await redis.hgetall(redis.key("index:owner-bytes")) == {b"a": b"7"}
    assert await redis.zcard(redis.key("index:owner:a")) == 1
    await index.remove(media.id)
    assert not await redis.exists(redis.key("index:owner-bytes"), redis.key("index:owner:a"))
