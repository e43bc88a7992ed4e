"""yt-dlp's real YouTube extractor, in its process and through the guard, against a stand-in site.

The stand-in is tests/youtube.py. The test marked `live` asks the real one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Selection
from ingot.v1.reason_pb2 import Reason
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure
from ingot_server.pipeline.extraction import Resolved
from ingot_server.pipeline.extraction_session import Session
from ingot_server.pipeline.extractor import Extractor
from ingot_server.sources import pick
from tests import youtube
from tests.youtube import Video, YouTube

ID = "dQw4-9Wg_cQ"
LIVE = {"isLive": True, "isLiveContent": True}
UPCOMING = {"isUpcoming": True, "isLiveContent": True}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[YouTube]:
    async with YouTube().running(tmp_path) as site:
        yield site


@pytest.fixture
def plain(tmp_path: Path) -> Settings:
    """Settings for what needs neither Redis nor a bucket."""
    return Settings(scratch_dir=tmp_path / "scratch", egress_allow_loopback=True)


@asynccontextmanager
async def extracting(settings: Settings, link: str) -> AsyncIterator[Session]:
    guard = EgressProxy(settings)
    extractor = Extractor(settings)
    await guard.start()
    await extractor.start()
    try:
        async with extractor.session(
            pick(link)[1].url,
            selection=Selection(mode=Selection.MODE_BEST),
            options=IngestOptions(),
            proxy_url=guard.issue("job").proxy_url,
        ) as session:
            yield session
    finally:
        await extractor.close()
        await guard.close()


async def test_a_video_is_resolved_and_fetched(
    plain: Settings, site: YouTube, clip: bytes, tmp_path: Path
) -> None:
    site.videos[ID] = Video(clip)
    told: list[tuple[int, int | None]] = []
    directory = tmp_path / "fetched"
    directory.mkdir()

    async with extracting(site.settings(plain), f"youtu.be/{ID}?t=30") as session:
        resolved = await session.resolve()
        asked = site.asked("/videoplayback")
        fetched = await session.fetch(directory, lambda done, total: told.append((done, total)))
        content = fetched.path.read_bytes()

    assert isinstance(resolved, Resolved)
    assert (resolved.extractor.lower(), resolved.extractor_id) == ("youtube", ID)
    assert resolved.title == site.videos[ID].title
    assert resolved.uploader == "An uploader"
    assert resolved.tags == ("one", "two")
    assert resolved.duration_seconds == 2
    assert not resolved.is_live
    assert resolved.extraction.format_id == "18"
    assert not asked
    assert content == clip
    assert told[-1] == (len(clip), len(clip))


REFUSALS: dict[str, tuple[Video, Reason.ValueType]] = {
    "private": (Video(playability=youtube.PRIVATE), reason_pb2.REASON_PRIVATE),
    "members only": (Video(playability=youtube.MEMBERS_ONLY), reason_pb2.REASON_MEMBERS_ONLY),
    "age restricted": (Video(playability=youtube.AGE_RESTRICTED), reason_pb2.REASON_AGE_RESTRICTED),
    "geo blocked": (Video(playability=youtube.GEO_BLOCKED), reason_pb2.REASON_GEO_BLOCKED),
    "removed": (Video(playability=youtube.REMOVED), reason_pb2.REASON_MEDIA_DOES_NOT_EXIST),
    "terminated": (Video(playability=youtube.TERMINATED), reason_pb2.REASON_MEDIA_DOES_NOT_EXIST),
    "bot check": (Video(playability=youtube.BOT_CHECK), reason_pb2.REASON_BOT_CHECK),
    "rate limit": (Video(player_status=429), reason_pb2.REASON_RATE_LIMITED),
    "session limited": (Video(playability=youtube.SESSION_LIMITED), reason_pb2.REASON_RATE_LIMITED),
    "server error": (Video(player_status=503), reason_pb2.REASON_SOURCE_FAILED),
    "live": (Video(b"x", details=LIVE), reason_pb2.REASON_LIVE_STREAM),
    "upcoming": (
        Video(playability=youtube.UPCOMING, details=UPCOMING),
        reason_pb2.REASON_UPCOMING,
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_what_youtube_does_not_give_has_its_reason(
    plain: Settings, site: YouTube, name: str
) -> None:
    video, reason = REFUSALS[name]
    site.videos[ID] = video

    async with extracting(site.settings(plain), f"youtu.be/{ID}") as session:
        with pytest.raises(Failure) as refused:
            await session.resolve()

    assert Reason.Name(refused.value.reason) == Reason.Name(reason)
    assert "yt-dlp" not in refused.value.message
    assert not site.asked("/videoplayback")


@pytest.mark.live
async def test_the_real_site_gives_a_video(plain: Settings, tmp_path: Path) -> None:
    directory = tmp_path / "fetched"
    directory.mkdir()

    async with extracting(plain, "https://youtu.be/jNQXAC9IVRw") as session:
        resolved = await session.resolve()
        fetched = await session.fetch(directory, lambda done, total: None)
        size = fetched.path.stat().st_size

    assert isinstance(resolved, Resolved)
    assert resolved.extractor_id == "jNQXAC9IVRw"
    assert size > 100_000
