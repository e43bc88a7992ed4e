"""Transcripts from the request to the stored text, by a real worker, of real subtitles and sound.

The endpoint is a stand-in (tests/transcription.py), as is the page with the subtitles.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import grpc
import imageio_ffmpeg
import pytest
from google.protobuf.duration_pb2 import Duration

from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.job_pb2 import JOB_STATE_CANCELLED, JOB_STATE_SUCCEEDED, IngestOptions, Job
from ingot.v1.media_pb2 import Media, Selection
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.pipeline import transcribe
from ingot_server.setting_values import Secret
from tests.harness import Harness, running_harness
from tests.integration.test_side_files import serve_player
from tests.leaks import MARK
from tests.origin import Origin, Page
from tests.recipes import make_recipe
from tests.refusals import reason_name_of, refusal
from tests.transcription import TranscriptionStandIn
from tests.waiting import TIMEOUT_SECONDS, until

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

SUBTITLES = Recipe.Transcript.ORIGIN_SUBTITLES
SOUND = Recipe.Transcript.ORIGIN_SOUND
ROLLING = b"""WEBVTT

00:00.000 --> 00:00.800
<v Ann>Tom &amp; <i>Jerry</i>

00:00.800 --> 00:01.500
Tom &amp; Jerry
sing

00:01.500 --> 00:02.000
sing
"""
# Sound from 0.2 to 0.4, from 0.8 to 1.2 and from 1.5 to 1.8 s, of two seconds.
BEEPS = "between(t,0.2,0.4)+between(t,0.8,1.2)+between(t,1.5,1.8)"


@pytest.fixture
async def endpoint() -> AsyncIterator[TranscriptionStandIn]:
    async with TranscriptionStandIn().running() as running:
        yield running


@pytest.fixture
async def harness(settings: Settings, endpoint: TranscriptionStandIn) -> AsyncIterator[Harness]:
    changed = settings.replace(
        transcription_url=endpoint.url, transcription_api_key=Secret(f"sk-{MARK}")
    )
    async with running_harness(changed) as running:
        yield running


@pytest.fixture(scope="session")
def beeps(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("beeps") / "beeps.wav"
    tone = f"aevalsrc='0.5*sin(440*2*PI*t)*({BEEPS})':duration=2:sample_rate=44100"
    ffmpeg = (imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", tone)
    subprocess.run([*ffmpeg, str(path)], check=True)
    return path.read_bytes()


async def ask(harness: Harness, media: Media, name: str, **parameters: Any) -> Job:
    recipe = make_recipe(name, **parameters)
    answer = await harness.api.Convert(ConvertRequest(media_id=media.id, recipe=recipe))
    job: Job = answer.job
    return job


async def made(harness: Harness, media: Media, name: str, **parameters: Any) -> tuple[Media, str]:
    """The stored transcript, and its text."""
    job = await harness.end(await ask(harness, media, name, **parameters))
    assert job.state == JOB_STATE_SUCCEEDED, job.error
    return job.media, (await harness.download(media_id=job.media.id)).decode()


async def test_subtitles_become_text_and_json(
    harness: Harness, origin: Origin, endpoint: TranscriptionStandIn, clip: bytes
) -> None:
    origin.serve("/clip.mp4", Page(clip))
    url = serve_player(origin, {"de": b"WEBVTT\n\n00:00.000 --> 00:01.000\nJa.\n", "en": ROLLING})
    options = IngestOptions(subtitle_languages=["de", "en"])
    media = (await harness.ingest(url, options=options)).media

    stored, text = await made(harness, media, "transcript", language="en-GB")
    assert text == "Tom & Jerry\nsing\n"
    assert stored.blob.content_type == "text/plain; charset=utf-8"
    assert stored.blob.url.endswith(".txt")
    assert stored.title == media.title
    assert not stored.duration.ToMicroseconds()

    _, text = await made(harness, media, "transcript_json", language="en", start=0.5, end=1)
    assert json.loads(text) == {
        "version": 1,
        "origin": "subtitles",
        "automatic": False,
        "language": "en",
        "duration": 0.5,
        "text": "Tom & Jerry sing",
        "segments": [
            {"id": 0, "start": 0.0, "end": 0.3, "text": "Tom & Jerry"},
            {"id": 1, "start": 0.3, "end": 0.5, "text": "sing"},
        ],
    }

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(harness, media, "transcript", language="fr", origin=SUBTITLES)
    assert refusal(refused.value).fields == {"recipe.transcript.origin"}
    assert not endpoint.asked


async def test_sound_is_sent_in_parts_and_keeps_its_times(
    harness: Harness,
    origin: Origin,
    endpoint: TranscriptionStandIn,
    beeps: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transcribe, "PART_SECONDS", 1.0)
    media = (await harness.ingest(origin.serve("/beeps.wav", Page(beeps)))).media
    # The second part is refused once. The first one is not sent again.
    endpoint.answers = [None, (503, "Busy", {}), None]

    _, text = await made(harness, media, "transcript_json", origin=SOUND)

    document = json.loads(text)
    assert (document["origin"], document["language"], document["model"]) == (
        *("sound", "en"),
        "whisper-1",
    )
    assert document["automatic"]
    found = [(each["start"], each["end"]) for each in document["segments"]]
    expected = [(0.2, 0.4), (0.8, 1.0), (1.0, 1.2), (1.5, 1.8)]
    assert [pytest.approx(each, abs=0.1) for each in expected] == found
    assert [each["text"] for each in document["segments"]] == [
        *("Beep 1.0", "Beep 1.1", "Beep 3.0", "Beep 3.1")
    ]
    # What the first part says of the language is said of the second one.
    assert [each.fields.get("language") for each in endpoint.asked] == [None, "en", "en"]
    assert {each.key for each in endpoint.asked} == {f"Bearer sk-{MARK}"}

    _, text = await made(harness, media, "transcript", origin=SOUND, start=0.5, end=1.4)
    assert text == "Beep 4.0\n"


async def test_the_subtitles_of_a_transcript_are_fetched_with_the_media(
    harness: Harness, origin: Origin, endpoint: TranscriptionStandIn, clip: bytes
) -> None:
    origin.serve("/clip.mp4", Page(clip))
    url = serve_player(origin, {"de": b"WEBVTT\n\n00:00.000 --> 00:01.000\nJa.\n", "en": ROLLING})

    job = await harness.ingest(url, recipes=[make_recipe("transcript", language="de")])

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    children = [await harness.record(child_id) for child_id in job.child_job_ids]
    (transcript,) = [child.media for child in children if child.media.derived_from_media_id]
    assert await harness.download(media_id=transcript.id) == b"Ja.\n"
    assert not endpoint.asked


async def test_a_transcript_of_a_section_is_made_from_its_sound(
    harness: Harness, origin: Origin, endpoint: TranscriptionStandIn, clip: bytes
) -> None:
    origin.serve("/clip.mp4", Page(clip))
    url = serve_player(origin, {"de": b"WEBVTT\n\n00:00.000 --> 00:01.000\nJa.\n"})
    selection = Selection(end_offset=Duration(seconds=1))

    job = await harness.ingest(
        url, selection=selection, recipes=[make_recipe("transcript", language="de")]
    )

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    children = [await harness.record(child_id) for child_id in job.child_job_ids]
    (section,) = [child.media for child in children if not child.media.derived_from_media_id]
    assert section.section.end_offset.ToTimedelta().total_seconds() == pytest.approx(1, abs=0.1)
    assert not section.side_files
    assert endpoint.asked


async def test_a_cancel_ends_the_request_and_leaves_nothing(
    harness: Harness, origin: Origin, endpoint: TranscriptionStandIn, beeps: bytes
) -> None:
    media = (await harness.ingest(origin.serve("/beeps.wav", Page(beeps)))).media
    endpoint.gate = asyncio.Event()
    job = await ask(harness, media, "transcript")
    running = asyncio.create_task(harness.worker.run_job(job.id))
    await until(lambda: endpoint.asked)

    await harness.cancel(job)

    async with asyncio.timeout(TIMEOUT_SECONDS):
        await running
        await endpoint.hung_up.wait()
    assert (await harness.record(job.id)).state == JOB_STATE_CANCELLED
    assert await harness.keys(f"media/{job.media.id}/") == []
    await harness.assert_idle()


async def test_without_an_endpoint_the_recipe_is_refused_with_what_to_set(
    settings: Settings, origin: Origin, clip: bytes
) -> None:
    url = origin.serve("/clip.mp4", Page(clip))
    async with running_harness(settings) as harness:
        with pytest.raises(grpc.aio.AioRpcError) as early:
            await harness.ask(url, recipes=[make_recipe("transcript", origin=SOUND)])
        late = await harness.ingest(url, recipes=[make_recipe("transcript")])
        with pytest.raises(grpc.aio.AioRpcError) as stored:
            await ask(harness, late.media, "transcript")

    for refused in (early, stored):
        assert refusal(refused.value).reason == "TRANSCRIPTION_NOT_CONFIGURED"
        assert "INGOT_TRANSCRIPTION_URL" in refusal(refused.value).message
    assert reason_name_of(late) == "TRANSCRIPTION_NOT_CONFIGURED"
