"""Arguments that several commands of `ingot` have, and how their text is read.

This module loads neither gRPC nor the contract, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
import os
from typing import Final

from ingot.ids import is_media_id
from ingot.recipe_options import parse_integer, parse_position

_VIDEO_CODECS: Final = ("av1", "h264", "hevc", "vp8", "vp9")
OUTPUT_HELP: Final = "file or directory; in a directory the file is named after the title"


def add_name(parser: argparse.ArgumentParser) -> None:
    """Add the name of a media item."""
    parser.add_argument(
        "name", type=parse_text, metavar="URL_OR_ID", help="URL or id of a media item"
    )


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add what to select of what a URL offers."""
    parser.add_argument(
        "--audio-only", action="store_true", help="the best audio of the URL, without video"
    )
    parser.add_argument(
        "--max-height",
        type=parse_integer,
        metavar="PIXELS",
        help="the best video of the URL up to this height",
    )
    parser.add_argument(
        "--min-height",
        type=parse_integer,
        metavar="PIXELS",
        help="no video of the URL that is lower than this",
    )
    parser.add_argument(
        "--audio-language",
        type=parse_text,
        metavar="LANGUAGE",
        help="the audio of the URL in this language, such as en (default: the original)",
    )
    parser.add_argument(
        "--all-audio-languages",
        action="store_true",
        help="all audio of the URL, as streams of one file",
    )
    parser.add_argument(
        "--video-codec",
        action="append",
        default=[],
        choices=_VIDEO_CODECS,
        help="prefer this codec among videos of the same height; repeatable, the best first",
    )
    parser.add_argument(
        "--start",
        type=parse_position,
        metavar="TIME",
        help="only a section of the URL from here on, such as 1:30 or 90s",
    )
    parser.add_argument(
        "--end",
        type=parse_position,
        metavar="TIME",
        help="only a section of the URL up to here, such as 2:00 or 120s",
    )
    parser.add_argument(
        "--exact",
        action="store_true",
        help="begin and end the section at exactly these times, not at a key frame",
    )


def add_labels(parser: argparse.ArgumentParser, description: str) -> None:
    """Add `--label`, described as what it does to this command."""
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        type=parse_label,
        metavar="KEY=VALUE",
        help=description,
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add where a file is downloaded to."""
    parser.add_argument(
        "-o",
        "--output",
        type=parse_output,
        metavar="FILE",
        default=os.curdir,
        help=f"{OUTPUT_HELP} (default: the current directory)",
    )


def add_no_wait(parser: argparse._ActionsContainer) -> None:
    """Add `--no-wait`."""
    parser.add_argument(
        "--no-wait", action="store_true", help="print the job and exit before it ends"
    )


def add_webhook(parser: argparse.ArgumentParser) -> None:
    """Add `--webhook`."""
    parser.add_argument(
        "--webhook",
        type=parse_text,
        default="",
        metavar="URL",
        help="have the server send a signed request to this URL when the job ends",
    )


def parse_text(text: str) -> str:
    """Return `text`. Raises ArgumentTypeError if it is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes that Python could not decode
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8") from None
    return text


def parse_media_id(text: str) -> str:
    """Return the id of a media item. Raises ArgumentTypeError if it cannot be one."""
    if text and not is_media_id(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the id of a media item, which has 52 letters and digits;"
            " `ingot list` shows the ids"
        )
    return text


def parse_output(text: str) -> str:
    """Return the file or directory. Raises ArgumentTypeError for a pipe."""
    if text in ("", "-"):
        # A download to a pipe could not be resumed, and its checksum would be known too late.
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a file or directory;"
            ' to write to a pipe, use `curl "$(ingot url URL_OR_ID)"`'
        )
    return text


def parse_limit(text: str) -> int | None:
    """Parse how many items to list; None means all. Raises ArgumentTypeError."""
    limit = parse_integer(text)
    if limit < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return limit or None


def parse_label(text: str) -> tuple[str, str]:
    """Parse a label, `KEY=VALUE`. Raises ArgumentTypeError."""
    key, equals, value = parse_text(text).partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value
