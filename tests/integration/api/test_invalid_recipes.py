"""A recipe that means nothing is refused by the call, with the name of the field."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from ingot.v1.ingest_service_pb2 import ConvertRequest, IngestRequest
from ingot.v1.job_service_pb2 import ListJobsRequest
from ingot.v1.recipe_pb2 import Recipe
from tests.integration.api.running_api import URL, Api
from tests.recipes import PARAMETERS, make_recipe
from tests.refusals import refused

pytestmark = pytest.mark.any_stores

MP3, IMAGE = Recipe.Mp3(), Recipe.Image()
LONG = Duration(seconds=315_576_000_001)

# Of every format: what is wrong, and the field that is named.
NONSENSE: list[tuple[Recipe, str]] = [
    (Recipe(), "format"),
    (Recipe(start_offset=Duration(seconds=1)), "format"),
    (make_recipe("mp3", bitrate_kbps=0), "mp3.bitrate_kbps"),
    (make_recipe("mp3", bitrate_kbps=100), "mp3.bitrate_kbps"),
    (make_recipe("mp3", bitrate_kbps=384), "mp3.bitrate_kbps"),
    (make_recipe("mp3", bitrate_kbps=320, sample_rate_hz=22050), "mp3.bitrate_kbps"),
    (make_recipe("mp3", bitrate_kbps=16, sample_rate_hz=44100), "mp3.bitrate_kbps"),
    (make_recipe("mp3", quality=-1), "mp3.quality"),
    (make_recipe("mp3", quality=10), "mp3.quality"),
    (make_recipe("mp3", sample_rate_hz=96000), "mp3.sample_rate_hz"),
    (make_recipe("mp3", channels=0), "mp3.channels"),
    (make_recipe("mp3", channels=3), "mp3.channels"),
    (make_recipe("m4a", bitrate_kbps=15), "m4a.bitrate_kbps"),
    (make_recipe("m4a", bitrate_kbps=513), "m4a.bitrate_kbps"),
    (make_recipe("m4a", sample_rate_hz=192000), "m4a.sample_rate_hz"),
    (make_recipe("m4a", channels=0), "m4a.channels"),
    (make_recipe("m4a", channels=3), "m4a.channels"),
    (make_recipe("opus", bitrate_kbps=5), "opus.bitrate_kbps"),
    (make_recipe("opus", bitrate_kbps=511), "opus.bitrate_kbps"),
    (make_recipe("opus", sample_rate_hz=44100), "opus.sample_rate_hz"),
    (make_recipe("opus", channels=0), "opus.channels"),
    (make_recipe("opus", channels=3), "opus.channels"),
    (make_recipe("flac", sample_rate_hz=7999), "flac.sample_rate_hz"),
    (make_recipe("flac", sample_rate_hz=192001), "flac.sample_rate_hz"),
    (make_recipe("flac", channels=0), "flac.channels"),
    (make_recipe("flac", channels=3), "flac.channels"),
    (make_recipe("flac", bits_per_sample=20), "flac.bits_per_sample"),
    (make_recipe("wav", sample_rate_hz=7999), "wav.sample_rate_hz"),
    (make_recipe("wav", sample_rate_hz=192001), "wav.sample_rate_hz"),
    (make_recipe("wav", channels=0), "wav.channels"),
    (make_recipe("wav", channels=3), "wav.channels"),
    (make_recipe("wav", bits_per_sample=32), "wav.bits_per_sample"),
    (make_recipe("mp4", max_height=15), "mp4.max_height"),
    (make_recipe("mp4", max_height=8193), "mp4.max_height"),
    (make_recipe("mp4", quality=-1), "mp4.quality"),
    (make_recipe("mp4", quality=52), "mp4.quality"),
    (make_recipe("mp4", audio_bitrate_kbps=15), "mp4.audio_bitrate_kbps"),
    (make_recipe("mp4", audio_bitrate_kbps=513), "mp4.audio_bitrate_kbps"),
    (make_recipe("mp4", sample_rate_hz=192000), "mp4.sample_rate_hz"),
    (make_recipe("mp4", channels=0), "mp4.channels"),
    (make_recipe("mp4", channels=3), "mp4.channels"),
    (Recipe(image=Recipe.Image(encoding=99)), "image.encoding"),  # type: ignore[arg-type]
    (make_recipe("png", max_height=15), "image.max_height"),
    (make_recipe("jpeg", max_height=8193), "image.max_height"),
    (make_recipe("waveform", points_per_second=0), "waveform.points_per_second"),
    (make_recipe("waveform", points_per_second=1001), "waveform.points_per_second"),
    (make_recipe("storyboard", interval=0.05), "storyboard.interval"),
    (make_recipe("storyboard", interval=3601), "storyboard.interval"),
    (make_recipe("storyboard", width=15), "storyboard.width"),
    (make_recipe("storyboard", width=481), "storyboard.width"),
    (make_recipe("storyboard", columns=0), "storyboard.columns"),
    (make_recipe("storyboard", columns=11), "storyboard.columns"),
    (make_recipe("storyboard", rows=0), "storyboard.rows"),
    (make_recipe("storyboard", rows=11), "storyboard.rows"),
    (make_recipe("transcript", encoding=99), "transcript.encoding"),
    (make_recipe("transcript", origin=99), "transcript.origin"),
    (make_recipe("transcript", language="english"), "transcript.language"),
    *((make_recipe(name, start=2, end=1), "end_offset") for name in PARAMETERS),
    *((make_recipe(name, start=1, end=1), "end_offset") for name in PARAMETERS),
    *((make_recipe(name, start=-1), "start_offset") for name in PARAMETERS),
    *((make_recipe(name, end=-1), "end_offset") for name in PARAMETERS),
    *((make_recipe(name, end=0), "end_offset") for name in PARAMETERS),
    (make_recipe("png", end=1), "end_offset"),
    (make_recipe("jpeg", start=1, end=2), "end_offset"),
    (Recipe(mp3=MP3, start_offset=Duration(nanos=-1)), "start_offset"),
    (Recipe(mp3=MP3, start_offset=Duration(seconds=1, nanos=1 << 30)), "start_offset"),
    (Recipe(image=IMAGE, start_offset=Duration(seconds=1 << 62)), "start_offset"),
    (Recipe(mp3=MP3, end_offset=LONG), "end_offset"),
]


def test_every_parameter_of_every_format_is_in_the_table() -> None:
    parameters = {
        f"{name}.{parameter}"
        for name, parameters in PARAMETERS.items()
        for parameter in parameters
        if parameter != "normalize_loudness"  # true and false both mean something
    }
    assert parameters <= {field for _, field in NONSENSE}


async def test_nonsense_is_refused_by_the_name_of_its_field(api: Api) -> None:
    fine = make_recipe("mp3")
    for recipe, field in NONSENSE:
        for call, at in (
            (api.ingest.Convert(ConvertRequest(url=URL, recipe=recipe)), "recipe"),
            (api.ingest.Ingest(IngestRequest(url=URL, recipes=[recipe])), "recipes[0]"),
            (api.ingest.Ingest(IngestRequest(url=URL, recipes=[fine, recipe])), "recipes[1]"),
        ):
            found = await refused(call)
            assert found.code is grpc.StatusCode.INVALID_ARGUMENT, recipe
            assert found.reason == "INVALID_REQUEST", recipe
            assert found.fields == {f"{at}.{field}"}, recipe
            assert field in found.message, recipe
    assert not (await api.jobs.ListJobs(ListJobsRequest())).jobs
