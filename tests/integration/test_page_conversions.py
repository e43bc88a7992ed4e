"""Conversions by the URL of a page of the open web: which form is fetched, and what is found again.

The pages are stand-ins (tests/mediasite.py).
"""

from __future__ import annotations

import pytest

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media, Selection
from ingot.v1.recipe_pb2 import Recipe
from tests.harness import Harness
from tests.media import media
from tests.mediasite import serve_presentation
from tests.origin import Origin, Page

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

MP3 = Recipe(mp3=Recipe.Mp3())
WAV = Recipe(wav=Recipe.Wav())
BEST = Selection(mode=Selection.MODE_BEST)
SOUND = Selection(mode=Selection.MODE_AUDIO_ONLY)


async def convert(
    harness: Harness, url: str, recipe: Recipe = MP3, selection: Selection | None = None
) -> Job:
    request = ConvertRequest(url=url, recipe=recipe, selection=selection)
    job = await harness.end((await harness.api.Convert(request)).job)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    return job


async def parent_of(harness: Harness, made: Media) -> Media:
    return await harness.get(media_id=made.derived_from_media_id)


@pytest.mark.parametrize(("selection", "taken"), [(None, BEST), (SOUND, SOUND)])
async def test_a_page_gives_the_whole_unless_the_sound_is_asked_for(
    harness: Harness, origin: Origin, clip: bytes, selection: Selection | None, taken: Selection
) -> None:
    url = serve_presentation(origin, clip)

    source = await parent_of(harness, (await convert(harness, url, selection=selection)).media)

    assert (source.selection, bool(source.video)) == (taken, taken == BEST)


async def test_sound_that_is_stored_is_converted_without_fetching_the_whole(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    url = serve_presentation(origin, clip)
    sound = (await harness.ingest(url, selection=SOUND)).media
    asked = list(origin.log)

    made = (await convert(harness, url)).media
    again = await convert(harness, url)

    assert made.derived_from_media_id == sound.id
    assert (again.cached, again.media.id) == (True, made.id)
    assert origin.log == asked


async def test_what_was_made_of_the_whole_is_found_when_the_sound_came_later(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    url = serve_presentation(origin, clip)
    of_the_whole = (await convert(harness, url)).media
    sound = (await harness.ingest(url, selection=SOUND)).media
    asked = list(origin.log)

    again = await convert(harness, url)
    another = (await convert(harness, url, WAV)).media

    assert (again.cached, again.media.id) == (True, of_the_whole.id)
    assert another.derived_from_media_id == sound.id
    assert origin.log == asked


async def test_the_file_that_a_conversion_fetched_is_the_media_of_its_url(
    harness: Harness, origin: Origin
) -> None:
    url = origin.serve("/song", Page(media("variable.mp3").read_bytes(), content_type="audio/mpeg"))

    made = (await convert(harness, url)).media
    asked = list(origin.log)
    stored = await harness.ask(url)

    assert (stored.cached, stored.media.id) == (True, made.derived_from_media_id)
    assert origin.log == asked
