"""Every field of a recipe has an option of the command line."""

from __future__ import annotations

import argparse
from datetime import timedelta

import pytest
from google.protobuf.text_format import Parse

from ingot import InvalidRequest, Recipe, args_to_request, render
from ingot.arguments import build_parser
from ingot.recipe_options import FORMATS, OPTIONS, add_recipe_options, parse_position, parse_recipe
from tests.recipes import PARAMETERS


def convert(*arguments: str) -> Recipe:
    return args_to_request.recipe(build_parser().parse_args(["convert", "URL", *arguments]))


def test_every_field_and_format_of_the_contract_has_an_option() -> None:
    parser = argparse.ArgumentParser()
    add_recipe_options(parser)

    parameters = {name for names in PARAMETERS.values() for name in names}
    assert set(OPTIONS) == parameters - {"encoding"} | {"format", "start_offset", "end_offset"}
    assert set(OPTIONS.values()) <= {
        name for each in parser._actions for name in each.option_strings
    }
    encodings = [name.removeprefix("ENCODING_").lower() for name in Recipe.Image.Encoding.keys()]
    by_field = {"image": encodings[1:], "transcript": ["transcript", "transcript-json"]}
    assert list(FORMATS) == [name for field in PARAMETERS for name in by_field.get(field, [field])]


@pytest.mark.parametrize(
    ("arguments", "recipe"),
    [
        ("--format mp3", "mp3 {}"),
        ("--format mp3 --quality 0", "mp3 { quality: 0 }"),
        (
            "--format mp3 --bitrate 128 --start 1:30 --end 2m",
            "mp3 { bitrate_kbps: 128 } start_offset { seconds: 90 } end_offset { seconds: 120 }",
        ),
        (
            "--format flac --sample-rate 8000 --channels 1 --bits-per-sample 24",
            "flac { sample_rate_hz: 8000 channels: 1 bits_per_sample: 24 }",
        ),
        (
            "--format mp4 --max-height 360 --audio-bitrate 96 --normalize-loudness",
            "mp4 { max_height: 360 audio_bitrate_kbps: 96 normalize_loudness: true }",
        ),
        (
            "--format waveform --points-per-second 5",
            "waveform { points_per_second: 5 }",
        ),
        (
            "--format storyboard --interval 2.5 --width 320 --columns 5 --rows 4",
            "storyboard { interval { seconds: 2 nanos: 500000000 } width: 320 columns: 5 rows: 4 }",
        ),
        ("--format transcript", "transcript { encoding: ENCODING_TEXT }"),
        (
            "--format transcript-json --language pt-BR --origin sound",
            "transcript { encoding: ENCODING_JSON language: 'pt-BR' origin: ORIGIN_SOUND }",
        ),
        ("--format png --start 0", "image { encoding: ENCODING_PNG } start_offset {}"),
        ("--format jpeg --max-height 90", "image { encoding: ENCODING_JPEG max_height: 90 }"),
    ],
)
def test_the_long_and_the_short_form_of_options_make_the_same_recipe(
    arguments: str, recipe: str
) -> None:
    expected = Parse(recipe, Recipe())
    name, value, *rest = arguments.split()
    assert name == "--format"
    short = [value]
    for word in rest:
        if word.startswith("--"):
            short.append(word.removeprefix("--"))
        else:
            short[-1] += f"={word}"

    assert convert(*arguments.split()) == expected
    assert args_to_request.recipe(parse_recipe(",".join(short))) == expected


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("0", 0), ("12.5", 12.5), ("1:30", 90), ("1:02:03.25", 3723.25), ("90s", 90), ("1.5h", 5400)],
)
def test_a_position_is_written_as_a_clock_or_as_a_duration(written: str, seconds: float) -> None:
    assert parse_position(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize("written", ["", "-1", "1:", ":30", "soon", "1:2:3:4", "1e9", "10 s"])
def test_text_that_is_not_a_position_is_refused(written: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_position(written)


@pytest.mark.parametrize(
    "written",
    ["", "ogg", "mp3,bitrate", "mp3,bit=3", "mp3,quality=1,bitrate=64", "mp3,,", "mp3,start=x"],
)
def test_text_that_is_not_a_recipe_is_refused(written: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_recipe(written)


def test_a_recipe_is_shown_on_one_line() -> None:
    recipe = convert(
        *["--format", "wav", "--start", "1:30", "--channels", "1", "--normalize-loudness"]
    )

    assert render.recipe(recipe) == "wav, channels 1, normalize loudness, start 1:30"
    recipe = convert("--format", "transcript-json", "--language", "de", "--origin", "subtitles")
    assert render.recipe(recipe) == "transcript-json, language de, origin subtitles"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["convert", "URL", "--format", "wav", "--bitrate", "64"],
            "--bitrate does not apply to wav",
        ),
        (
            ["convert", "URL", "--format", "mp4", "--bitrate", "64"],
            "--bitrate does not apply to mp4",
        ),
        (
            ["convert", "URL", "--format", "png", "--normalize-loudness"],
            "--normalize-loudness does not apply to png",
        ),
        (
            ["ingest", "URL", "--recipe", "mp3", "--recipe", "wav,bitrate=64"],
            "bitrate of --recipe wav,bitrate=64 does not apply to wav",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_option_that_the_format_does_not_have_is_wrong_usage(
    arguments: list[str], message: str
) -> None:
    options = build_parser().parse_args(arguments)
    build = args_to_request.ingest if options.command == "ingest" else args_to_request.recipe
    with pytest.raises(InvalidRequest) as refused:
        build(options)
    args_to_request.name_options(refused.value, options)
    assert refused.value.message == f"{message}."
