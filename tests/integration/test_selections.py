"""What is stored is what was selected, or nothing, and then the failure says what there is."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED, Job
from ingot.v1.media_pb2 import Selection
from tests.harness import Harness
from tests.manifests import LANGUAGES, serve_manifest
from tests.media import media
from tests.origin import Origin, Page
from tests.refusals import reason_name_of

pytestmark = pytest.mark.any_stores


def serve_file(origin: Origin, name: str) -> str:
    return origin.serve(f"/{name}", Page(media(name).read_bytes()))


def assert_unavailable(job: Job, words: str) -> None:
    assert reason_name_of(job) == "SELECTION_UNAVAILABLE", job.error
    assert words in job.error.message


async def test_less_than_the_minimum_height_is_refused_before_anything_is_downloaded(
    harness: Harness, origin: Origin
) -> None:
    url = serve_manifest(origin, "dash")

    job = await harness.ingest(url, selection=Selection(min_height=121))

    assert_unavailable(job, "a height of 60 and 120 pixels, and min_height is 121")
    assert {asked.path for asked in origin.log} == {"/list.mpd"}
    await harness.assert_nothing_is_left()


async def test_what_has_the_minimum_height_is_stored_under_an_id_of_its_own(
    harness: Harness, origin: Origin
) -> None:
    url = serve_file(origin, "plain.mp4")
    job = await harness.ingest(url, selection=Selection(min_height=120, max_height=120))

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert [each.height for each in job.media.video] == [120]
    assert job.media.selection.min_height == 120
    assert job.media.id != (await harness.ask(url)).media.id


@pytest.mark.parametrize(
    ("name", "selection", "words"),
    [
        ("plain.mp4", Selection(min_height=121), "120 pixels high, and min_height is 121"),
        ("sound.m4a", Selection(min_height=1), "no video, and min_height is 1"),
        ("several.mkv", Selection(audio_language="fr"), "audio in eng, deu, and audio_language"),
        ("plain.mp4", Selection(audio_language="en"), "does not say which language"),
    ],
)
async def test_a_file_that_is_not_as_selected_is_not_stored(
    harness: Harness, origin: Origin, name: str, selection: Selection, words: str
) -> None:
    job = await harness.ingest(serve_file(origin, name), selection=selection)

    assert_unavailable(job, words)
    await harness.assert_nothing_is_left()


async def test_a_file_with_the_requested_language_keeps_the_others(
    harness: Harness, origin: Origin
) -> None:
    selection = Selection(audio_language="de-AT")
    job = await harness.ingest(serve_file(origin, "several.mkv"), selection=selection)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert [each.language for each in job.media.audio] == ["eng", "deu"]


@pytest.mark.slow
@pytest.mark.parametrize("name", LANGUAGES)
@pytest.mark.parametrize(("language", "channels"), [("en-GB", 1), ("de", 2)])
async def test_a_manifest_is_stored_with_its_audio_in_the_requested_language(
    harness: Harness, origin: Origin, name: str, language: str, channels: int
) -> None:
    url = serve_manifest(origin, name)

    job = await harness.ingest(url, selection=Selection(audio_language=language))

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert [each.channels for each in job.media.audio] == [channels]
    assert [each.height for each in job.media.video] == [120]


@pytest.mark.slow
async def test_the_default_audio_of_a_manifest_is_stored_although_other_audio_is_better(
    harness: Harness, origin: Origin
) -> None:
    job = await harness.ingest(serve_manifest(origin, "hls-languages"))

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert [(each.language, each.channels) for each in job.media.audio] == [("eng", 1)]


@pytest.mark.slow
@pytest.mark.parametrize("name", LANGUAGES)
async def test_all_audio_is_kept_on_request_the_original_first(
    harness: Harness, origin: Origin, tmp_path: Path, name: str
) -> None:
    url = serve_manifest(origin, name)

    job = await harness.ingest(url, selection=Selection(all_audio_languages=True))

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert [each.height for each in job.media.video] == [120]
    audio = {each.language: each.channels for each in job.media.audio}
    assert audio == {"en": 1, "de": 2}
    assert [each.preferred for each in job.media.audio] == [True, False]
    if name == "hls-languages":
        assert job.media.audio[0].language == "en"
    file = tmp_path / "stored.mp4"
    file.write_bytes(await harness.download(media_id=job.media.id))
    with av.open(str(file)) as container:
        marks = [each.metadata["language"] for each in container.streams.audio]
    assert marks == [{"en": "eng", "de": "deu"}[each.language] for each in job.media.audio]


@pytest.mark.parametrize("name", LANGUAGES)
async def test_a_language_that_is_not_offered_is_refused_with_those_that_are(
    harness: Harness, origin: Origin, name: str
) -> None:
    url = serve_manifest(origin, name)

    job = await harness.ingest(url, selection=Selection(audio_language="fr"))

    assert_unavailable(job, "and audio_language is fr")
    assert "de" in job.error.message.partition("offers audio in ")[2]
    assert not any(asked.path.endswith((".ts", ".m4s")) for asked in origin.log)
    await harness.assert_nothing_is_left()
