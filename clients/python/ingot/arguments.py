"""The commands and options of `ingot`, as an argparse parser.

This module loads neither gRPC nor the contract, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
from typing import Final

from ingot.recipe_options import (
    add_audio_options,
    add_recipe_options,
    parse_duration,
    parse_integer,
    parse_recipe,
)

DEFAULT_SERVER: Final = "localhost:50051"

_STATES: Final = ("queued", "running", "succeeded", "failed", "cancelled")
_PRIORITIES: Final = ("low", "normal", "high")
_OUTPUT_HELP: Final = "file or directory; in a directory the file is named after the title"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line.

    `server`, `json` and `quiet` are set in the Namespace only if their options were given.
    """
    global_options = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    global_options.add_argument(
        "--server",
        metavar="HOST:PORT",
        help=f"address of the Ingot server (default: INGOT_SERVER, else {DEFAULT_SERVER})",
    )
    global_options.add_argument(
        "--json", action="store_true", help="print protobuf JSON, one message per line"
    )
    global_options.add_argument(
        "-q", "--quiet", action="store_true", help="show no progress, only results and errors"
    )

    parser = argparse.ArgumentParser(
        prog="ingot",
        parents=[global_options],
        description="Store media from URLs and files, convert it, and download it.",
    )
    parser.add_argument(
        "-V", "--version", action="version", version=importlib.metadata.version("ingot-client")
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, description: str) -> argparse.ArgumentParser:
        return subparsers.add_parser(
            name, parents=[global_options], help=description, description=description
        )

    _add_ingest(command("ingest", "Store the media at URLs, and show the progress."))
    _add_upload(command("upload", "Store local files. An interrupted upload is resumed."))
    _add_convert(command("convert", "Convert a media item. A URL is ingested first."))
    _add_mp3(command("mp3", "Save the audio of a URL or a media item as an MP3 file."))
    _add_named_media(command("media", "Show a stored media item."))
    _add_download(
        command("download", "Download the file of a media item. A partial download is resumed.")
    )
    _add_url(command("url", "Print a link to the file of a media item, for any HTTP client."))
    _add_list(command("list", "List the stored media, latest first."))
    command("rm", "Delete stored media items.").add_argument(
        "names", type=_parse_text, nargs="+", metavar="URL_OR_ID"
    )
    command("sources", "List where media can come from, and the status of each source.")
    command("system", "Show what waits and runs, the workers, and what is wrong.")
    _add_jobs(command("jobs", "List the jobs, latest first."))
    for name, description in (
        ("job", "Show a job."),
        ("watch", "Watch a job until it ends."),
        ("cancel", "Cancel a job, also for other callers who wait for it."),
    ):
        command(name, description).add_argument("job_id", type=_parse_text, metavar="ID")
    retry = command("retry", "Run a job again that failed or was cancelled.")
    retry.add_argument("job_id", type=_parse_text, metavar="ID")
    _add_no_wait(retry)
    return parser


def _add_ingest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("urls", type=_parse_text, metavar="URL", nargs="+")
    _add_selection(parser)
    _add_ingest_settings(parser)
    _add_ingest_options(parser)
    parser.add_argument(
        "--recipe",
        action="append",
        default=[],
        type=parse_recipe,
        metavar="FORMAT[,OPTION=VALUE...]",
        help="also convert the media, for example mp3,bitrate=128 (options as in `ingot convert`)",
    )
    exclusive = parser.add_mutually_exclusive_group()
    _add_no_wait(exclusive)
    exclusive.add_argument(
        "--validate-only",
        action="store_true",
        help="check the request without running it, and print the job that it would create",
    )


def _add_upload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+")
    _add_labels(parser, "label to store with the job and the media; repeatable")
    _add_no_wait(parser)


def _add_convert(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    add_recipe_options(parser)
    _add_audio_only(parser)
    _add_ingest_settings(parser)
    exclusive = parser.add_mutually_exclusive_group()
    _add_no_wait(exclusive)
    exclusive.add_argument(
        "-o",
        "--output",
        type=_parse_output,
        metavar="FILE",
        help=f"also download the result to this {_OUTPUT_HELP}",
    )


def _add_mp3(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.set_defaults(format="mp3", no_wait=False)
    add_audio_options(parser)
    _add_audio_only(parser)
    _add_ingest_settings(parser)
    _add_output(parser)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        type=_parse_output,
        metavar="FILE",
        default=os.curdir,
        help=f"{_OUTPUT_HELP} (default: the current directory)",
    )


def _add_named_media(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    _add_selection(parser)


def _add_download(parser: argparse.ArgumentParser) -> None:
    _add_named_media(parser)
    _add_output(parser)


def _add_url(parser: argparse.ArgumentParser) -> None:
    _add_named_media(parser)
    parser.add_argument(
        "--lifetime",
        type=parse_duration,
        metavar="TIME",
        help="how long the link works (default: 1h, at most 7d)",
    )


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text",
        type=_parse_text,
        nargs="*",
        metavar="WORD",
        help="list only media with these words in the title or the uploader",
    )
    parser.add_argument(
        "--limit",
        type=_parse_limit,
        default=50,
        metavar="NUMBER",
        help="list at most so many (default: 50); 0 lists all",
    )
    parser.add_argument(
        "--source",
        type=_parse_text,
        default="",
        metavar="NAME",
        help="list only media from this source, such as youtube",
    )
    parser.add_argument(
        "--kind",
        choices=("video", "audio", "image", "other"),
        default="unspecified",
        help="list only media of this kind",
    )
    parser.add_argument(
        "--made-of",
        type=_parse_text,
        default="",
        metavar="ID",
        help="list only media that was converted from this media item",
    )
    _add_labels(parser, "list only media with this label; repeatable")


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        choices=_STATES,
        help="list only jobs in this state; repeatable",
    )
    _add_labels(parser, "list only jobs with this label; repeatable")
    parser.add_argument(
        "--watch", action="store_true", help="also print every change, until Ctrl-C"
    )


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", type=_parse_text, metavar="URL_OR_ID", help="URL or id of a media item"
    )


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--audio-only", action="store_true", help="the best audio of the URL, without video"
    )
    parser.add_argument(
        "--max-height",
        type=parse_integer,
        metavar="PIXELS",
        help="the best video of the URL up to this height",
    )


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
    _add_labels(parser, "label to store with the job and the media; repeatable")
    parser.add_argument(
        "--priority",
        choices=_PRIORITIES,
        default="normal",
        help="order among the waiting jobs (default: normal)",
    )


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
        type=_parse_text,
        metavar="LANGUAGE",
        help="also store the subtitles in this language, such as en; repeatable",
    )
    parser.add_argument(
        "--automatic-subtitles",
        action="store_true",
        help="accept automatic subtitles if there are no others",
    )
    parser.add_argument("--thumbnail", action="store_true", help="also store the thumbnail")


def _add_no_wait(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--no-wait", action="store_true", help="print the job and exit before it ends"
    )


def _add_labels(parser: argparse.ArgumentParser, description: str) -> None:
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        type=_parse_label,
        metavar="KEY=VALUE",
        help=description,
    )


def _parse_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes that Python could not decode
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8") from None
    return text


def _parse_output(text: str) -> str:
    if text in ("", "-"):
        # A download to a pipe could not be resumed, and its checksum would be known too late.
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a file or directory;"
            ' to write to a pipe, use `curl "$(ingot url URL_OR_ID)"`'
        )
    return text


def _parse_limit(text: str) -> int | None:
    limit = parse_integer(text)
    if limit < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return limit or None


def _parse_label(text: str) -> tuple[str, str]:
    key, equals, value = _parse_text(text).partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value
