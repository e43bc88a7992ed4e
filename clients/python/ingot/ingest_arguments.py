"""The arguments of commands that store media: `ingest`, `upload`, `convert`, `mp3` and `follow`.

This module loads neither gRPC nor the contract, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Final

from ingot.recipe_options import (
    add_audio_options,
    add_recipe_options,
    parse_duration,
    parse_integer,
    parse_recipe,
)
from ingot.shared_arguments import (
    OUTPUT_HELP,
    add_labels,
    add_name,
    add_no_wait,
    add_output,
    add_selection,
    add_webhook,
    parse_output,
    parse_text,
)

_PRIORITIES: Final = ("low", "normal", "high")


def add_ingest(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ingest`."""
    parser.add_argument("urls", type=parse_text, metavar="URL", nargs="+")
    add_selection(parser)
    _add_ingest_settings(parser)
    _add_ingest_options(parser)
    _add_recipes(parser)
    exclusive = parser.add_mutually_exclusive_group()
    add_no_wait(exclusive)
    exclusive.add_argument(
        "--validate-only",
        action="store_true",
        help="check the request without running it, and print the job that it would create",
    )


def add_resolve(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `resolve`."""
    parser.add_argument("url", type=parse_text, metavar="URL")
    add_selection(parser)
    parser.add_argument(
        "--playlist",
        action="store_true",
        help="look at the playlist that the video of the URL is part of",
    )


def add_upload(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `upload`."""
    parser.add_argument("files", metavar="FILE", nargs="+")
    _add_job_settings(parser)
    _add_recipes(parser)
    add_no_wait(parser)


def add_convert(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `convert`."""
    add_name(parser)
    add_recipe_options(parser)
    _add_audio_only(parser)
    _add_ingest_settings(parser)
    exclusive = parser.add_mutually_exclusive_group()
    add_no_wait(exclusive)
    exclusive.add_argument(
        "-o",
        "--output",
        type=parse_output,
        metavar="FILE",
        help=f"also download the result to this {OUTPUT_HELP}",
    )


def add_mp3(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `mp3`."""
    add_name(parser)
    parser.set_defaults(format="mp3", no_wait=False)
    add_audio_options(parser)
    _add_audio_only(parser)
    _add_ingest_settings(parser)
    add_output(parser)


def _add_audio_only(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--audio-only",
        action="store_true",
        help="convert the best audio of the URL, and fetch no video",
    )


def _add_ingest_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-age",
        type=parse_duration,
        metavar="TIME",
        help="oldest stored copy to accept, such as 1h; 0 always checks the source",
    )
    _add_job_settings(parser)


def _add_job_settings(parser: argparse.ArgumentParser, *, priority: str = "normal") -> None:
    add_labels(parser, "label to store with the job and the media; repeatable")
    parser.add_argument(
        "--priority",
        choices=_PRIORITIES,
        default=priority,
        help=f"order among the waiting jobs (default: {priority})",
    )
    add_webhook(parser)


def _add_recipes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe",
        action="append",
        default=[],
        type=parse_recipe,
        metavar="FORMAT[,OPTION=VALUE...]",
        help="also convert the media, for example mp3,bitrate=128 (options as in `ingot convert`)",
    )


def add_follow(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `follow`."""
    parser.add_argument("url", type=parse_text, metavar="URL")
    parser.add_argument(
        "--mark-seen",
        action="store_true",
        help="ingest only what is published from now on, and not what is there already",
    )
    parser.add_argument(
        "--every",
        type=parse_duration,
        metavar="TIME",
        help="how often to look for new entries, such as 30m (default: 1h)",
    )
    parser.add_argument(
        "--since",
        type=parse_date,
        metavar="DATE",
        help="ingest only what was published on this day (UTC) or later, such as 2026-11-30",
    )
    for name, what in (
        ("--include", "whose title contains"),
        ("--exclude", "unless its title has"),
    ):
        parser.add_argument(
            name,
            action="append",
            default=[],
            type=parse_text,
            metavar="TEXT",
            help=f"ingest an entry only {what} this text, in upper or lower case; repeatable",
        )
    parser.add_argument(
        "--max-entries",
        type=parse_integer,
        metavar="NUMBER",
        help="how many entries of the list to look at (default: 200)",
    )
    add_selection(parser)
    _add_job_settings(parser, priority="low")
    _add_media_options(parser)
    _add_recipes(parser)


def parse_date(text: str) -> datetime:
    """Parse a date, as its beginning in UTC. Raises ArgumentTypeError."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2026-11-30") from None


def _add_ingest_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--playlist",
        action="store_true",
        help="ingest all entries of a playlist, channel or album",
    )
    parser.add_argument(
        "--max-entries",
        type=parse_integer,
        metavar="NUMBER",
        help="refuse a playlist with more entries than this",
    )
    _add_media_options(parser)


def _add_media_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--record",
        type=parse_duration,
        metavar="TIME",
        help="record a live stream for at most this long",
    )
    parser.add_argument(
        "--subtitles",
        action="append",
        default=[],
        type=parse_text,
        metavar="LANGUAGE",
        help="also store the subtitles in this language, such as en; repeatable",
    )
    parser.add_argument(
        "--automatic-subtitles",
        action="store_true",
        help="accept automatic subtitles if there are no others",
    )
    parser.add_argument(
        "--all-subtitles",
        action="store_true",
        help="also store the subtitles of all languages, a request to the source for each",
    )
    parser.add_argument("--thumbnail", action="store_true", help="also store the thumbnail")
    parser.add_argument(
        "--storyboard", action="store_true", help="also store the storyboard of the source"
    )
    parser.add_argument(
        "--info", action="store_true", help="also store all that the extractor knows, as JSON"
    )
