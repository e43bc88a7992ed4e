"""Whole ingests from Telegram by each of its three ways, by a real worker.

Telegram is played by stand-ins: its pages and its Bot API (tests/telegram.py), and a data centre
that speaks MTProto (tests/mtproto.py). yt-dlp, telethon and all between them are real.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import IngestOptions, Job
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.setting_values import Secret
from tests import mtproto
from tests.harness import Harness, running_harness
from tests.mtproto import Channel, FakeDataCentre
from tests.refusals import failed_attempt_of, reason_name_of
from tests.telegram import (
    FILE_ID,
    FOR_THE_APPS,
    TOKEN,
    FakeBotApi,
    FakeTelegramPages,
    Video,
    company_proxy,
    found,
    not_supported,
    refused,
)
from tests.tls import server_context
from tests.web_server import web_server

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

MEDIA_HOST = "cdn4.telesco.pe"
ALBUM = IngestOptions(playlist=True)
MP3 = Recipe(mp3=Recipe.Mp3())
PRIVATE_NUMBER = 1234567890
ACCOUNT = {
    "telegram_api_id": 12345,
    "telegram_api_hash": Secret("0123456789abcdef0123456789abcdef"),
    "telegram_session": mtproto.session(),
}


@dataclass
class FakeTelegram:
    """All of it, behind a company's proxy."""

    settings: Settings
    pages: FakeTelegramPages = field(
        default_factory=lambda: FakeTelegramPages(media_host=MEDIA_HOST)
    )
    bots: FakeBotApi = field(default_factory=FakeBotApi)
    data_centre: FakeDataCentre = field(default_factory=FakeDataCentre)
    destinations: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def harness(self, **changes: object) -> AsyncIterator[Harness]:
        async with running_harness(self.settings.replace(**changes)) as harness:
            yield harness


@pytest.fixture
async def telegram(settings: Settings, tmp_path: Path) -> AsyncIterator[FakeTelegram]:
    context, authority = server_context(tmp_path)
    telegram = FakeTelegram(settings)
    async with AsyncExitStack() as stack:
        page = await stack.enter_async_context(
            web_server(telegram.pages.handle, tls=context, cancels=True)
        )
        bots = await stack.enter_async_context(
            web_server(telegram.bots.handle, tls=context, cancels=True)
        )
        centre = await stack.enter_async_context(telegram.data_centre.serving())
        telegram.destinations = {
            "t.me:443": page,
            f"{MEDIA_HOST}:443": page,
            "api.telegram.org:443": bots,
            f"{mtproto.ADDRESS}:{mtproto.PORT}": centre,
        }
        proxy = await stack.enter_async_context(company_proxy(telegram.destinations))
        telegram.settings = settings.replace(
            egress_proxy=proxy,
            egress_ca_file=str(authority),
            telegram_bot_token=Secret(TOKEN),
            retry_backoff=timedelta(milliseconds=10),
        )
        yield telegram


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_a_public_post_is_ingested_and_kept(telegram: FakeTelegram, clip: bytes) -> None:
    telegram.pages.post("lake", Video(41, clip))
    async with telegram.harness() as harness:
        job = await harness.ingest("telegram.me/Lake/41?comment=5")
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
        asked = len(telegram.pages.asked)
        again = await harness.ask("https://t.me/s/lake/41")
        stored = await harness.download(media_id=job.media.id)
        manifest = await harness.manifest(job.media.id)

    assert (again.cached, again.media.id) == (True, job.media.id)
    assert len(telegram.pages.asked) == asked
    assert stored == clip
    media = job.media
    assert media.source.key == "telegram:lake/41"
    assert media.title == media.description == "Two clips from the lake with a second line"
    assert media.uploader == "The lake channel"
    assert media.publish_time.ToDatetime(UTC) == datetime(2026, 10, 21, 17, 26, 43, tzinfo=UTC)
    assert not manifest.HasField("source_version")


async def test_an_album_becomes_a_job_for_each_of_its_videos(
    telegram: FakeTelegram, clip: bytes, other_clip: bytes
) -> None:
    telegram.pages.post("lake", Video(41, clip), Video(42, other_clip), Video(43, b""))
    async with telegram.harness() as harness:
        alone = await harness.ingest("https://t.me/lake/42")
        parent = await harness.ask("https://t.me/lake/41", options=ALBUM)
        await harness.worker.run_job(parent.id)
        parent = await harness.record(parent.id)
        assert parent.state == job_pb2.JOB_STATE_RUNNING, parent
        children = [await harness.record(child_id) for child_id in parent.child_job_ids]
        children = [await harness.end(child) for child in children]
        parent = await harness.record(parent.id)
        again = await harness.ask("https://t.me/lake/42?single", options=ALBUM)

    assert parent.state == job_pb2.JOB_STATE_SUCCEEDED, parent
    assert parent.media.title == "The lake channel 41"
    assert [child.media.source.key for child in children] == [
        *("telegram:lake/41", "telegram:lake/42", "telegram:lake/43"),
    ]
    assert [child.media.blob.sha256 for child in children[:2]] == [sha256(clip), sha256(other_clip)]
    assert children[1].cached
    assert children[1].media.id == alone.media.id
    assert reason_name_of(children[2]) == "TOO_LARGE"
    assert again.cached


async def test_an_album_of_one_video_is_that_video(telegram: FakeTelegram, clip: bytes) -> None:
    telegram.pages.post("lake", Video(41, clip))
    async with telegram.harness() as harness:
        album = await harness.ingest("https://t.me/lake/41", options=ALBUM)
        asked = len(telegram.pages.asked)
        post = await harness.ask("https://t.me/lake/41")
        again = await harness.ask("https://t.me/s/lake/41", options=ALBUM)
        blobs = await harness.keys("media/")

    assert album.state == job_pb2.JOB_STATE_SUCCEEDED, album
    assert not album.child_job_ids
    assert album.media.source.key == "telegram:lake/41"
    assert (post.cached, again.cached) == (True, True)
    assert post.media.id == again.media.id == album.media.id
    assert len(telegram.pages.asked) == asked
    assert len([key for key in blobs if key.endswith(".mp4")]) == 1


async def test_what_is_in_an_album_is_converted(
    telegram: FakeTelegram, clip: bytes, other_clip: bytes
) -> None:
    telegram.pages.post("lake", Video(41, clip), Video(42, other_clip))
    telegram.pages.post("pond", Video(7, clip))
    async with telegram.harness() as harness:
        album = await harness.ingest("https://t.me/lake/41", options=ALBUM, recipes=[MP3])
        posts = [await harness.record(child_id) for child_id in album.child_job_ids]
        alone = await harness.ingest("https://t.me/pond/7", options=ALBUM, recipes=[MP3])

    assert album.state == job_pb2.JOB_STATE_SUCCEEDED, album
    assert [post.list_title for post in posts] == ["The lake channel 41"] * 2
    assert [len(post.conversions) for post in posts] == [1, 1]
    assert alone.state == job_pb2.JOB_STATE_SUCCEEDED, alone
    assert alone.media.source.key == "telegram:pond/7"
    assert [made.derived_from_media_id for made in alone.conversions] == [alone.media.id]


@pytest.mark.parametrize(
    ("link", "reason", "words"),
    [
        ("t.me/lake/40", "MEDIA_DOES_NOT_EXIST", "Post not found"),
        ("t.me/desert/1", "MEDIA_DOES_NOT_EXIST", "Channel with username @desert not found"),
        ("t.me/lake/50", "NOT_MEDIA", "The post has no video."),
        ("t.me/lake/51", "NOT_MEDIA", "Others of its album have: https://t.me/lake/52"),
        ("t.me/lake/53", "PRIVATE", "does not show the content of the post"),
        ("t.me/lake/54", "TOO_LARGE", "INGOT_TELEGRAM_SESSION"),
    ],
)
@pytest.mark.parametrize("options", [IngestOptions(), ALBUM], ids=["post", "album"])
async def test_a_post_without_a_video_to_be_had_says_why(
    telegram: FakeTelegram, clip: bytes, link: str, reason: str, words: str, options: IngestOptions
) -> None:
    telegram.pages.post("lake", Video(52, clip))
    telegram.pages.albums["lake/51"] = [Video(52, clip)]
    telegram.pages.post("lake", Video(54, b""))
    telegram.pages.bodies["lake/50"] = "<p>Only words.</p>"
    telegram.pages.bodies["lake/53"] = not_supported(FOR_THE_APPS)
    async with telegram.harness() as harness:
        job = await harness.ingest(link, options=options)
        await harness.assert_nothing_is_left()

    assert job.state == job_pb2.JOB_STATE_FAILED
    assert reason_name_of(job) == reason
    assert words in job.error.message
    assert job.attempt == 1


async def test_what_the_page_withholds_an_account_receives(
    telegram: FakeTelegram, clip: bytes, other_clip: bytes
) -> None:
    telegram.pages.post("lake", Video(54, b""))
    telegram.pages.bodies["lake/53"] = not_supported(FOR_THE_APPS)
    lake = Channel(77, "The lake channel", "lake", {54: clip, 53: other_clip})
    telegram.data_centre.channels = [lake]
    async with telegram.harness(**ACCOUNT) as harness:
        job = await harness.ingest("https://t.me/lake/54", options=ALBUM)
        other = await harness.ingest("https://t.me/lake/53")

    for done, content in ((job, clip), (other, other_clip)):
        assert done.state == job_pb2.JOB_STATE_SUCCEEDED, done
        assert done.media.blob.sha256 == sha256(content)
        assert done.media.title == "A lake at dawn"
        assert done.media.uploader == "The lake channel"
        assert done.media.publish_time.ToDatetime(UTC) == mtproto.POSTED
    assert job.media.source.key == "telegram:lake/54"


async def test_the_account_is_not_used_for_what_the_page_shows_or_has_not(
    telegram: FakeTelegram, clip: bytes
) -> None:
    telegram.pages.post("lake", Video(41, clip))
    telegram.pages.bodies["lake/50"] = "<p>Only words.</p>"
    async with telegram.harness(**ACCOUNT) as harness:
        for number in (40, 41, 50):
            await harness.ingest(f"https://t.me/lake/{number}")

    assert telegram.data_centre.asked == []


async def test_a_name_that_is_not_a_channel_reveals_nothing_of_the_account(
    telegram: FakeTelegram,
) -> None:
    """Messages outside of channels are numbered per account: its own would be found."""
    for name in ("self", "nobody"):
        telegram.pages.post(name, Video(54, b""))
    async with telegram.harness(**ACCOUNT) as harness:
        jobs = [await harness.ingest(f"https://t.me/{name}/54") for name in ("self", "nobody")]

    assert [reason_name_of(job) for job in jobs] == ["MEDIA_DOES_NOT_EXIST"] * 2
    assert "GetMessages" not in telegram.data_centre.asked


async def test_a_private_post_is_received_by_an_account_that_is_a_member(
    telegram: FakeTelegram, clip: bytes
) -> None:
    private = Channel(PRIVATE_NUMBER, "Members", "", {42: clip})
    telegram.data_centre.channels = [Channel(5, "Another"), private]
    async with telegram.harness(**ACCOUNT) as harness:
        job = await harness.ingest(f"https://t.me/c/{PRIVATE_NUMBER}/42")
        absent = await harness.ingest(f"https://t.me/c/{PRIVATE_NUMBER}/43")
        foreign = await harness.ingest("https://t.me/c/999/1")
        again = await harness.ask(f"tg://privatepost?channel={PRIVATE_NUMBER}&post=42")

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert job.media.source.key == f"telegram:c/{PRIVATE_NUMBER}/42"
    assert job.media.blob.sha256 == sha256(clip)
    assert job.media.uploader == "Members"
    assert again.cached
    assert (reason_name_of(absent), reason_name_of(foreign)) == ("MEDIA_DOES_NOT_EXIST", "PRIVATE")


async def test_an_album_of_private_posts_becomes_a_job_for_each_of_its_videos(
    telegram: FakeTelegram, clip: bytes, other_clip: bytes
) -> None:
    posts = {41: clip, 42: other_clip, 43: clip, 44: clip}
    private = Channel(PRIVATE_NUMBER, "Members", "", posts, {41: 5, 42: 5, 43: 5, 44: 6}, {43})
    telegram.data_centre.channels = [private]
    place = f"https://t.me/c/{PRIVATE_NUMBER}"
    async with telegram.harness(**ACCOUNT) as harness:
        alone = await harness.ingest(f"{place}/42")
        parent = await harness.ingest(f"{place}/43", options=ALBUM)
        children = [await harness.record(child_id) for child_id in parent.child_job_ids]
        one = await harness.ingest(f"{place}/44", options=ALBUM)
        absent = await harness.ingest(f"{place}/60", options=ALBUM)
        again = await harness.ask(f"{place}/42?single", options=ALBUM)
        converted = await harness.ingest(f"{place}/41", options=ALBUM, recipes=[MP3])
        songs = [await harness.record(child_id) for child_id in converted.child_job_ids]

    assert parent.state == job_pb2.JOB_STATE_SUCCEEDED, parent
    assert parent.media.title == "Members 43"
    assert [child.media.source.key for child in children] == [
        *(f"telegram:c/{PRIVATE_NUMBER}/41", f"telegram:c/{PRIVATE_NUMBER}/42"),
    ]
    assert [child.media.blob.sha256 for child in children] == [sha256(clip), sha256(other_clip)]
    assert [child.cached for child in children] == [False, True]
    assert children[1].media.id == alone.media.id == again.media.id
    # An album of one is that one.
    assert not one.child_job_ids
    assert one.media.source.key == f"telegram:c/{PRIVATE_NUMBER}/44"
    assert reason_name_of(absent) == "MEDIA_DOES_NOT_EXIST"
    assert [len(song.conversions) for song in songs] == [1, 1]


async def test_an_account_waits_as_long_as_telegram_says_and_goes_on(
    telegram: FakeTelegram, clip: bytes
) -> None:
    private = Channel(PRIVATE_NUMBER, "Members", "", {42: clip})
    telegram.data_centre.channels = [private]
    # Longer than a worker's slot waits for.
    telegram.data_centre.flood_waits = [3]
    async with telegram.harness(**ACCOUNT, stall_timeout=timedelta(seconds=5)) as harness:
        job = await harness.ask(f"https://t.me/c/{PRIVATE_NUMBER}/42")
        ended = await harness.end(await _waits(harness, job, timedelta(seconds=3)))

    assert ended.state == job_pb2.JOB_STATE_SUCCEEDED, ended


async def test_a_bots_file_is_received_after_the_wait_that_telegram_asks_for(
    telegram: FakeTelegram, clip: bytes
) -> None:
    telegram.bots.files = {"videos/file_12.mp4": clip}
    telegram.bots.answers = [
        refused(429, "Too Many Requests: retry after 2", {"retry_after": 2}),
        found("videos/file_12.mp4", len(clip)),
    ]
    async with telegram.harness() as harness:
        job = await harness.ask(f"telegram://video/{FILE_ID}")
        ended = await harness.end(await _waits(harness, job, timedelta(seconds=2)))
        again = await harness.ask(f"telegram://document/{FILE_ID}")

    assert ended.state == job_pb2.JOB_STATE_SUCCEEDED, ended
    assert ended.media.source.key == f"telegram:{FILE_ID}"
    assert ended.media.blob.sha256 == sha256(clip)
    assert [stream.codec for stream in ended.media.video] == ["h264"]
    assert again.cached
    assert TOKEN not in str(ended)


async def _waits(harness: Harness, job: Job, length: timedelta) -> Job:
    """The job after its first try, which ended with having to wait for so long."""
    begin = datetime.now(UTC)
    await harness.worker.run_job(job.id)
    end = datetime.now(UTC)
    job = await harness.record(job.id)
    assert job.state == job_pb2.JOB_STATE_QUEUED, job
    assert failed_attempt_of(job) == "RATE_LIMITED"
    assert begin <= job.waiting.end_time.ToDatetime(UTC) - length <= end
    return job


async def test_a_file_too_large_for_the_bot_api_says_so(telegram: FakeTelegram) -> None:
    telegram.bots.answers = [refused(400, "Bad Request: file is too big")]
    async with telegram.harness() as harness:
        job = await harness.ingest(f"telegram://video/{FILE_ID}")
        await harness.assert_nothing_is_left()

    assert job.state == job_pb2.JOB_STATE_FAILED
    assert reason_name_of(job) == "TOO_LARGE"
    assert "INGOT_TELEGRAM_API_URL" in job.error.message
    assert job.attempt == 1


async def test_each_way_goes_through_its_sources_own_proxy(
    telegram: FakeTelegram, clip: bytes, tmp_path: Path
) -> None:
    telegram.pages.post("lake", Video(41, clip))
    telegram.pages.post("lake", Video(54, b""))
    telegram.bots.files = {"videos/file_12.mp4": clip}
    telegram.bots.answers = [found("videos/file_12.mp4", len(clip))]
    telegram.data_centre.channels = [
        Channel(PRIVATE_NUMBER, "Members", "", {42: clip}),
        Channel(77, "The lake channel", "lake", {54: clip}),
    ]
    links = (
        *("https://t.me/lake/41", "https://t.me/lake/54"),
        *(f"telegram://video/{FILE_ID}", f"https://t.me/c/{PRIVATE_NUMBER}/42"),
    )
    async with AsyncExitStack() as stack:
        closed = await stack.enter_async_context(company_proxy({}))
        own = await stack.enter_async_context(company_proxy(telegram.destinations))
        sources = tmp_path / "sources.toml"
        sources.write_text(f'[telegram]\nproxy = "{own}"\n[telegram_file]\nproxy = "{own}"\n')
        settings = {**ACCOUNT, "egress_proxy": closed, "sources_file": str(sources)}
        harness = await stack.enter_async_context(telegram.harness(**settings))
        for link in links:
            job = await harness.ingest(link)
            assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
