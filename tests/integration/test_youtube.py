"""YouTube from link to response. The site is a fake (tests/youtube.py); the rest is real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from ingot import Client, IngotError, MediaDoesNotExist
from ingot.v1 import job_pb2
from ingot.v1.media_pb2 import Media, Selection
from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.identity import media_id
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.redis import connect
from tests.videos import PRIVATE, Video
from tests.waiting import TIMEOUT_SECONDS
from tests.youtube import FakeYouTube

pytestmark = pytest.mark.any_stores

ID = "dQw4-9Wg_cQ"
OTHER = "abcdefghij_"
WATCH = f"https://www.youtube.com/watch?v={ID}"
SHORT = f"https://youtu.be/{ID}?si=share&t=30"
THUMBNAIL = f"HEAD i.ytimg.com/vi/{ID}/mqdefault.jpg"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FakeYouTube]:
    async with FakeYouTube().running(tmp_path) as site:
        yield site


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """By which the site has the time that a busy machine takes."""
    return settings.replace(existence_timeout=timedelta(seconds=TIMEOUT_SECONDS))


@asynccontextmanager
async def api(settings: Settings) -> AsyncIterator[Client]:
    async with running(settings) as addresses, Client(addresses.grpc) as client:
        yield client


async def test_a_video_that_does_not_exist_gets_no_job(
    settings: Settings, site: FakeYouTube
) -> None:
    async with api(site.settings(settings)) as client:
        for url in (WATCH, SHORT, WATCH):
            with pytest.raises(MediaDoesNotExist):
                await client.ingest_video(url)
        with pytest.raises(MediaDoesNotExist):
            await client.ingest_video(WATCH, selection=Selection(mode=Selection.MODE_AUDIO_ONLY))
        jobs = [job async for job in client.jobs()]

    assert site.log == [THUMBNAIL]
    assert not jobs


async def test_a_video_that_exists_is_asked_for_once(settings: Settings, site: FakeYouTube) -> None:
    site.videos[ID] = Video()
    audio = Selection(mode=Selection.MODE_AUDIO_ONLY)

    async with api(site.settings(settings)) as client:
        first = await client.ingest_video(WATCH)
        again = await client.ingest_video(SHORT)
        other = await client.ingest_video(WATCH, selection=audio)

    assert first.latest.state == job_pb2.JOB_STATE_QUEUED
    assert first.latest.media.source.key == f"youtube:{ID}"
    assert again.id == first.id
    assert other.id != first.id
    assert site.log == [THUMBNAIL]


async def test_a_video_published_later_is_found_if_the_request_asks_for_a_new_check(
    settings: Settings, site: FakeYouTube
) -> None:
    async with api(site.settings(settings)) as client:
        with pytest.raises(MediaDoesNotExist):
            await client.ingest_video(WATCH)
        site.videos[ID] = Video()
        with pytest.raises(MediaDoesNotExist):
            await client.ingest_video(WATCH, max_age=timedelta(minutes=5))
        assert site.log == [THUMBNAIL]

        job = await client.ingest_video(WATCH, max_age=timedelta(0))

    assert job.latest.state == job_pb2.JOB_STATE_QUEUED
    assert site.log == [THUMBNAIL, THUMBNAIL]


async def test_both_answers_are_forgotten_in_their_own_time(
    settings: Settings, site: FakeYouTube
) -> None:
    site.videos[ID] = Video()
    short = timedelta(milliseconds=50)
    changed = site.settings(settings).replace(preflight_ttl=short, negative_ttl=short)

    async with api(changed) as client:
        for url in (WATCH, f"https://youtu.be/{OTHER}"):
            for _ in range(2):
                try:
                    await client.ingest_video(url)
                except MediaDoesNotExist:
                    assert OTHER in url
                await asyncio.sleep(0.1)

    assert len(site.asked(ID)) == 2
    assert len(site.asked(OTHER)) == 2


async def test_callers_at_the_same_time_share_one_request(
    settings: Settings, site: FakeYouTube
) -> None:
    site.videos[ID] = Video()
    async with api(site.settings(settings)) as client:
        jobs = await asyncio.gather(*(client.ingest_video(WATCH) for _ in range(50)))

    assert len({job.id for job in jobs}) == 1
    assert site.log == [THUMBNAIL]


async def test_a_silent_source_costs_its_deadline_once(
    settings: Settings, site: FakeYouTube
) -> None:
    site.silent = True
    changed = site.settings(settings).replace(existence_timeout=timedelta(milliseconds=300))

    async with api(changed) as client:
        begin = time.monotonic()
        first = await client.ingest_video(WATCH)
        waited = time.monotonic() - begin
        second = await client.ingest_video(f"https://youtu.be/{OTHER}")

    assert {first.latest.state, second.latest.state} == {job_pb2.JOB_STATE_QUEUED}
    assert waited >= 0.3
    assert site.connections == 1


async def test_a_source_without_a_response_blocks_no_request(
    settings: Settings, site: FakeYouTube, closed_port: int
) -> None:
    closed = f"http://127.0.0.1:{closed_port}"
    for changes in ({"egress_proxy": closed}, {"egress_ca_file": ""}):
        async with api(site.settings(settings).replace(**changes)) as client:
            job = await client.ingest_video(WATCH)
            assert job.latest.state == job_pb2.JOB_STATE_QUEUED

    assert site.log == []


async def test_the_check_can_be_switched_off(settings: Settings, site: FakeYouTube) -> None:
    async with api(site.settings(settings).replace(preflight=False)) as client:
        assert (await client.ingest_video(WATCH)).latest.state == job_pb2.JOB_STATE_QUEUED

    assert site.log == []


async def test_the_check_goes_through_the_sources_own_proxy(
    settings: Settings, site: FakeYouTube, closed_port: int, tmp_path: Path
) -> None:
    sources = tmp_path / "sources.toml"
    sources.write_text(f'[youtube]\nproxy = "{site.proxy_url}"\n')
    own = site.settings(settings).replace(
        egress_proxy=f"http://127.0.0.1:{closed_port}", sources_file=str(sources)
    )
    async with api(own) as client:
        with pytest.raises(MediaDoesNotExist):
            await client.ingest_video(WATCH)

    assert site.log == [THUMBNAIL]


async def test_nothing_more_is_said_than_a_missing_thumbnail_tells(
    settings: Settings, site: FakeYouTube, tmp_path: Path
) -> None:
    """A private video has none either, so with cookies the job finds out which it is."""
    (tmp_path / "cookies.txt").write_text(
        "# Netscape HTTP Cookie File\n.youtube.com\tTRUE\t/\tTRUE\t4070908800\tMEMBER\tyes\n"
    )
    sources = tmp_path / "sources.toml"
    sources.write_text('[youtube]\ncookies = "cookies.txt"\n')
    site.videos[ID] = Video(playability=PRIVATE, exists=False)

    async with api(site.settings(settings)) as client:
        with pytest.raises(MediaDoesNotExist, match="does not exist, or is private"):
            await client.ingest_video(WATCH)
        ttl = await _time_left(settings)
    async with api(site.settings(settings).replace(sources_file=str(sources))) as client:
        job = await client.ingest_video(WATCH, max_age=timedelta(0))

    assert timedelta(0) < ttl <= settings.negative_ttl
    assert job.latest.state == job_pb2.JOB_STATE_QUEUED
    assert site.log == [THUMBNAIL]


async def _time_left(settings: Settings) -> timedelta:
    """How long it is still remembered that the video is not there."""
    async with connect(settings) as redis:
        return timedelta(milliseconds=await redis.pttl(f"ingot:exists:youtube:{ID}"))


async def test_what_is_stored_is_not_asked_for(settings: Settings, site: FakeYouTube) -> None:
    stored = Media(id=media_id(f"youtube:{ID}", Selection()), url=WATCH, title="Stored")
    async with connect(settings) as redis:
        blobs = Blobs(settings)
        await blobs.prepare()
        catalog = Catalog(blobs, redis, settings)
        await catalog.commit(Manifest(media=stored))
        await catalog.close()
        await blobs.close()

    async with api(site.settings(settings)) as client:
        job = await client.ingest_video(SHORT, max_age=timedelta(0))

    assert job.latest.cached
    assert job.latest.media.title == "Stored"
    assert site.log == []


async def test_validate_only_names_the_key_or_says_what_is_wrong(
    settings: Settings, site: FakeYouTube
) -> None:
    async with api(site.settings(settings)) as client:
        checked = await client.validate(SHORT)
        assert checked.media.source.key == f"youtube:{ID}"
        assert checked.media.url == WATCH
        with pytest.raises(IngotError) as refused:
            await client.validate("https://www.youtube.com/feed/you")

    assert refused.value.reason == "INVALID_REQUEST"
    assert "not a video" in str(refused.value)
    assert site.log == []
