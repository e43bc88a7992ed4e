"""What a source refused is answered from memory for as long as its reason holds, and no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from ingot.client import Client
from ingot.errors import IngotError
from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.media_pb2 import Selection
from ingot.v1.reason_pb2 import Reason
from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.errors import TREATMENTS, Failure, reason_name
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.identity import canonical_selection, media_id
from ingot_server.redis import Redis, connect
from tests import videos
from tests.harness import Harness, running_harness
from tests.refusals import reason_name_of, refusal
from tests.videos import Video
from tests.youtube import FakeYouTube

pytestmark = pytest.mark.any_stores

URL = "http://127.0.0.1/clip.mp4"
MEDIA_ID = media_id(f"http:{URL}", canonical_selection(Selection()))

# How long each holds: what is gone for longer than what is withheld from us, which may change.
HOLDS = {
    reason_pb2.REASON_MEDIA_DOES_NOT_EXIST: timedelta(minutes=10),
    reason_pb2.REASON_PRIVATE: timedelta(minutes=1),
    reason_pb2.REASON_MEMBERS_ONLY: timedelta(minutes=1),
    reason_pb2.REASON_AGE_RESTRICTED: timedelta(minutes=1),
    reason_pb2.REASON_GEO_BLOCKED: timedelta(minutes=1),
    reason_pb2.REASON_UPCOMING: timedelta(minutes=1),
}


@dataclass
class Api:
    client: Client
    catalog: Catalog
    redis: Redis


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Api]:
    blobs = Blobs(settings)
    async with (
        connect(settings) as redis,
        running(settings) as addresses,
        Client(addresses.grpc) as client,
    ):
        catalog = Catalog(blobs, redis, settings)
        await catalog.start()
        yield Api(client, catalog, redis)
        await catalog.close()
    await blobs.close()


async def answer(api: Api, *, max_age: timedelta | None = None) -> str:
    """The reason of the refusal by Ingest; empty if it created a job."""
    try:
        job = await api.client.ingest_video(URL, max_age=max_age)
    except IngotError as error:
        return error.reason
    await api.client.cancel(job.id)
    return ""


async def media(api: Api) -> str:
    with pytest.raises(IngotError) as raised:
        await api.client.media(URL)
    return raised.value.reason


def reason_of(held: tuple[Failure, timedelta] | None) -> Reason.ValueType | None:
    return held[0].reason if held is not None else None


async def test_each_reason_answers_for_its_time_and_gives_way_to_a_fresh_look(
    settings: Settings,
) -> None:
    async with serving(settings) as api:
        for reason, treatment in TREATMENTS.items():
            name = reason_name(reason)
            holds = HOLDS.get(reason, timedelta(0))
            assert treatment.cached_for == holds, name
            await api.catalog.remember_failure(MEDIA_ID, Failure(reason, "said the source"))
            left = timedelta(
                milliseconds=max(0, await api.redis.pttl(f"ingot:negative:{MEDIA_ID}"))
            )
            assert holds - timedelta(seconds=30) < left <= holds or left == holds, name
            assert reason_of(await api.catalog.remembered_failure(MEDIA_ID)) == (
                reason if holds else None
            )
            assert await answer(api) == (name if holds else ""), name
            assert await answer(api, max_age=timedelta(hours=1)) == (name if holds else ""), name
            assert await answer(api, max_age=timedelta(0)) == "", name
            gone = reason == reason_pb2.REASON_MEDIA_DOES_NOT_EXIST
            assert await media(api) == (name if gone else "MEDIA_NOT_FOUND"), name
            await api.catalog.forget_failure(MEDIA_ID)
            assert await answer(api) == "", name


async def test_the_setting_shortens_what_is_remembered_and_turns_it_off(
    settings: Settings,
) -> None:
    failure = Failure(reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, "gone")
    async with serving(settings.replace(negative_ttl=timedelta(seconds=50))) as api:
        await api.catalog.remember_failure(MEDIA_ID, failure)
        assert 0 < await api.redis.pttl(f"ingot:negative:{MEDIA_ID}") <= 50_000
        await api.catalog.forget_failure(MEDIA_ID)
    async with serving(settings.replace(negative_ttl=timedelta(0))) as api:
        await api.catalog.remember_failure(MEDIA_ID, failure)
        assert await answer(api) == ""


async def test_what_is_gone_under_its_better_identity_is_gone_under_its_aliases(
    settings: Settings,
) -> None:
    target = media_id("vimeo:76979871", canonical_selection(Selection()))
    async with serving(settings) as api:
        await api.catalog.put_alias(MEDIA_ID, target, source_key="vimeo:76979871")
        gone = Failure(reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, "said the source")
        await api.catalog.remember_failure(target, gone)
        assert await answer(api) == "MEDIA_DOES_NOT_EXIST"
        assert await media(api) == "MEDIA_DOES_NOT_EXIST"
        assert await answer(api, max_age=timedelta(0)) == ""


WATCH = "https://www.youtube.com/watch?v=dQw4-9Wg_cQ"
REFUSALS: Mapping[str, Mapping[str, Any]] = {
    "PRIVATE": videos.PRIVATE,
    "MEMBERS_ONLY": videos.MEMBERS_ONLY,
    "AGE_RESTRICTED": videos.AGE_RESTRICTED,
    "GEO_BLOCKED": videos.GEO_BLOCKED,
    "MEDIA_DOES_NOT_EXIST": videos.REMOVED,
    "UPCOMING": videos.UPCOMING,
}


async def refused(harness: Harness) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await harness.ask(WATCH)
    return refusal(raised.value).reason


@pytest.mark.slow
async def test_what_a_site_refuses_is_asked_for_again_only_on_demand(
    settings: Settings, tmp_path: Path, clip: bytes
) -> None:
    """The fake site of tests/youtube.py."""
    async with (
        FakeYouTube().running(tmp_path) as site,
        running_harness(site.settings(settings)) as harness,
    ):
        video = site.videos["dQw4-9Wg_cQ"] = Video(clip)
        for reason, said in REFUSALS.items():
            video.playability = said
            job = await harness.ingest(WATCH, max_age=timedelta(0))
            assert (reason_name_of(job), job.attempt) == (reason, 1)
            asked = len(site.log)
            assert await refused(harness) == reason
            assert len(site.log) == asked
        video.playability = {"status": "OK"}
        assert await refused(harness) == "UPCOMING"
        job = await harness.ingest(WATCH, max_age=timedelta(0))
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED
        await harness.delete(job.media.id)
        assert (await harness.ingest(WATCH)).state == job_pb2.JOB_STATE_SUCCEEDED
