"""YouTube on the whole system. Only the site is a fake (tests/youtube.py)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingot import Client, IngotError, MediaDoesNotExist
from ingot.v1 import job_pb2
from ingot.v1.media_pb2 import Selection
from tests.installation import installation
from tests.videos import MEMBERS_ONLY, Video
from tests.youtube import FakeYouTube

ID = "dQw4-9Wg_cQ"
MEMBERS_ID = "members_vid"
WATCH = f"https://www.youtube.com/watch?v={ID}&list=RDdQw4-9Wg_cQ&index=2"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FakeYouTube]:
    async with FakeYouTube().running(tmp_path) as site:
        yield site


async def test_two_forms_of_a_link_are_one_media_and_one_download(
    site: FakeYouTube, clip: bytes, tmp_path: Path
) -> None:
    site.videos[ID] = Video(clip)
    site.videos[MEMBERS_ID] = Video(playability=MEMBERS_ONLY)
    settings = {
        "workers": "1",
        "convert_workers": "0",
        "egress_proxy": site.proxy_url,
        "egress_ca_file": site.ca_file,
    }

    with installation(tmp_path / "data", **settings) as running:
        async with Client(running.grpc_address) as client:
            job = await client.ingest_video(WATCH)
            media = await job
            bytes_asked = len(site.asked("/videoplayback"))

            again = await client.ingest_video(f"HTTP://YouTu.be/{ID}?si=share&t=30")
            assert (await again).id == media.id
            assert again.latest.cached
            audio = await (
                await client.ingest_video(
                    f"youtube.com/shorts/{ID}", selection=Selection(mode=Selection.MODE_AUDIO_ONLY)
                )
            )

            with pytest.raises(IngotError) as refused:
                await (await client.ingest_video(f"youtu.be/{MEMBERS_ID}"))
            with pytest.raises(MediaDoesNotExist):
                await client.ingest_video("youtu.be/nothinghere")
            jobs = [found async for found in client.jobs()]

    assert media.source.key == f"youtube:{ID}"
    assert media.url == f"https://www.youtube.com/watch?v={ID}"
    assert media.title == site.videos[ID].title
    assert media.uploader == "An uploader"
    assert media.blob.sha256 == hashlib.sha256(clip).hexdigest()
    assert media.video[0].codec == "h264"
    assert job.latest.state == job_pb2.JOB_STATE_SUCCEEDED
    assert bytes_asked == 1
    assert audio.id != media.id
    assert not audio.video
    assert len(site.asked(f"HEAD i.ytimg.com/vi/{ID}/")) == 1
    assert refused.value.reason == "MEMBERS_ONLY"
    assert not [found for found in jobs if "nothinghere" in found.url]
