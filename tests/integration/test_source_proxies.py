"""A source that has a proxy of its own is reached through that one alone, for all of a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED, IngestOptions
from ingot.v1.media_pb2 import SideFile
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.setting_values import Secret
from tests import mtproto
from tests.harness import Harness, running_harness
from tests.mediasite import serve_presentation
from tests.mtproto import Channel, FakeDataCentre
from tests.origin import Origin, Page
from tests.telegram import (
    FILE_ID,
    TOKEN,
    FakeBotApi,
    FakeTelegramPages,
    company_proxy,
    found,
)
from tests.telegram import Video as Post
from tests.tls import server_context
from tests.videos import Video
from tests.waiting import TIMEOUT_SECONDS
from tests.web_server import web_server
from tests.youtube import FakeYouTube

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

YOUTUBE_ID = "dQw4-9Wg_cQ"
PRIVATE_CHANNEL = 1234567890
MEDIA_HOST = "cdn4.telesco.pe"
ALBUM = IngestOptions(playlist=True)


def proxied(settings: Settings, directory: Path, proxies: dict[str, str], unused: int) -> Settings:
    """`settings` with a proxy for each source, while all other traffic gets nowhere."""
    path = directory / "sources.toml"
    path.write_text("".join(f'[{name}]\nproxy = "{url}"\n' for name, url in proxies.items()))
    nowhere = f"http://127.0.0.1:{unused}"
    return settings.replace(sources_file=str(path), egress_proxy=nowhere, attempts=1)


async def test_a_video_and_its_thumbnail_come_through_the_proxy_of_youtube(
    settings: Settings, tmp_path: Path, clip: bytes, closed_port: int
) -> None:
    async with FakeYouTube().running(tmp_path) as site:
        site.videos[YOUTUBE_ID] = Video(clip)
        own = proxied(settings, tmp_path, {"youtube": site.proxy_url}, closed_port)
        async with (
            asyncio.timeout(TIMEOUT_SECONDS),
            running_harness(own.replace(egress_ca_file=site.ca_file)) as harness,
        ):
            job = await harness.ingest(f"youtu.be/{YOUTUBE_ID}")
            assert job.state == JOB_STATE_SUCCEEDED, job.error
            later = await harness.ingest(
                f"youtu.be/{YOUTUBE_ID}", options=IngestOptions(thumbnail=True)
            )

    assert [file.kind for file in later.media.side_files] == [SideFile.KIND_THUMBNAIL]


@pytest.mark.parametrize("is_page", [False, True], ids=["a file", "a page"])
async def test_what_the_web_has_comes_through_the_proxy_of_that_source(
    settings: Settings,
    origin: Origin,
    tmp_path: Path,
    clip: bytes,
    closed_port: int,
    is_page: bool,
) -> None:
    url = serve_presentation(origin, clip) if is_page else origin.serve("/clip.mp4", Page(clip))
    proxy = EgressProxy(settings)
    await proxy.start()
    try:
        used = proxy.grant("the-source")
        own = proxied(settings, tmp_path, {"http": used.proxy_url}, closed_port)
        async with asyncio.timeout(TIMEOUT_SECONDS), running_harness(own) as harness:
            job = await harness.ingest(url)
        received = used.bytes_received
    finally:
        await proxy.close()

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert received > len(clip)


@pytest.fixture
async def telegram(
    settings: Settings, tmp_path: Path, clip: bytes, closed_port: int
) -> AsyncIterator[Harness]:
    """An Ingot that reaches Telegram by the proxies of its two sources; both have posts there."""
    pages, bots, centre = FakeTelegramPages(media_host=MEDIA_HOST), FakeBotApi(), FakeDataCentre()
    pages.post("lake", Post(41, clip), Post(42, clip))
    bots.files = {"videos/file_12.mp4": clip}
    bots.answers = [found("videos/file_12.mp4", len(clip))]
    albums = {41: 5, 42: 5}
    centre.channels = [Channel(PRIVATE_CHANNEL, "Members", "", {41: clip, 42: clip}, albums)]
    context, authority = server_context(tmp_path)
    async with AsyncExitStack() as stack:
        page = await stack.enter_async_context(web_server(pages.handle, tls=context, cancels=True))
        api = await stack.enter_async_context(web_server(bots.handle, tls=context, cancels=True))
        home = await stack.enter_async_context(centre.serving())
        destinations = {
            "t.me:443": page,
            f"{MEDIA_HOST}:443": page,
            "api.telegram.org:443": api,
            f"{mtproto.ADDRESS}:{mtproto.PORT}": home,
        }
        proxy = await stack.enter_async_context(company_proxy(destinations))
        proxies = {"telegram": proxy, "telegram_file": proxy}
        own = proxied(settings, tmp_path, proxies, closed_port).replace(
            egress_ca_file=str(authority),
            telegram_bot_token=Secret(TOKEN),
            telegram_api_id=12345,
            telegram_api_hash=Secret("0123456789abcdef0123456789abcdef"),
            telegram_session=mtproto.session(),
        )
        yield await stack.enter_async_context(running_harness(own))


@pytest.mark.parametrize(
    ("link", "options"),
    [
        ("https://t.me/lake/41", IngestOptions()),
        ("https://t.me/lake/41", ALBUM),
        (f"telegram://video/{FILE_ID}", IngestOptions()),
        (f"https://t.me/c/{PRIVATE_CHANNEL}/42", IngestOptions()),
        (f"https://t.me/c/{PRIVATE_CHANNEL}/42", ALBUM),
    ],
    ids=["post", "album", "file", "private post", "private album"],
)
async def test_all_of_telegram_comes_through_the_proxies_of_its_sources(
    telegram: Harness, link: str, options: IngestOptions
) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        job = await telegram.ingest(link, options=options)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert job.children.failed == 0
