"""yt-dlp's real Telegram extractor against a fake t.me (tests/telegram.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Selection
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.extractor.pool import ExtractorPool
from ingot_server.extractor.result import Entries, Resolved
from ingot_server.extractor.session import Session
from ingot_server.sources import pick
from tests.telegram import FakeTelegramPages, Video, company_proxy
from tests.tls import server_context
from tests.web_server import web_server

pytestmark = pytest.mark.any_stores

MEDIA_HOST = "cdn4.telesco.pe"
BEST = Selection(mode=Selection.MODE_BEST)


@dataclass
class PostsHarness:
    pages: FakeTelegramPages
    extractor: ExtractorPool
    egress: EgressProxy
    directory: Path

    @asynccontextmanager
    async def session(self, url: str, *, playlist: bool = False) -> AsyncIterator[Session]:
        egress_grant = self.egress.grant("job")
        try:
            async with self.extractor.session(
                pick(url, playlist=playlist)[1].url,
                selection=BEST,
                options=IngestOptions(playlist=playlist),
                proxy_url=egress_grant.proxy_url,
                directory=self.directory,
            ) as session:
                yield session
        finally:
            egress_grant.revoke()


@pytest.fixture
async def harness(tmp_path: Path, clip: bytes, other_clip: bytes) -> AsyncIterator[PostsHarness]:
    context, authority = server_context(tmp_path)
    pages = FakeTelegramPages(media_host=MEDIA_HOST)
    pages.post("lake", Video(41, clip), Video(42, other_clip))
    pages.post("river", Video(42, clip))
    async with (
        web_server(pages.handle, tls=context, cancels=True) as address,
        company_proxy({"t.me:443": address, f"{MEDIA_HOST}:443": address}) as proxy,
    ):
        settings = Settings(egress_proxy=proxy, egress_ca_file=str(authority))
        extractor, egress = ExtractorPool(settings), EgressProxy(settings)
        await egress.start()
        await extractor.start()
        try:
            yield PostsHarness(pages, extractor, egress, tmp_path)
        finally:
            await extractor.close()
            await egress.close()


async def test_one_post_of_an_album_is_that_post(
    harness: PostsHarness, other_clip: bytes, tmp_path: Path
) -> None:
    async with harness.session("T.me/s/Lake/42?comment=7") as session:
        resolved = await session.resolve()
        assert isinstance(resolved, Resolved)
        fetched = await session.fetch(tmp_path, lambda _done, _total: None)
    assert fetched.path.read_bytes() == other_clip
    assert "Two clips from the lake" in resolved.title
    assert {host for host, _ in harness.pages.asked} == {"t.me", MEDIA_HOST}


async def test_an_album_is_a_list_of_its_posts(harness: PostsHarness) -> None:
    async with harness.session("https://t.me/lake/41", playlist=True) as session:
        entries = await session.resolve()
    assert isinstance(entries, Entries)
    assert [pick(url)[1].key for url in entries.urls] == ["telegram:lake/41", "telegram:lake/42"]
