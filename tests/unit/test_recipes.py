from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict

from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.job_pb2 import JOB_KIND_CONVERT, JOB_KIND_INGEST, JOB_KIND_INGEST_AND_CONVERT, Job
from ingot.v1.media_pb2 import AudioStream, Media, VideoStream
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.api.status import check
from ingot_server.errors import Failure
from ingot_server.library.identity import media_id
from ingot_server.library.recipe_formats import (
    RECIPE_FORMATS,
    FormatKind,
    format_name,
    parameters_of,
)
from ingot_server.library.recipes import (
    canonical_recipe,
    canonical_recipes,
    check_applicable,
    derived_id,
    derived_media,
    recipe_text,
    sample_rates,
    single_flight_key,
    workflow_id,
)
from tests.recipes import PARAMETERS, make_recipe

IDENTIFIER = "k7lafomozm6ssj26p7kqbuplq5d4nb6c2fu6r6mafrgnrmqxgbfq"

SOUND = Recipe.Transcript.ORIGIN_SOUND
# What was written, and its canonical form as one line.
SAME: list[tuple[list[Recipe], str]] = [
    (
        [
            make_recipe("mp3"),
            make_recipe("mp3", bitrate_kbps=192),
            make_recipe("mp3", start=0),
            make_recipe("mp3", normalize_loudness=False),
        ],
        "format=MP3;bitrate_kbps=192",
    ),
    ([make_recipe("mp3", quality=0)], "format=MP3;quality=0"),
    (
        [make_recipe("mp3", sample_rate_hz=22050)],
        "format=MP3;bitrate_kbps=160;sample_rate_hz=22050",
    ),
    ([make_recipe("mp3", sample_rate_hz=8000)], "format=MP3;bitrate_kbps=64;sample_rate_hz=8000"),
    ([make_recipe("m4a"), make_recipe("m4a", bitrate_kbps=160)], "format=M4A;bitrate_kbps=160"),
    ([make_recipe("opus")], "format=OPUS;bitrate_kbps=128"),
    (
        [make_recipe("flac"), make_recipe("flac", bits_per_sample=16)],
        "format=FLAC;bits_per_sample=16",
    ),
    ([make_recipe("wav", channels=1)], "format=WAV;channels=1;bits_per_sample=16"),
    ([make_recipe("mp4")], "format=MP4"),
    ([make_recipe("mp4", quality=23)], "format=MP4;quality=23"),
    ([make_recipe("mp4", audio_bitrate_kbps=96)], "format=MP4;audio_bitrate_kbps=96"),
    (
        [
            Recipe(
                image=Recipe.Image(encoding=Recipe.Image.ENCODING_PNG),
                start_offset=Duration(seconds=1, nanos=5),
            )
        ],
        "format=PNG;start_offset=1.000000005",
    ),
    (
        [make_recipe("jpeg", max_height=90), Recipe(image=Recipe.Image(max_height=90))],
        "format=JPEG;max_height=90",
    ),
    (
        [make_recipe("storyboard"), make_recipe("storyboard", width=160, rows=10)],
        "format=STORYBOARD;width=160;columns=10;rows=10",
    ),
    (
        [make_recipe("storyboard", interval=2.5, columns=5)],
        "format=STORYBOARD;interval=2.500000000;width=160;columns=5;rows=10",
    ),
    ([make_recipe("waveform")], "format=WAVEFORM;points_per_second=20"),
    (
        [
            make_recipe("transcript"),
            make_recipe("transcript", encoding=Recipe.Transcript.ENCODING_TEXT),
        ],
        "format=TRANSCRIPT",
    ),
    (
        [
            make_recipe("transcript_json", language="pt-br", origin=SOUND, end=2),
            make_recipe("transcript_json", language="por-BR", origin=SOUND, end=2),
        ],
        "format=TRANSCRIPT_JSON;language=pt-BR;origin=2;end_offset=2.000000000",
    ),
    (
        [make_recipe("opus", start=1, end=2)],
        "format=OPUS;bitrate_kbps=128;start_offset=1.000000000;end_offset=2.000000000",
    ),
    (
        [make_recipe("flac", normalize_loudness=True)],
        "format=FLAC;bits_per_sample=16;normalize_loudness=1",
    ),
]


@pytest.mark.parametrize(("written", "text"), SAME)
def test_recipes_that_mean_the_same_are_one(written: list[Recipe], text: str) -> None:
    for recipe in written:
        before = Recipe.FromString(recipe.SerializeToString())
        canonical = canonical_recipe(recipe)
        assert recipe_text(canonical) == text
        assert canonical_recipe(canonical) == canonical
        assert recipe == before


def test_an_empty_mp3_is_one_of_192_kbit_s() -> None:
    assert canonical_recipe(ParseDict({"mp3": {}}, Recipe())).mp3.bitrate_kbps == 192


def test_every_format_has_a_row() -> None:
    encodings = {name.removeprefix("ENCODING_") for name in Recipe.Image.Encoding.keys()}
    names = set(PARAMETERS) - {"image"} | {"transcript_json"}
    assert set(RECIPE_FORMATS) == names | {name.lower() for name in encodings - {"UNSPECIFIED"}}
    for name, row in RECIPE_FORMATS.items():
        assert set(row.defaults) <= set(parameters_of(make_recipe(name)).DESCRIPTOR.fields_by_name)
        assert bool(row.image_encoder) == (row.kind is FormatKind.IMAGE)
        assert bool(row.audio_codec) == (row.kind in {FormatKind.AUDIO, FormatKind.VIDEO})
    files = {(row.kind, row.extension) for row in RECIPE_FORMATS.values()}
    assert len(files) == len(RECIPE_FORMATS)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (name, field)
        for name in RECIPE_FORMATS
        for field in ("bitrate_kbps", "audio_bitrate_kbps", "sample_rate_hz")
        if field in parameters_of(make_recipe(name)).DESCRIPTOR.fields_by_name
    ],
)
def test_the_contract_allows_the_rates_that_a_format_has(name: str, field: str) -> None:
    row = RECIPE_FORMATS[name]
    rates = row.sample_rates_hz if field == "sample_rate_hz" else row.bitrates_kbps()
    edges = {rates[0], rates[-1]} if isinstance(rates, range) else set(rates)
    for rate in {near for edge in edges for near in (edge - 1, edge, edge + 1)}:
        request = ConvertRequest(media_id="a", recipe=make_recipe(name, **{field: rate}))
        if rate in rates:
            check(request)
        else:
            with pytest.raises(Failure):
                check(request)


def test_ids_stay_what_they_are() -> None:
    # Stored media have these names: a change here orphans them.
    recipe = canonical_recipe(make_recipe("mp3"))
    assert derived_id("a" * 52, recipe) == IDENTIFIER
    assert derived_id("b" * 52, recipe) != IDENTIFIER
    assert len(IDENTIFIER) == 52
    assert media_id("format=MP3;bitrate_kbps=192", Media().selection) != IDENTIFIER


def test_a_list_is_canonical_in_its_order_and_has_each_once() -> None:
    recipes = canonical_recipes(
        [make_recipe("wav"), make_recipe("mp3"), make_recipe("mp3", bitrate_kbps=192)]
    )
    assert [format_name(recipe) for recipe in recipes] == ["wav", "mp3"]
    ids = {workflow_id("a" * 52, recipes, kind=kind) for kind in ("ingest", "convert")}
    assert len({*ids, derived_id("a" * 52, recipes[0])}) == 3


def test_only_a_job_that_waits_for_a_conversion_has_its_own_single_flight_key() -> None:
    source = Media(id="a" * 52)
    mp3 = canonical_recipe(make_recipe("mp3"))
    parts = Job(kind=JOB_KIND_INGEST_AND_CONVERT, media=source, recipes=[mp3])
    listed = Job(media=source, recipes=[mp3], kind=JOB_KIND_INGEST_AND_CONVERT, list_title="A list")
    assert single_flight_key(parts) == single_flight_key(listed) != ""
    assert single_flight_key(parts) not in {source.id, derived_id(source.id, mp3)}
    assert not single_flight_key(Job(kind=JOB_KIND_INGEST, media=source))
    made = derived_media(source, mp3)
    assert not single_flight_key(Job(kind=JOB_KIND_CONVERT, media=made, recipes=[mp3]))
    of_url = Job(kind=JOB_KIND_INGEST_AND_CONVERT, media=made, recipes=[mp3])
    assert single_flight_key(of_url) not in {made.id, single_flight_key(parts), ""}


@pytest.mark.parametrize(
    ("recipe", "rates"),
    [
        (make_recipe("mp3", bitrate_kbps=192), (32000, 44100, 48000)),
        (make_recipe("mp3", bitrate_kbps=144), (16000, 22050, 24000)),
        (make_recipe("mp3", bitrate_kbps=8), (8000, 11025, 12000, 16000, 22050, 24000)),
        (make_recipe("mp3", bitrate_kbps=64), RECIPE_FORMATS["mp3"].sample_rates_hz),
        (make_recipe("mp3", quality=2), RECIPE_FORMATS["mp3"].sample_rates_hz),
        (make_recipe("opus", bitrate_kbps=510), RECIPE_FORMATS["opus"].sample_rates_hz),
    ],
)
def test_a_bit_rate_leaves_some_sample_rates(recipe: Recipe, rates: tuple[int, ...]) -> None:
    assert sample_rates(recipe) == rates


def test_what_the_media_has_not_is_refused() -> None:
    sound = Media(audio=[AudioStream()], duration=Duration(seconds=2))
    silent = Media(video=[VideoStream()], duration=Duration(seconds=2))
    both = Media(audio=[AudioStream()], video=[VideoStream()], duration=Duration(seconds=2))
    refused = [
        (make_recipe("mp4"), sound, "mp4"),
        (make_recipe("png"), sound, "image"),
        (make_recipe("storyboard"), sound, "storyboard"),
        (make_recipe("mp3"), silent, "mp3"),
        (make_recipe("waveform"), silent, "waveform"),
        (make_recipe("mp3", start=2), both, "start_offset"),
        (make_recipe("mp4", normalize_loudness=True), silent, "mp4.normalize_loudness"),
    ]
    for recipe, media, field in refused:
        with pytest.raises(Failure) as caught:
            check_applicable(recipe, media)
        assert set(caught.value.violations) == {f"recipe.{field}"}
    for recipe in (make_recipe("mp3", end=9), make_recipe("mp4", start=1)):
        check_applicable(recipe, both)
    check_applicable(make_recipe("mp4"), silent)
