from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from ingot.v1.job_pb2 import JOB_KIND_INGEST, Job
from ingot.v1.media_pb2 import AudioStream, Media, VideoStream
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure, reason_name
from ingot_server.library.identity import media_id
from ingot_server.library.recipe_formats import RECIPE_FORMATS, FormatKind
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

MP3, M4A, OPUS, FLAC, WAV, MP4, PNG, JPEG, WAVEFORM = (
    Recipe.FORMAT_MP3,
    Recipe.FORMAT_M4A,
    Recipe.FORMAT_OPUS,
    Recipe.FORMAT_FLAC,
    Recipe.FORMAT_WAV,
    Recipe.FORMAT_MP4,
    Recipe.FORMAT_PNG,
    Recipe.FORMAT_JPEG,
    Recipe.FORMAT_WAVEFORM,
)
IDENTIFIER = "k7lafomozm6ssj26p7kqbuplq5d4nb6c2fu6r6mafrgnrmqxgbfq"
ONE, TWO = Duration(seconds=1), Duration(seconds=2)

# What was written, and its canonical form as one line.
SAME: list[tuple[list[Recipe], str]] = [
    (
        [
            Recipe(format=MP3),
            Recipe(format=MP3, bitrate_kbps=192),
            Recipe(format=MP3, start=Duration()),
            Recipe(format=MP3, normalize_loudness=False),
        ],
        "format=MP3;bitrate_kbps=192",
    ),
    ([Recipe(format=MP3, quality=0)], "format=MP3;quality=0"),
    (
        [Recipe(format=MP3, sample_rate_hz=22050)],
        "format=MP3;bitrate_kbps=160;sample_rate_hz=22050",
    ),
    ([Recipe(format=MP3, sample_rate_hz=8000)], "format=MP3;bitrate_kbps=64;sample_rate_hz=8000"),
    ([Recipe(format=M4A), Recipe(format=M4A, bitrate_kbps=160)], "format=M4A;bitrate_kbps=160"),
    ([Recipe(format=OPUS)], "format=OPUS;bitrate_kbps=128"),
    (
        [Recipe(format=FLAC), Recipe(format=FLAC, bits_per_sample=16)],
        "format=FLAC;bits_per_sample=16",
    ),
    ([Recipe(format=WAV, channels=1)], "format=WAV;channels=1;bits_per_sample=16"),
    ([Recipe(format=MP4)], "format=MP4"),
    ([Recipe(format=MP4, quality=23)], "format=MP4;quality=23"),
    (
        [Recipe(format=PNG, start=Duration(seconds=1, nanos=5))],
        "format=PNG;start=1.000000005",
    ),
    ([Recipe(format=JPEG, max_height=90)], "format=JPEG;max_height=90"),
    ([Recipe(format=WAVEFORM)], "format=WAVEFORM;points_per_second=20"),
    (
        [Recipe(format=OPUS, start=ONE, end=TWO, normalize_loudness=True)],
        "format=OPUS;bitrate_kbps=128;start=1.000000000;end=2.000000000;normalize_loudness=1",
    ),
]

# What cannot be made, and the fields that say why.
NONSENSE: list[tuple[Recipe, set[str]]] = [
    (Recipe(), {"format"}),
    (Recipe(format=99), {"format"}),  # type: ignore[arg-type]
    (Recipe(format=WAV, bitrate_kbps=192), {"bitrate_kbps"}),
    (Recipe(format=FLAC, quality=3), {"quality"}),
    (Recipe(format=MP3, bitrate_kbps=100), {"bitrate_kbps"}),
    (Recipe(format=MP3, bitrate_kbps=320, sample_rate_hz=22050), {"bitrate_kbps"}),
    (Recipe(format=MP3, bitrate_kbps=16, sample_rate_hz=44100), {"bitrate_kbps"}),
    (Recipe(format=MP3, quality=10), {"quality"}),
    (Recipe(format=MP3, sample_rate_hz=96000), {"sample_rate_hz"}),
    (Recipe(format=M4A, bitrate_kbps=8), {"bitrate_kbps"}),
    (Recipe(format=M4A, sample_rate_hz=192000), {"sample_rate_hz"}),
    (Recipe(format=OPUS, sample_rate_hz=44100), {"sample_rate_hz"}),
    (Recipe(format=OPUS, bitrate_kbps=511), {"bitrate_kbps"}),
    (Recipe(format=MP4, bitrate_kbps=128), {"bitrate_kbps"}),
    (Recipe(format=MP3, max_height=720, bits_per_sample=16), {"max_height", "bits_per_sample"}),
    (Recipe(format=MP3, points_per_second=20), {"points_per_second"}),
    (Recipe(format=MP3, start=TWO, end=ONE), {"end"}),
    (Recipe(format=MP3, start=ONE, end=ONE), {"end"}),
    (Recipe(format=MP3, start=Duration(seconds=-1)), {"start"}),
    (Recipe(format=MP3, end=Duration(nanos=-1)), {"end"}),
    (Recipe(format=MP3, end=Duration(seconds=315_576_000_001)), {"end"}),
    (Recipe(format=PNG, start=Duration(seconds=1 << 62)), {"start"}),
    (Recipe(format=PNG, end=ONE), {"end"}),
    (Recipe(format=PNG, sample_rate_hz=8000), {"sample_rate_hz"}),
    (Recipe(format=JPEG, normalize_loudness=True), {"normalize_loudness"}),
    (Recipe(format=WAVEFORM, channels=1), {"channels"}),
]


@pytest.mark.parametrize(("written", "text"), SAME)
def test_recipes_that_mean_the_same_are_one(written: list[Recipe], text: str) -> None:
    for recipe in written:
        before = Recipe.FromString(recipe.SerializeToString())
        canonical = canonical_recipe(recipe)
        assert recipe_text(canonical) == text
        assert canonical_recipe(canonical) == canonical
        assert recipe == before


@pytest.mark.parametrize(("recipe", "fields"), NONSENSE)
def test_nonsense_is_refused_by_the_name_of_its_fields(recipe: Recipe, fields: set[str]) -> None:
    with pytest.raises(Failure) as caught:
        canonical_recipe(recipe, at="recipes[2]")
    assert reason_name(caught.value.reason) == "INVALID_REQUEST"
    assert set(caught.value.violations) == {f"recipes[2].{field}" for field in fields}
    assert all(field in caught.value.message for field in fields)


def test_every_format_has_a_row() -> None:
    assert set(RECIPE_FORMATS) == set(Recipe.Format.values()) - {Recipe.FORMAT_UNSPECIFIED}
    known = set(Recipe.DESCRIPTOR.fields_by_name)
    for row in RECIPE_FORMATS.values():
        assert row.fields <= known
        assert set(row.defaults) <= row.fields
        assert bool(row.image_encoder) == (row.kind is FormatKind.IMAGE)
        assert bool(row.audio_codec) == (row.kind in {FormatKind.AUDIO, FormatKind.VIDEO})
    assert len({row.extension for row in RECIPE_FORMATS.values()}) == len(RECIPE_FORMATS)


def test_ids_stay_what_they_are() -> None:
    # Stored media have these names: a change here orphans them.
    recipe = canonical_recipe(Recipe(format=MP3))
    assert derived_id("a" * 52, recipe) == IDENTIFIER
    assert derived_id("b" * 52, recipe) != IDENTIFIER
    assert len(IDENTIFIER) == 52
    assert media_id("format=MP3;bitrate_kbps=192", Media().selection) != IDENTIFIER


def test_a_list_is_canonical_in_its_order_and_has_each_once() -> None:
    recipes = canonical_recipes(
        [Recipe(format=WAV), Recipe(format=MP3), Recipe(format=MP3, bitrate_kbps=192)]
    )
    assert [recipe.format for recipe in recipes] == [WAV, MP3]
    ids = {workflow_id("a" * 52, recipes, kind=kind) for kind in ("ingest", "convert")}
    assert len({*ids, derived_id("a" * 52, recipes[0])}) == 3


def test_only_a_job_that_waits_for_a_conversion_has_its_own_single_flight_key() -> None:
    source = Media(id="a" * 52)
    mp3 = canonical_recipe(Recipe(format=MP3))
    parts = Job(kind=JOB_KIND_INGEST, media=source, recipes=[mp3])
    listed = Job(media=source, recipes=[mp3], kind=JOB_KIND_INGEST, list_title="A list")
    assert single_flight_key(parts) == single_flight_key(listed) != ""
    assert single_flight_key(parts) not in {source.id, derived_id(source.id, mp3)}
    assert not single_flight_key(Job(kind=JOB_KIND_INGEST, media=source))
    assert not single_flight_key(Job(media=derived_media(source, mp3), recipes=[mp3]))


@pytest.mark.parametrize(
    ("recipe", "rates"),
    [
        (Recipe(format=MP3, bitrate_kbps=192), (32000, 44100, 48000)),
        (Recipe(format=MP3, bitrate_kbps=144), (16000, 22050, 24000)),
        (Recipe(format=MP3, bitrate_kbps=8), (8000, 11025, 12000, 16000, 22050, 24000)),
        (Recipe(format=MP3, bitrate_kbps=64), RECIPE_FORMATS[MP3].sample_rates_hz),
        (Recipe(format=MP3, quality=2), RECIPE_FORMATS[MP3].sample_rates_hz),
        (Recipe(format=OPUS, bitrate_kbps=510), RECIPE_FORMATS[OPUS].sample_rates_hz),
    ],
)
def test_a_bit_rate_leaves_some_sample_rates(recipe: Recipe, rates: tuple[int, ...]) -> None:
    assert sample_rates(recipe) == rates


def test_what_the_media_has_not_is_refused() -> None:
    sound = Media(audio=[AudioStream()], duration=TWO)
    silent = Media(video=[VideoStream()], duration=TWO)
    both = Media(audio=[AudioStream()], video=[VideoStream()], duration=TWO)
    refused = [
        (Recipe(format=MP4), sound, "format"),
        (Recipe(format=PNG), sound, "format"),
        (Recipe(format=MP3), silent, "format"),
        (Recipe(format=WAVEFORM), silent, "format"),
        (Recipe(format=MP3, start=TWO), both, "start"),
        (Recipe(format=MP4, normalize_loudness=True), silent, "normalize_loudness"),
    ]
    for recipe, media, field in refused:
        with pytest.raises(Failure) as caught:
            check_applicable(recipe, media)
        assert set(caught.value.violations) == {f"recipe.{field}"}
    for recipe in (Recipe(format=MP3, end=Duration(seconds=9)), Recipe(format=MP4, start=ONE)):
        check_applicable(recipe, both)
    check_applicable(Recipe(format=MP4), silent)
