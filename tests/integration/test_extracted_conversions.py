"""Conversions of what yt-dlp finds: which form is taken, its cover, and when the site is asked.

The site is a fake (tests/youtube.py).
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mutagen.id3 import ID3

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.job_pb2 import IngestOptions, Job
from ingot.v1.media_pb2 import Media, Selection
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from tests.harness import Harness, running_harness
from tests.media import media
from tests.videos import Video
from tests.youtube import FakeYouTube

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

ID = "dQw4-9Wg_cQ"
LINK = f"https://youtu.be/{ID}"
MP3 = Recipe(mp3=Recipe.Mp3())
WAV = Recipe(wav=Recipe.Wav())
SOUND = Selection(mode=Selection.MODE_AUDIO_ONLY)


@pytest.fixture
async def site(tmp_path: Path, clip: bytes) -> AsyncIterator[FakeYouTube]:
    async with FakeYouTube().running(tmp_path) as site:
        site.videos[ID] = Video(clip, thumbnail=media("picture.jpg").read_bytes())
        yield site


@pytest.fixture
async def harness(settings: Settings, site: FakeYouTube) -> AsyncIterator[Harness]:
    async with running_harness(site.settings(settings)) as harness:
        yield harness


async def convert(harness: Harness, recipe: Recipe, **fields: object) -> Job:
    answer = await harness.api.Convert(ConvertRequest(url=LINK, recipe=recipe, **fields))  # type: ignore[arg-type]
    job = await harness.end(answer.job)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    return job


async def parent_of(harness: Harness, made: Media) -> Media:
    return await harness.get(media_id=made.derived_from_media_id)


async def covers(harness: Harness, of: Media) -> list[bytes]:
    content = await harness.download(media_id=of.id)
    return [frame.data for frame in ID3(io.BytesIO(content)).getall("APIC")]


async def test_an_mp3_takes_the_sound_alone_and_brings_its_cover(
    harness: Harness, site: FakeYouTube
) -> None:
    made = (await convert(harness, MP3)).media

    source = await parent_of(harness, made)
    assert (source.selection, list(source.video)) == (SOUND, [])
    assert await covers(harness, made) == [media("picture.jpg").read_bytes()]
    assert len(site.asked("/videoplayback")) == 1


async def test_an_mp3_is_made_without_a_cover_that_is_not_a_whole_image(
    harness: Harness, site: FakeYouTube
) -> None:
    site.videos[ID].thumbnail = site.videos[ID].thumbnail[:-200]

    made = (await convert(harness, MP3)).media

    assert len((await parent_of(harness, made)).side_files) == 1
    assert await covers(harness, made) == []


async def test_sound_without_a_cover_leaves_the_thumbnail(
    harness: Harness, site: FakeYouTube
) -> None:
    made = (await convert(harness, WAV)).media

    assert not (await parent_of(harness, made)).side_files
    assert not site.asked("/vi/")


async def test_what_is_stored_whole_is_converted_without_asking_the_site(
    harness: Harness, site: FakeYouTube
) -> None:
    whole = (await harness.ingest(LINK)).media
    asked = list(site.log)

    made = (await convert(harness, MP3)).media
    both = await harness.ingest(LINK, recipes=[MP3, WAV])

    assert made.derived_from_media_id == whole.id
    assert both.state == job_pb2.JOB_STATE_SUCCEEDED, both
    assert [each.derived_from_media_id for each in both.conversions] == [whole.id, whole.id]
    assert await covers(harness, made) == []
    assert site.log == asked


async def test_what_was_made_of_either_form_is_found_again(harness: Harness) -> None:
    made = (await convert(harness, MP3)).media
    await harness.ingest(LINK)
    again = await convert(harness, MP3)
    assert (again.cached, again.media.id) == (True, made.id)

    of_the_whole = (
        await convert(harness, WAV, selection=Selection(mode=Selection.MODE_BEST))
    ).media
    again = await convert(harness, WAV)
    assert (again.cached, again.media.id) == (True, of_the_whole.id)


async def test_a_thumbnail_that_was_brought_along_is_not_sought_again(
    harness: Harness, site: FakeYouTube
) -> None:
    await convert(harness, MP3, selection=Selection(mode=Selection.MODE_BEST))
    asked = list(site.log)

    again = await harness.ask(LINK, options=IngestOptions(thumbnail=True))

    assert again.cached
    assert len(again.media.side_files) == 1
    assert site.log == asked
