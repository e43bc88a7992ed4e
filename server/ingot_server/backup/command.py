"""The commands `ingot-server export` and `ingot-server import`."""

from __future__ import annotations

import argparse
import asyncio
import functools
import sys
from typing import Any

from ingot_server.config import Settings
from ingot_server.setting_values import SettingError


def add_commands(commands: Any) -> None:
    """Add both commands to the parser of `ingot-server`: `commands` is of `add_subparsers`."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--label",
        dest="labels",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="copy only media items with this label; may be repeated, then with all of them",
    )
    shared.add_argument(
        "--source", dest="of_source", default="", metavar="NAME", help="only of this source"
    )
    shared.add_argument(
        "--owner", dest="of_owner", default="", metavar="NAME", help="only those of this caller"
    )
    shared.add_argument(
        "--verify",
        action="store_true",
        help="also read what is there already, and replace what is damaged",
    )
    shared.add_argument(
        "--dry-run", action="store_true", help="say how much there is to copy, and copy nothing"
    )
    shared.add_argument(
        "--transfers",
        type=int,
        default=8,
        metavar="N",
        help="number of media items that are copied at the same time",
    )
    shared.add_argument(
        "--buckets-file",
        metavar="FILE",
        help="TOML file with the server and keys of the other bucket, see docs/backup.md",
    )
    export = commands.add_parser(
        "export",
        parents=[shared],
        help="copy media items to a directory or another bucket, except what is there already",
    )
    export.add_argument("address", metavar="DESTINATION", help="a directory, or s3://BUCKET/FOLDER")
    imported = commands.add_parser(
        "import",
        parents=[shared],
        help="copy media items from an export or another bucket, except what is here already",
    )
    imported.add_argument("address", metavar="SOURCE", help="a directory, or s3://BUCKET/FOLDER")


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Carry out one of both commands; return the exit code, 1 if something was not copied."""
    from ingot_server.backup.choice import Choice
    from ingot_server.backup.copier import Wishes
    from ingot_server.backup.runs import export_media, import_media

    labels = dict(each.split("=", 1) for each in options.labels if "=" in each)
    if len(labels) != len(options.labels):
        raise SettingError("--label: write each label once, as KEY=VALUE.")
    if options.transfers < 1:
        raise SettingError(f"--transfers={options.transfers} is not at least 1.")
    wishes = Wishes(
        choice=Choice(labels, options.of_source, options.of_owner),
        verify=options.verify,
        dry_run=options.dry_run,
        at_once=options.transfers,
    )
    copy = export_media if options.command == "export" else import_media
    say = functools.partial(print, flush=True)
    tally = asyncio.run(copy(settings, options.address, wishes, say, sys.stderr))
    return 1 if tally.problems else 0
