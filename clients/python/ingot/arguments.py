"""The commands and options of `ingot`, as an argparse parser.

This module loads neither gRPC nor the contract, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
import importlib.metadata
from typing import Final

from ingot.completion_command import add_completion
from ingot.config_command import add_config
from ingot.ingest_arguments import (
    add_convert,
    add_follow,
    add_ingest,
    add_mp3,
    add_resolve,
    add_upload,
)
from ingot.login_command import add_login
from ingot.mcp_command import add_mcp
from ingot.recipe_options import parse_duration
from ingot.server_options import add_server_options
from ingot.shared_arguments import (
    add_labels,
    add_name,
    add_no_wait,
    add_output,
    add_selection,
    add_webhook,
    parse_limit,
    parse_media_id,
    parse_text,
)

_STATES: Final = ("queued", "running", "succeeded", "failed", "cancelled")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line.

    The global options, which may precede or follow the command, are set in the Namespace only if
    they were given.
    """
    global_options = _global_options(headers="headers")
    parser = argparse.ArgumentParser(
        prog="ingot",
        parents=[_global_options(headers="first_headers")],
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

    add_ingest(command("ingest", "Store the media at URLs, and show the progress."))
    add_resolve(command("resolve", "Show what is behind a URL, without storing anything."))
    add_upload(command("upload", "Store local files. An interrupted upload is resumed."))
    add_convert(command("convert", "Convert a media item. A URL is ingested first."))
    add_mp3(command("mp3", "Save the audio of a URL or a media item as an MP3 file."))
    _add_named_media(command("media", "Show a stored media item."))
    _add_download(
        command("download", "Download the file of a media item. A partial download is resumed.")
    )
    _add_url(command("url", "Print a link to the file of a media item, for any HTTP client."))
    _add_url(command("storyboard", "Print the index of a storyboard, with links for a player."))
    _add_list(command("list", "List the stored media, latest first."))
    command("rm", "Delete stored media items.").add_argument(
        "names", type=parse_text, nargs="+", metavar="URL_OR_ID"
    )
    for name, description in (
        ("pin", "Keep stored media items until they are deleted, whatever rules there are."),
        ("unpin", "Let rules and expiry times remove media items again."),
    ):
        command(name, description).add_argument(
            "names", type=parse_text, nargs="+", metavar="URL_OR_ID"
        )
    command("sources", "List where media can come from, and the status of each source.")
    command("system", "Show what waits and runs, the workers, and what is wrong.")
    command("quota", "Show your limits, and how much of each you use.")
    _add_jobs(command("jobs", "List the jobs, latest first."))
    for name, description in (
        ("job", "Show a job."),
        ("cancel", "Cancel a job. It goes on if another caller is known to want it."),
    ):
        command(name, description).add_argument("job_id", type=parse_text, metavar="ID")
    watch = command("watch", "Watch a job until it ends, or all jobs until Ctrl-C.")
    watch.add_argument(
        "job_id", type=parse_text, nargs="?", default="", metavar="ID", help="default: all jobs"
    )
    command("top", "Show what goes on in all jobs, live until q or Ctrl-C.")
    add_login(command("login", "Ask for the token of a server, check it and keep it."))
    command("logout", "Forget the token of a server.")
    config = command("config", "Show or change which server the other commands call.")
    add_config(config, parents=[global_options])
    add_completion(
        command("completion", "Print a script with which a shell completes this command line.")
    )
    add_mcp(command("mcp", "Offer Ingot to agents, as tools of the Model Context Protocol."))
    retry = command("retry", "Run a job again that failed or was cancelled.")
    retry.add_argument("job_id", type=parse_text, metavar="ID")
    add_no_wait(retry)
    add_webhook(retry)
    add_follow(command("follow", "Follow a channel, playlist or feed: ingest what is new in it."))
    command("following", "List what is followed, and when it is checked.")
    for name, description in (
        ("unfollow", "Stop following. What is stored stays."),
        ("pause", "Check subscriptions no more, until they are resumed."),
        ("resume", "Check subscriptions again that were paused."),
        ("check", "Look for new entries of subscriptions now."),
    ):
        command(name, description).add_argument(
            "names", type=parse_text, nargs="+", metavar="URL_OR_ID"
        )
    _add_feed(command("feed", "Make a podcast feed of a subscription, or of media with labels."))
    command("feeds", "List your podcast feeds.")
    command("revoke", "Delete podcast feeds: their addresses do not work any more.").add_argument(
        "names", type=parse_text, nargs="+", metavar="ID"
    )
    _add_webhooks(
        command("webhooks", "List the deliveries of webhooks, those of later jobs first.")
    )
    command("replay", "Have deliveries of webhooks sent again.").add_argument(
        "delivery_ids", type=parse_text, nargs="+", metavar="ID"
    )
    return parser


def _global_options(*, headers: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    add_server_options(parser, headers=headers)
    parser.add_argument(
        "--json", action="store_true", help="print protobuf JSON, one message per line"
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="show no progress, only results and errors"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="also show each call, its status and its time"
    )
    return parser


def _add_named_media(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    add_selection(parser)


def _add_download(parser: argparse.ArgumentParser) -> None:
    _add_named_media(parser)
    add_output(parser)


def _add_url(parser: argparse.ArgumentParser) -> None:
    _add_named_media(parser)
    parser.add_argument(
        "--lifetime",
        type=parse_duration,
        metavar="TIME",
        help="how long the link works (default: 1h, at most 7d)",
    )


def _add_feed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "subscription",
        type=parse_text,
        nargs="?",
        default="",
        metavar="URL_OR_ID",
        help="what the subscription follows, or its id",
    )
    add_labels(parser, "the media with this label; repeatable")
    parser.add_argument(
        "--title", type=parse_text, default="", metavar="TEXT", help="title of the podcast"
    )


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text",
        type=parse_text,
        nargs="*",
        metavar="WORD",
        help="list only media with these words in the title or the uploader",
    )
    parser.add_argument(
        "--limit",
        type=parse_limit,
        default=50,
        metavar="NUMBER",
        help="list at most so many (default: 50); 0 lists all",
    )
    parser.add_argument(
        "--source",
        type=parse_text,
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
        type=parse_media_id,
        default="",
        metavar="ID",
        help="list only media that was converted from this media item",
    )
    add_labels(parser, "list only media with this label; repeatable")


def _add_webhooks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--job",
        type=parse_text,
        default="",
        metavar="ID",
        help="list only deliveries of this job",
    )
    parser.add_argument(
        "--state",
        choices=("pending", "delivered", "failed"),
        help="list only deliveries in this state",
    )


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        choices=_STATES,
        help="list only jobs in this state; repeatable",
    )
    add_labels(parser, "list only jobs with this label; repeatable")
    parser.add_argument(
        "--watch", action="store_true", help="also print every change, until Ctrl-C"
    )
