"""The options of the command line that make a recipe, one for each field of ingot.v1.Recipe.

Only what the line itself tells is refused here; what a format and a media can do, the server knows.
Nothing of the contract is loaded, for `--help` needs none of it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, NoReturn

FORMATS: Final = ("mp3", "m4a", "opus", "flac", "wav", "mp4", "png", "jpeg", "waveform")

OPTIONS: Final[Mapping[str, str]] = {
    "format": "--format",
    "bitrate_kbps": "--bitrate",
    "quality": "--quality",
    "start": "--start",
    "end": "--end",
    "sample_rate_hz": "--sample-rate",
    "channels": "--channels",
    "max_height": "--max-height",
    "normalize_loudness": "--normalize-loudness",
    "bits_per_sample": "--bits-per-sample",
    "points_per_second": "--points-per-second",
}
"""The option for each field. A Namespace has what was given under the field's name."""

_CLOCK: Final = re.compile(r"(?:(?:(\d{1,5}):)?(\d{1,5}):)?(\d{1,9}(?:\.\d{1,6})?)")
_LENGTH: Final = re.compile(r"(\d{1,9}(?:\.\d+)?)([smhd]?)")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class _Strict(argparse.ArgumentParser):
    """Reads one `--recipe`; what is wrong with it is said of that option."""

    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentTypeError(message)


def add_sound(parser: argparse.ArgumentParser) -> None:
    """Adds the options that an MP3 knows."""
    rate = parser.add_mutually_exclusive_group()
    _add(rate, "bitrate_kbps", number, "KBPS", "constant bit rate of the sound in kbit/s")
    _add(rate, "quality", number, "NUMBER", "constant quality instead: 0 is best")
    _add(parser, "start", moment, "TIME", "where it begins in the media, such as 1:30 or 90s")
    _add(parser, "end", moment, "TIME", "where it ends in the media")
    _add(parser, "sample_rate_hz", number, "HZ", "samples a second")
    parser.add_argument(
        OPTIONS["channels"], type=int, choices=(1, 2), help="1 is mono, 2 is stereo"
    )
    parser.add_argument(
        OPTIONS["normalize_loudness"], action="store_true", help="bring the loudness to -16 LUFS"
    )


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Adds the options for all fields."""
    parser.add_argument(OPTIONS["format"], choices=FORMATS, required=True, help="what to make")
    add_sound(parser)
    _add(parser, "max_height", number, "PIXELS", "picture no higher than this")
    parser.add_argument(
        OPTIONS["bits_per_sample"], type=int, choices=(16, 24), help="of WAV and FLAC"
    )
    _add(parser, "points_per_second", number, "NUMBER", "of a waveform")


def short_recipe(text: str) -> argparse.Namespace:
    """A recipe in one word, which its `text` keeps, such as `mp3,bitrate=128,start=1:30`."""
    parser = _Strict(add_help=False, allow_abbrev=False)
    add_recipe(parser)
    kind, *options = text.split(",")
    if not all(options):
        raise argparse.ArgumentTypeError(f"{text!r} is not FORMAT[,OPTION=VALUE...]")
    recipe = parser.parse_args([f"--format={kind}", *(f"--{option}" for option in options)])
    recipe.text = text
    return recipe


def number(text: str) -> int:
    """A whole number that a message can hold."""
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def length(text: str) -> timedelta:
    """A length of time, such as `30s`, `5m`, `1h`, `7d`; without a unit in seconds."""
    match = _LENGTH.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time such as 30s, 5m, 1h, 7d")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2] or "s"])


def moment(text: str) -> timedelta:
    """A time in a media, such as `1:02:03.5`, `1:30` or a length of time from its beginning."""
    match = _CLOCK.fullmatch(text)
    if match is not None:
        hours, minutes, seconds = match.groups(default="0")
        return timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds))
    if _LENGTH.fullmatch(text):
        return length(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no time such as 1:02:03, 1:30, 90s")


def _add(
    parser: argparse._ActionsContainer,
    field: str,
    kind: Callable[[str], object],
    metavar: str,
    does: str,
) -> None:
    parser.add_argument(OPTIONS[field], dest=field, type=kind, metavar=metavar, help=does)
