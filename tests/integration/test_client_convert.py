"""Conversions by the client, with the server and the workers of production."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import ingot
from ingot import Client, JobStage, JobState, Media
from ingot_server.config import Settings
from tests.media import media
from tests.origin import Origin, Page, running_origin
from tests.recipes import make_recipe
from tests.running_service import running_service

pytestmark = pytest.mark.any_stores

MP3 = make_recipe("mp3")
WAV = make_recipe("wav", sample_rate_hz=16000, channels=1)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with running_service(settings) as target, Client(target) as client:
        yield client


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as running:
        yield running


def serve(origin: Origin, name: str = "plain.mp4") -> str:
    return origin.serve(f"/{name}", Page(media(name).read_bytes()))


async def stored(client: Client, origin: Origin, name: str = "plain.mp4") -> Media:
    return await (await client.ingest_video(serve(origin, name)))


async def test_a_media_item_is_converted_by_its_id_its_url_and_its_internal_address(
    client: Client, origin: Origin, tmp_path: Path
) -> None:
    source = await stored(client, origin)

    job = await client.convert(source.id, MP3, labels={"team": "news"})
    made = await job

    assert (made.derived_from_media_id, made.recipe.mp3.bitrate_kbps) == (source.id, 192)
    assert made.blob.content_type == "audio/mpeg"
    assert made.labels == {"team": "news"}
    for name in (source.url, source.blob.url):
        again = await client.convert(name, MP3)
        assert again.latest.cached
        assert await again == made
    await client.download(made.id, tmp_path / "song.mp3")
    assert (tmp_path / "song.mp3").stat().st_size == made.blob.size_bytes


async def test_a_url_that_is_not_stored_is_ingested_and_converted(
    client: Client, origin: Origin
) -> None:
    job = await client.convert(serve(origin), WAV)
    fractions = [update.progress.fraction async for update in job]
    made = await job

    assert fractions == sorted(fractions)
    assert (made.audio[0].sample_rate_hz, made.audio[0].channels) == (16000, 1)
    assert (await client.media(made.derived_from_media_id)).url == made.url


async def test_the_job_shows_the_progress_of_its_ingest(client: Client, origin: Origin) -> None:
    content = media("plain.mp4").read_bytes()
    gate = asyncio.Event()
    job = await client.convert(origin.serve("/held.mp4", Page(content, gate=gate)), MP3)

    seen = []
    async for update in job:
        seen.append(update)
        if update.stage == JobStage.JOB_STAGE_DOWNLOADING:
            gate.set()

    assert gate.is_set()
    stages = [update.stage for update in seen]
    assert stages.index(JobStage.JOB_STAGE_DOWNLOADING) < stages.index(
        JobStage.JOB_STAGE_CONVERTING
    )
    fractions = [update.progress.fraction for update in seen]
    assert fractions == sorted(fractions)
    assert (await job).blob.content_type == "audio/mpeg"


async def test_an_ingest_with_recipes_has_their_results(client: Client, origin: Origin) -> None:
    still = make_recipe("jpeg", start=1, max_height=60)
    job = await client.ingest_video(serve(origin), recipes=[MP3, still, MP3])
    assert not job.conversions
    source = await job

    assert source.blob.content_type == "video/mp4"
    assert [made.blob.content_type for made in job.conversions] == ["audio/mpeg", "image/jpeg"]
    assert {made.derived_from_media_id for made in job.conversions} == {source.id}


async def test_a_recipe_that_is_not_valid_is_refused_with_its_field(
    client: Client, origin: Origin
) -> None:
    invalid = make_recipe("wav", sample_rate_hz=1)

    with pytest.raises(ingot.InvalidRequest) as refused:
        await client.convert(serve(origin), invalid)
    assert set(refused.value.violations) == {"recipe.wav.sample_rate_hz"}
    with pytest.raises(ingot.InvalidRequest) as refused:
        await client.validate(serve(origin), recipes=[MP3, invalid])
    assert set(refused.value.violations) == {"recipes[1].wav.sample_rate_hz"}
    with pytest.raises(ingot.MediaNotFound):
        await client.convert("a" * 52, MP3)


async def test_a_recipe_that_does_not_fit_the_media_is_refused_by_the_call_or_the_job(
    client: Client, origin: Origin
) -> None:
    picture = make_recipe("png")

    job = await client.convert(serve(origin, "sound.wav"), picture)
    with pytest.raises(ingot.InvalidRequest) as refused:
        await job
    assert set(refused.value.violations) == {"recipe.image"}
    assert job.latest.state == JobState.JOB_STATE_FAILED
    with pytest.raises(ingot.InvalidRequest):
        await client.convert(serve(origin, "sound.wav"), picture)
