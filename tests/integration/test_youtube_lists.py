"""YouTube's playlists by whole ingests: yt-dlp's own extractors use a fake of the site."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import ChildSummary, IngestOptions, Job
from ingot.v1.job_service_pb2 import WatchJobRequest
from ingot_server.config import Settings
from tests import videos
from tests.harness import Harness, running_harness
from tests.refusals import reason_name_of, refusal
from tests.videos import Video
from tests.youtube import FakeYouTube

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

IDS = ("dQw4-9Wg_cQ", "dQw4-9Wg_cR", "dQw4-9Wg_cS")
LIST = "PLrAXtmErZgOeiKm4sgNOknGvNjby9efdf"
LINK = f"https://www.youtube.com/playlist?list={LIST}"
INSIDE = f"https://youtu.be/{IDS[0]}?list={LIST}"
ALL = IngestOptions(playlist=True)


class FakeYouTubeWithLists(FakeYouTube):
    """The fake site with a playlist: its page, and the same from the API."""

    async def _nothing(self, request: web.Request) -> web.Response:
        if request.path not in {"/playlist", "/youtubei/v1/browse"}:
            return await super()._nothing(request)
        self._video(request, "")
        contents: Any = [
            {"playlistVideoRenderer": {"videoId": each, "title": {"simpleText": each}}}
            for each in (*IDS, IDS[0])
        ]
        contents = [{"playlistVideoListRenderer": {"playlistId": LIST, "contents": contents}}]
        contents = [{"itemSectionRenderer": {"contents": contents}}]
        tab = {"selected": True, "content": {"sectionListRenderer": {"contents": contents}}}
        data = {
            "contents": {"twoColumnBrowseResultsRenderer": {"tabs": [{"tabRenderer": tab}]}},
            "metadata": {"playlistMetadataRenderer": {"title": "A playlist"}},
        }
        if request.method == "POST":
            return web.json_response(data)
        page = f"<html><script>var ytInitialData = {json.dumps(data)};</script></html>"
        return web.Response(text=page, content_type="text/html")


@pytest.fixture
async def site(tmp_path: Path, clip: bytes) -> AsyncIterator[FakeYouTube]:
    async with FakeYouTubeWithLists().running(tmp_path) as site:
        for video_id in IDS:
            site.videos[video_id] = Video(clip)
        yield site


@pytest.fixture
async def harness(settings: Settings, site: FakeYouTube) -> AsyncIterator[Harness]:
    async with running_harness(site.settings(settings)) as harness:
        yield harness


async def whole(harness: Harness, url: str) -> tuple[Job, list[Job]]:
    """The job of a list and those of its entries, after all of them have ended."""
    parent = await harness.ask(url, options=ALL)
    await harness.worker.run_job(parent.id)
    parent = await harness.record(parent.id)
    children = [await harness.end(await harness.record(each)) for each in parent.child_job_ids]
    watch = harness.jobs.WatchJob(WatchJobRequest(job_id=parent.id))
    updates = [each.job async for each in watch if each.HasField("job")]
    return updates[-1], children


async def test_a_playlist_is_its_videos_and_a_stored_one_is_not_asked_for(
    harness: Harness, site: FakeYouTube
) -> None:
    site.videos[IDS[2]].playability = videos.PRIVATE
    video = await harness.ingest(INSIDE)
    assert (video.media.source.key, len(video.child_job_ids)) == (f"youtube:{IDS[0]}", 0)
    asked = len(site.asked(f"id={IDS[0]}"))

    parent, children = await whole(harness, INSIDE)

    assert parent.state == job_pb2.JOB_STATE_SUCCEEDED, (parent.error, site.log)
    assert parent.children == ChildSummary(total=3, succeeded=2, failed=1, cached=1)
    assert parent.media.source.key == f"youtube-playlist:{LIST}"
    assert parent.media.title == "A playlist"
    assert [child.media.source.key for child in children] == [f"youtube:{each}" for each in IDS]
    assert reason_name_of(children[2]) == "PRIVATE"
    assert len(site.asked(f"id={IDS[0]}")) == asked
    again, _ = await whole(harness, LINK)
    assert again.children.cached == 2


async def test_a_playlist_is_refused_at_once_unless_it_was_requested(harness: Harness) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await harness.ask(LINK)
    assert refusal(raised.value).reason == "INVALID_REQUEST"
    assert "options.playlist" in str(raised.value.details())
