"""Waveforms: what BBC's audiowaveform and the players that draw its data expect."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import pytest

from ingot_server.config import Settings
from ingot_server.library.recipes import canonical_recipe
from ingot_server.probe.prober import Prober
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.plan import plan_conversion
from ingot_server.transcode.tags import Tags
from ingot_server.transcode.transcoder import Transcoder
from ingot_server.transcode.waveform import Waveform
from tests.media import media
from tests.recipes import make_recipe


@pytest.fixture
async def tools() -> AsyncIterator[tuple[Ffmpeg, Prober]]:
    settings = Settings()
    prober = Prober(settings)
    prober.start()
    yield Ffmpeg(settings), prober
    await prober.close()


def test_points_do_not_depend_on_how_the_samples_come() -> None:
    samples = bytes((128, 0, 255, 130, 126, 128, 200, 100, 128, 129, 128))
    expected = {
        "version": 2,
        "channels": 1,
        "sample_rate": 8,
        "samples_per_pixel": 4,
        "bits": 8,
        "length": 3,
        "data": [-128, 127, -28, 72, 0, 1],
    }
    for size in (1, 3, 4, 5, 11):
        drawn = Waveform(sample_rate_hz=8, points_per_second=2)
        for begin in range(0, len(samples), size):
            drawn.add(samples[begin : begin + size])
        assert json.loads(drawn.dumps()) == expected
        assert drawn.seconds == pytest.approx(11 / 8)


async def test_it_shows_where_sound_is(tools: tuple[Ffmpeg, Prober], tmp_path: Path) -> None:
    ffmpeg, prober = tools
    path = tmp_path / "half.wav"
    tone = "aevalsrc='if(lt(t,1),0,0.5*sin(440*2*PI*t))':duration=2:sample_rate=48000"
    await ffmpeg.run_command(["-f", "lavfi", "-i", tone, str(path)], output=path)
    recipe = canonical_recipe(make_recipe("waveform", points_per_second=10))
    plan = plan_conversion(recipe, await prober.probe(path))
    made = await Transcoder(ffmpeg, prober).transcode(plan, path, tmp_path, Tags())
    drawn = json.loads(made.path.read_bytes())
    assert (drawn["sample_rate"], drawn["samples_per_pixel"], drawn["length"]) == (48000, 4800, 20)
    assert drawn["data"][:20] == [0] * 20
    assert all(value == pytest.approx(-64, abs=1) for value in drawn["data"][20::2])
    assert all(value == pytest.approx(63, abs=1) for value in drawn["data"][21::2])
    assert made.media.blob.content_type == "application/json"
    assert not made.media.duration.ToMicroseconds()


async def test_a_part_and_a_reader_do(tools: tuple[Ffmpeg, Prober], tmp_path: Path) -> None:
    ffmpeg, prober = tools
    found = await prober.probe(media("faststart.mp4"))
    recipe = make_recipe("waveform", start=1)
    sources: list[tuple[Path | BinaryIO, int]] = [
        (media("faststart.mp4"), 20),
        (media("faststart.mp4").open("rb"), 40),
    ]
    for number, (source, length) in enumerate(sources):
        directory = tmp_path / str(number)
        directory.mkdir()
        plan = plan_conversion(canonical_recipe(recipe), found)
        made = await Transcoder(ffmpeg, prober).transcode(plan, source, directory, Tags())
        assert json.loads(made.path.read_bytes())["length"] == length
        recipe.ClearField("start_offset")
