"""yt-dlp's real YouTube extractor, in its process and through the guard, against a fake site.

The fake is tests/youtube.py. The test marked `live` uses the real site.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Selection
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure, reason_name
from ingot_server.extractor.pool import ExtractorPool
from ingot_server.extractor.result import Resolved
from ingot_server.extractor.session import Session
from ingot_server.sources import pick
from tests.videos import REFUSALS, Video
from tests.youtube import FakeYouTube

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

ID = "dQw4-9Wg_cQ"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FakeYouTube]:
    async with FakeYouTube().running(tmp_path) as site:
        yield site


@pytest.fixture
def plain(tmp_path: Path) -> Settings:
    """Settings for what needs neither Redis nor a bucket, nor PO tokens that Ingot makes."""
    return Settings(scratch_dir=tmp_path / "scratch", egress_allow_loopback=True, po_tokens=False)


@asynccontextmanager
async def extracting(
    settings: Settings, link: str, directory: Path | None = None
) -> AsyncIterator[Session]:
    guard = EgressProxy(settings)
    extractor = ExtractorPool(settings)
    await guard.start()
    await extractor.start()
    try:
        async with extractor.session(
            pick(link)[1].url,
            selection=Selection(mode=Selection.MODE_BEST),
            options=IngestOptions(),
            proxy_url=guard.grant("job").proxy_url,
            directory=directory,
        ) as session:
            yield session
    finally:
        await extractor.close()
        await guard.close()


async def test_a_video_is_resolved_and_fetched(
    plain: Settings, site: FakeYouTube, clip: bytes, tmp_path: Path
) -> None:
    site.videos[ID] = Video(clip)
    told: list[tuple[int, int | None]] = []
    directory = tmp_path / "fetched"
    directory.mkdir()

    async with extracting(site.settings(plain), f"youtu.be/{ID}?t=30", directory) as session:
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


@pytest.mark.parametrize("name", REFUSALS)
async def test_what_youtube_does_not_give_has_its_reason(
    plain: Settings, site: FakeYouTube, name: str
) -> None:
    video, reason = REFUSALS[name]
    site.videos[ID] = replace(video)

    async with extracting(site.settings(plain), f"youtu.be/{ID}") as session:
        with pytest.raises(Failure) as refused:
            await session.resolve()

    assert reason_name(refused.value.reason) == reason
    assert "yt-dlp" not in refused.value.message
    assert not site.asked("/videoplayback")


async def test_an_address_that_the_players_script_has_to_solve_is_solved(
    plain: Settings, site: FakeYouTube, clip: bytes, tmp_path: Path
) -> None:
    """By deno, which runs yt-dlp's solver inside of the child's containment."""
    site.videos[ID] = Video(clip, scrambled=True)
    directory = tmp_path / "fetched"
    directory.mkdir()

    async with extracting(site.settings(plain), f"youtu.be/{ID}", directory) as session:
        await session.resolve()
        fetched = await session.fetch(directory, lambda done, total: None)
        content = fetched.path.read_bytes()

    assert content == clip
    assert len(site.asked("/s/player/")) == 1


PROVIDER = """
from yt_dlp.extractor.youtube.pot.provider import (
    ExternalRequestFeature, PoTokenProvider, PoTokenResponse, register_provider,
)


@register_provider
class TestPTP(PoTokenProvider):
    PROVIDER_VERSION = "1.0"
    _SUPPORTED_CLIENTS = None
    _SUPPORTED_CONTEXTS = None
    _SUPPORTED_EXTERNAL_REQUEST_FEATURES = (ExternalRequestFeature.PROXY_SCHEME_HTTP,)

    def is_available(self):
        return True

    def _real_request_pot(self, request):
        assert request.request_proxy.startswith("http://")
        return PoTokenResponse("dG9rZW4tb2YtYS1wbHVnLWlu")
"""


async def test_a_po_token_comes_from_a_plug_in(
    plain: Settings, site: FakeYouTube, clip: bytes, tmp_path: Path
) -> None:
    site.videos[ID] = Video(clip, po_token="dG9rZW4tb2YtYS1wbHVnLWlu")
    directory = tmp_path / "fetched"
    package = tmp_path / "plug-ins" / "provider" / "yt_dlp_plugins" / "extractor"
    for folder in (directory, package):
        folder.mkdir(parents=True)
    (package / "getpot_test.py").write_text(PROVIDER)

    async with extracting(site.settings(plain), f"youtu.be/{ID}") as session:
        with pytest.raises(Failure):
            await session.resolve()
    plugged = plain.replace(extractor_plugins=str(tmp_path / "plug-ins"))
    async with extracting(site.settings(plugged), f"youtu.be/{ID}", directory) as session:
        await session.resolve()
        fetched = await session.fetch(directory, lambda done, total: None)
        content = fetched.path.read_bytes()

    assert content == clip


@pytest.mark.live
async def test_the_real_site_gives_a_video(plain: Settings, tmp_path: Path) -> None:
    directory = tmp_path / "fetched"
    directory.mkdir()

    async with extracting(plain, "https://youtu.be/jNQXAC9IVRw", directory) as session:
        resolved = await session.resolve()
        fetched = await session.fetch(directory, lambda done, total: None)
        size = fetched.path.stat().st_size

    assert isinstance(resolved, Resolved)
    assert resolved.extractor_id == "jNQXAC9IVRw"
    assert size > 100_000
