"""The command `ingot`: reads the command line, runs the command, answers with its exit code.

0 is done, 1 failed or not found, 2 wrong usage, 130 ended by Ctrl-C, 141 nobody reads the output.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ingot.recipe_options import add_recipe, add_sound, length, number, short_recipe

DEFAULT_SERVER: Final = "localhost:50051"

_STATES: Final = ("queued", "running", "succeeded", "failed", "cancelled")
_PRIORITIES: Final = ("low", "normal", "high")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; without `arguments` the program's own."""
    parser = _parser()
    options = parser.parse_args(arguments)
    options.server = getattr(options, "server", "") or os.environ.get("INGOT_SERVER", "")
    options.server = options.server or DEFAULT_SERVER
    options.json = getattr(options, "json", False)
    if not re.fullmatch(r"unix:.+|(\[[0-9A-Fa-f:.]+\]|[^:/\s]+):\d{1,5}", options.server):
        parser.error(f"the server is HOST:PORT, such as {DEFAULT_SERVER}, not {options.server!r}")

    _prepare_output()
    # gRPC's own log would stand between the lines of a command whose server restarts.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from ingot import commands  # gRPC takes its time to load, and `--help` needs none of it

    try:
        return asyncio.run(commands.run(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # What is still buffered goes nowhere, and Python has nothing to complain of at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _prepare_output() -> None:
    """Lets nothing that is printed fail for what it says, or for there being no output."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started the program
            nowhere = Path(os.devnull).open("w")  # noqa: SIM115 - until the program ends
            setattr(sys, name, nowhere)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A title has characters that not every terminal can show.
        sys.stdout.reconfigure(errors="replace")


def _parser() -> argparse.ArgumentParser:
    everywhere = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    everywhere.add_argument(
        "--server",
        metavar="HOST:PORT",
        help=f"the Ingot server; default INGOT_SERVER, else {DEFAULT_SERVER}",
    )
    everywhere.add_argument(
        "--json", action="store_true", help="print protobuf JSON, one message a line"
    )

    parser = argparse.ArgumentParser(
        prog="ingot", parents=[everywhere], description="Bring media into Ingot, and out of it."
    )
    parser.add_argument(
        "--version", action="version", version=importlib.metadata.version("ingot-client")
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, does: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, parents=[everywhere], help=does, description=does)

    ingest = command("ingest", "Store the media behind URLs and watch them come in.")
    ingest.add_argument("urls", type=_text, metavar="URL", nargs="+")
    _add_selection(ingest)
    _add_source(ingest)
    _add_options(ingest)
    ingest.add_argument(
        "--recipe",
        action="append",
        default=[],
        type=short_recipe,
        metavar="FORMAT[,OPTION=VALUE...]",
        help="then convert it, such as mp3,bitrate=128; options are those of `ingot convert`",
    )
    ending = ingest.add_mutually_exclusive_group()
    _add_no_wait(ending)
    ending.add_argument(
        "--validate-only", action="store_true", help="check only; print the job that would be made"
    )

    upload = command("upload", "Store files of this machine; goes on after a lost connection.")
    upload.add_argument("files", metavar="FILE", nargs="+")
    _add_labels(upload, "kept with the job and the media")
    _add_no_wait(upload)

    convert = command("convert", "Make another media of one; a URL is stored first.")
    convert.add_argument("name", type=_text, metavar="URL_OR_ID")
    add_recipe(convert)
    convert.add_argument("--audio-only", action="store_true", help="of the best audio alone")
    _add_source(convert)
    ending = convert.add_mutually_exclusive_group()
    _add_no_wait(ending)
    ending.add_argument(
        "-o",
        "--output",
        type=_output,
        metavar="FILE",
        help="bring it here; into a directory by its title",
    )

    mp3 = command("mp3", "The sound of a media as a file here: stored, converted, downloaded.")
    mp3.add_argument("name", type=_text, metavar="URL_OR_ID")
    mp3.set_defaults(format="mp3", no_wait=False)
    add_sound(mp3)
    mp3.add_argument("--audio-only", action="store_true", help="of the best audio alone")
    _add_source(mp3)
    mp3.add_argument(
        "-o",
        "--output",
        type=_output,
        metavar="FILE",
        default=os.curdir,
        help="or a directory, where it is named after the title; default: here",
    )

    for name, does in (
        ("media", "Show a stored media."),
        ("download", "Bring the file of a stored media here; goes on with a part of it."),
        ("url", "Make a link to the file of a stored media that any HTTP client can follow."),
    ):
        reads = command(name, does)
        reads.add_argument("name", type=_text, metavar="URL_OR_ID")
        _add_selection(reads)
        if name == "download":
            reads.add_argument(
                "-o",
                "--output",
                type=_output,
                metavar="FILE",
                required=True,
                help="or a directory, where it is named after the title",
            )
        if name == "url":
            reads.add_argument(
                "--lifetime", type=length, metavar="TIME", help="how long it works; default 1h"
            )

    command("list", "List the stored media.")
    remove = command("rm", "Delete a stored media.")
    remove.add_argument("media_id", type=_text, metavar="ID")
    command("sources", "List where media can come from, and how each source does.")

    jobs = command("jobs", "List the jobs, latest first.")
    jobs.add_argument(
        "--state", action="append", default=[], choices=_STATES, help="only in this state"
    )
    _add_labels(jobs, "only with this label")
    jobs.add_argument("--watch", action="store_true", help="go on with every change, until Ctrl-C")
    for name, does in (
        ("job", "Show a job."),
        ("watch", "Watch a job to its end."),
        ("cancel", "Stop a job, for all who wait for it."),
    ):
        command(name, does).add_argument("job_id", type=_text, metavar="ID")
    return parser


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--audio-only", action="store_true", help="the best audio alone")
    parser.add_argument(
        "--max-height", type=number, metavar="PIXELS", help="video no higher than this"
    )


def _add_source(parser: argparse.ArgumentParser) -> None:
    _add_max_age(parser)
    _add_labels(parser, "kept with the job and the media")
    parser.add_argument("--priority", choices=_PRIORITIES, default="normal")


def _add_max_age(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-age",
        type=length,
        metavar="TIME",
        help="take a stored copy no older than this, such as 1h; 0 asks the source",
    )


def _add_no_wait(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--no-wait", action="store_true", help="print the job and leave")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--playlist", action="store_true", help="all entries of a playlist, channel or album"
    )
    parser.add_argument(
        "--max-entries", type=number, metavar="NUMBER", help="refuse a playlist of more entries"
    )
    parser.add_argument(
        "--record", type=length, metavar="TIME", help="record a live stream for at most this long"
    )
    parser.add_argument(
        "--subtitles",
        action="append",
        default=[],
        type=_text,
        metavar="LANGUAGE",
        help="store subtitles in this language, such as en",
    )
    parser.add_argument(
        "--automatic-subtitles", action="store_true", help="also those made by machine"
    )
    parser.add_argument("--thumbnail", action="store_true", help="store the thumbnail too")


def _add_labels(parser: argparse.ArgumentParser, does: str) -> None:
    parser.add_argument(
        "--label", action="append", default=[], type=_label, metavar="KEY=VALUE", help=does
    )


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes that Python could not read
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8") from None
    return text


def _output(text: str) -> str:
    if text in ("", "-"):
        # Nobody could resume it, and what is wrong with it would be known when it is all written.
        raise argparse.ArgumentTypeError(
            f'{text!r} is no file; `curl "$(ingot url URL_OR_ID)"` writes to a pipe'
        )
    return text


def _label(text: str) -> tuple[str, str]:
    key, equals, value = _text(text).partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


if __name__ == "__main__":
    sys.exit(main())
