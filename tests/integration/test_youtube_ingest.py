"""Whole ingests from YouTube by a real worker. The site is a fake (tests/youtube.py)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Selection, Shortfall, SideFile
from ingot.v1.media_service_pb2 import GetStoryboardRequest
from ingot_server.config import Settings
from tests.harness import running_harness
from tests.installation import names_below
from tests.leaks import MARK
from tests.refusals import reason_name_of
from tests.videos import AGE_RESTRICTED, BOT_CHECK, MEMBERS_ONLY, PRIVATE, REFUSALS, Video
from tests.youtube import FakeYouTube

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

ID = "dQw4-9Wg_cQ"
KEY = f"youtube:{ID}"
COOKIE = "INGOT_MEMBER"
FORMS = (
    *(f"youtu.be/{ID}?si=share&t=30", f"HTTPS://WWW.YOUTUBE.COM/watch?v={ID}&list=WL&index=7"),
    *(f"https://m.youtube.com/watch?app=m&v={ID}", f"https://music.youtube.com/watch?v={ID}"),
    *(f"https://gaming.youtube.com/watch?v={ID}", f"https://www.youtube-nocookie.com/embed/{ID}"),
    *(f"youtube.com/shorts/{ID}", f"youtube.com/live/{ID}?feature=share", f"youtube.com/v/{ID}"),
    *(f"youtube.com/e/{ID}", f"https://www.youtube.com/attribution_link?a=b&u=/watch%3Fv%3D{ID}"),
    f"  http://youtu.be/{ID}\n",
)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FakeYouTube]:
    async with FakeYouTube().running(tmp_path) as site:
        yield site


def with_cookies(settings: Settings, directory: Path) -> Settings:
    """`settings` with cookies for the site, in a file of the operator's."""
    (directory / "cookies.txt").write_text(
        f"# Netscape HTTP Cookie File\n.youtube.com\tTRUE\t/\tTRUE\t4070908800\t{COOKIE}\t{MARK}\n"
    )
    sources = directory / "sources.toml"
    sources.write_text('[youtube]\ncookies = "cookies.txt"\n')
    return settings.replace(sources_file=str(sources))


async def test_a_job_says_that_less_came_than_was_announced(
    settings: Settings, site: FakeYouTube, clip: bytes
) -> None:
    site.videos[ID] = Video(clip, withheld=(480, 1080))
    link = f"https://www.youtube.com/watch?v={ID}"
    async with running_harness(site.settings(settings)) as harness:
        job = await harness.ingest(link)
        refused = await harness.ingest(link, selection=Selection(min_height=720))
        low = await harness.ingest(link, selection=Selection(max_height=120))

    shortfall = job.extraction.shortfall
    assert (shortfall.announced_height, shortfall.available_height) == (1080, 120)
    assert list(shortfall.causes) == [Shortfall.CAUSE_PROTOCOL]
    assert job.media.extraction.shortfall == shortfall
    assert reason_name_of(refused) == "SELECTION_UNAVAILABLE"
    assert "announced video of up to 1080 pixels" in refused.error.message
    assert not low.extraction.HasField("shortfall")


async def test_another_form_of_the_link_asks_the_site_for_nothing(
    settings: Settings, site: FakeYouTube, clip: bytes
) -> None:
    site.videos[ID] = Video(clip, scrambled=True)
    async with running_harness(site.settings(settings)) as harness:
        job = await harness.ingest(f"https://www.youtube.com/watch?v={ID}")
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
        asked = list(site.log)
        others = [await harness.ask(form) for form in FORMS]
        blobs = [key for key in await harness.keys("media/") if key.endswith(".mp4")]

    assert job.media.source.key == KEY
    assert job.media.blob.sha256 == hashlib.sha256(clip).hexdigest()
    assert len([request for request in asked if "/videoplayback" in request]) == 1
    assert {(each.cached, each.media.id) for each in others} == {(True, job.media.id)}
    assert site.log == asked
    assert len(blobs) == 1


@pytest.mark.parametrize("name", REFUSALS)
async def test_what_youtube_does_not_give_is_the_jobs_error(
    settings: Settings, site: FakeYouTube, name: str
) -> None:
    video, reason = REFUSALS[name]
    site.videos[ID] = replace(video)
    async with running_harness(site.settings(settings).replace(attempts=1)) as harness:
        job = await harness.ingest(f"youtu.be/{ID}")
        assert await harness.keys("media/") == []
        assert not [name for name in names_below(harness.settings.scratch_dir) if job.id in name]

    assert job.state == job_pb2.JOB_STATE_FAILED
    assert reason_name_of(job) == reason
    assert job.error.message
    assert not site.asked("/videoplayback")


@pytest.mark.parametrize("playability", [PRIVATE, MEMBERS_ONLY, AGE_RESTRICTED, BOT_CHECK])
async def test_cookies_are_sent_when_the_site_wants_some_and_not_before(
    settings: Settings,
    site: FakeYouTube,
    clip: bytes,
    tmp_path: Path,
    playability: dict[str, object],
) -> None:
    site.videos[ID] = Video(clip, playability=playability, opens_for=COOKIE)
    given = with_cookies(site.settings(settings), tmp_path)
    operators = (tmp_path / "cookies.txt").read_text()
    async with running_harness(given) as harness:
        job = await harness.ingest(f"youtu.be/{ID}")

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert job.attempt == 1
    assert job.media.blob.sha256 == hashlib.sha256(clip).hexdigest()
    # The second attempt starts again; every request of the first one had no cookies.
    second = [at for at, request in enumerate(site.log) if "/watch" in request][1]
    with_some = [at for at, cookies in enumerate(site.cookies_of) if COOKIE in cookies]
    assert with_some
    assert min(with_some) == second
    assert (tmp_path / "cookies.txt").read_text() == operators


async def test_a_thumbnail_that_is_asked_for_later_comes_with_cookies_too(
    settings: Settings, site: FakeYouTube, clip: bytes, tmp_path: Path
) -> None:
    site.videos[ID] = Video(clip, playability=PRIVATE, opens_for=COOKIE)
    async with running_harness(with_cookies(site.settings(settings), tmp_path)) as harness:
        assert not (await harness.ingest(f"youtu.be/{ID}")).media.side_files
        job = await harness.ingest(f"youtu.be/{ID}", options=IngestOptions(thumbnail=True))

    assert [file.kind for file in job.media.side_files] == [SideFile.KIND_THUMBNAIL]
    assert len(site.asked("/videoplayback")) == 1


@pytest.mark.parametrize("name", ["geo blocked", "removed", "live", "rate limit"])
async def test_cookies_are_kept_back_where_they_do_not_help(
    settings: Settings, site: FakeYouTube, tmp_path: Path, name: str
) -> None:
    video, reason = REFUSALS[name]
    site.videos[ID] = replace(video)
    given = with_cookies(site.settings(settings), tmp_path).replace(attempts=1)
    async with running_harness(given) as harness:
        job = await harness.ingest(f"youtu.be/{ID}")

    assert reason_name_of(job) == reason
    assert COOKIE not in str(site.cookies_of)
    assert len(site.asked("/watch")) == 1


async def test_audio_only_is_a_separate_media_item_with_the_same_key(
    settings: Settings, site: FakeYouTube, clip: bytes
) -> None:
    site.videos[ID] = Video(clip)
    audio = Selection(mode=Selection.MODE_AUDIO_ONLY)
    async with running_harness(site.settings(settings)) as harness:
        whole = await harness.ingest(f"youtu.be/{ID}")
        sound = await harness.ingest(f"youtube.com/shorts/{ID}", selection=audio)

    assert (whole.media.source.key, sound.media.source.key) == (KEY, KEY)
    assert whole.media.id != sound.media.id
    assert not sound.media.video


@pytest.mark.parametrize("sheet", [b"\xff\xd8\xff\xe0sheet", b"<html>"])
async def test_the_storyboard_of_the_source_is_stored_whole_or_not_at_all(
    settings: Settings, site: FakeYouTube, clip: bytes, sheet: bytes
) -> None:
    site.videos[ID] = Video(clip, sheet=sheet)
    async with running_harness(site.settings(settings)) as harness:
        job = await harness.ingest(
            f"https://www.youtube.com/watch?v={ID}", options=IngestOptions(storyboard=True)
        )

        assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.error
        found = list(job.media.side_files)
        if sheet == b"<html>":
            assert not found
            return
        kinds = [SideFile.KIND_STORYBOARD] * 2 + [SideFile.KIND_STORYBOARD_INDEX]
        assert [side.kind for side in found] == kinds
        names = [side.url.rpartition("/")[2] for side in found[:2]]
        index = (await harness.download(url=found[2].url)).decode()
        assert [line for line in index.splitlines() if "#" in line] == [
            f"{name}#xywh={left},0,80,45" for name in names for left in (0, 80)
        ]
        assert "00:00:01.500 --> 00:00:02.000" in index
        linked = await harness.media.GetStoryboard(GetStoryboardRequest(media_id=job.media.id))
        assert linked.webvtt.count("http") == 4
        assert await harness.download(url=found[1].url) == sheet
