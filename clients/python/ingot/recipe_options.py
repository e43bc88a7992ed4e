"""The options of the command line for a recipe, one for each parameter of a format.

This module refuses only what is wrong in the text itself. The contract says which parameters each
format has, and the server what each media item allows. The contract is not loaded here, so that
`--help` is fast.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, NoReturn

FORMATS: Final = (
    "mp3",
    "m4a",
    "opus",
    "flac",
    "wav",
    "mp4",
    "jpeg",
    "png",
    "waveform",
    "storyboard",
    "transcript",
    "transcript-json",
)
"""The formats; `jpeg` and `png` are the encodings of an image, the last two of a transcript."""

OPTIONS: Final[Mapping[str, str]] = {
    "format": "--format",
    "start_offset": "--start",
    "end_offset": "--end",
    "bitrate_kbps": "--bitrate",
    "audio_bitrate_kbps": "--audio-bitrate",
    "quality": "--quality",
    "sample_rate_hz": "--sample-rate",
    "channels": "--channels",
    "normalize_loudness": "--normalize-loudness",
    "max_height": "--max-height",
    "bits_per_sample": "--bits-per-sample",
    "points_per_second": "--points-per-second",
    "interval": "--interval",
    "width": "--width",
    "columns": "--columns",
    "rows": "--rows",
    "language": "--language",
    "origin": "--origin",
}
"""The option for each field. A Namespace has the option's value under the name of the field."""

_CLOCK: Final = re.compile(r"(?:(?:(\d{1,5}):)?(\d{1,5}):)?(\d{1,9}(?:\.\d{1,6})?)")
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d+)?)([smhd]?)")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class _RecipeParser(argparse.ArgumentParser):
    """The parser of one `--recipe`; its errors become errors of that option."""

    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentTypeError(message)


def add_audio_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that apply to an MP3."""
    rate = parser.add_mutually_exclusive_group()
    _add(rate, "bitrate_kbps", parse_integer, "KBPS", "bit rate of an audio file in kbit/s")
    _add(rate, "quality", parse_integer, "NUMBER", "constant quality, variable bit rate; 0 is best")
    _add(parser, "start_offset", parse_position, "TIME", "where to start, such as 1:30 or 90s")
    _add(parser, "end_offset", parse_position, "TIME", "where to end, such as 2:00 or 120s")
    _add(parser, "sample_rate_hz", parse_integer, "HZ", "audio samples per second")
    parser.add_argument(
        OPTIONS["channels"], type=int, choices=(1, 2), help="1 for mono, 2 for stereo"
    )
    parser.add_argument(
        OPTIONS["normalize_loudness"], action="store_true", help="normalize to -16 LUFS (EBU R 128)"
    )


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for all fields of a recipe."""
    parser.add_argument(
        OPTIONS["format"], choices=FORMATS, required=True, help="format to convert to"
    )
    add_audio_options(parser)
    _add(parser, "audio_bitrate_kbps", parse_integer, "KBPS", "bit rate of the audio of an mp4")
    _add(parser, "max_height", parse_integer, "PIXELS", "maximum height of the video or image")
    parser.add_argument(
        OPTIONS["bits_per_sample"], type=int, choices=(16, 24), help="for wav and flac"
    )
    _add(parser, "points_per_second", parse_integer, "NUMBER", "for waveform")
    _add(parser, "interval", parse_duration, "TIME", "time between the pictures of a storyboard")
    _add(parser, "width", parse_integer, "PIXELS", "width of a picture of a storyboard")
    _add(parser, "columns", parse_integer, "NUMBER", "pictures in a row of a storyboard")
    _add(parser, "rows", parse_integer, "NUMBER", "rows of a sheet of a storyboard")
    _add(parser, "language", str, "TAG", "language of a transcript, such as en (BCP 47)")
    parser.add_argument(
        OPTIONS["origin"],
        choices=("subtitles", "sound"),
        help="what a transcript is made from; by default subtitles, else the sound",
    )


def parse_recipe(text: str) -> argparse.Namespace:
    """Parse a recipe in its short form, such as `mp3,bitrate=128,start=1:30`.

    The Namespace keeps `text` itself, for messages. Raises ArgumentTypeError.
    """
    parser = _RecipeParser(add_help=False, allow_abbrev=False)
    add_recipe_options(parser)
    format_name, *options = text.split(",")
    if not all(options):
        raise argparse.ArgumentTypeError(f"{text!r} is not FORMAT[,OPTION=VALUE...]")
    recipe = parser.parse_args([f"--format={format_name}", *(f"--{option}" for option in options)])
    recipe.text = text
    return recipe


def parse_integer(text: str) -> int:
    """Parse an integer that fits into a message. Raises ArgumentTypeError."""
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer")
    return int(text)


def parse_duration(text: str) -> timedelta:
    """Parse a duration: `30s`, `5m`, `1h`, `7d`, or seconds if it has no unit.

    Raises ArgumentTypeError.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 30s, 5m, 1h or 7d")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2] or "s"])


def parse_position(text: str) -> timedelta:
    """Parse a position in a media item: `1:02:03.5`, `1:30`, or a duration from its start.

    Raises ArgumentTypeError.
    """
    match = _CLOCK.fullmatch(text)
    if match is not None:
        hours, minutes, seconds = match.groups(default="0")
        return timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds))
    if _DURATION.fullmatch(text):
        return parse_duration(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a position such as 1:02:03, 1:30 or 90s")


def _add(
    parser: argparse._ActionsContainer,
    field: str,
    parse: Callable[[str], object],
    metavar: str,
    description: str,
) -> None:
    parser.add_argument(OPTIONS[field], dest=field, type=parse, metavar=metavar, help=description)
