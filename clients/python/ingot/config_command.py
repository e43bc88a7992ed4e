"""The command `config`: show and change which server the other commands call."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ingot.address import parse_address
from ingot.config_file import KEYS, ConfigError, config_path, read_config, write_config
from ingot.server_options import find_settings

_HIDDEN: Final = "(hidden)"
_KEY_HELP: Final = (
    "server: its address; token: what to send to this server; ca: PEM file of the authorities to"
    " trust for this server; certificate, key: PEM files to show to this server"
)


def add_config(
    parser: argparse.ArgumentParser, *, parents: Sequence[argparse.ArgumentParser]
) -> None:
    """Add the actions of `config`. `parents` have the options that may follow them."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, description: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, parents=parents, help=description, description=description)

    action("show", "Show what commands use, and where it is set. The token is hidden.")
    change = action("set", "Store a value in the configuration file.")
    change.add_argument("key", choices=KEYS, help=_KEY_HELP)
    change.add_argument("value", nargs="?", help="without it, a token is read from stdin")
    action("unset", "Remove a value from the configuration file.").add_argument(
        "key", choices=KEYS, help=_KEY_HELP
    )


def run_config(options: Namespace, environment: Mapping[str, str]) -> int:
    """Run the action, and return the exit code. Raises ConfigError for what is not valid."""
    if options.action == "show":
        _show(options, environment)
        return 0
    path = config_path(environment)
    values = read_config(path)
    if options.action == "unset":
        values.pop(options.key, None)
    else:
        values[options.key] = _read_value(options.key, options.value)
    try:
        write_config(path, values)
    except OSError as error:
        sys.stderr.write(f"ingot: Cannot write {path}: {error.strerror}.\n")
        return 1
    return 0


def _show(options: Namespace, environment: Mapping[str, str]) -> None:
    found = find_settings(options, environment)
    shown = {
        key: {"value": _HIDDEN if key == "token" else setting.value, "from": setting.origin}
        for key, setting in found.items()
    }
    if options.json:
        sys.stdout.write(json.dumps(shown) + "\n")
        return
    for key, row in shown.items():
        sys.stdout.write(f"{key:<8}{row['value']}  (from {row['from']})\n")


def _read_value(key: str, value: str | None) -> str:
    """Return the value to store. Raises ConfigError if it is not valid."""
    if value is None:
        if key != "token":
            raise ConfigError(f"Give the value too: `ingot config set {key} VALUE`.")
        value = getpass.getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
    if not value:
        raise ConfigError(f"The value is empty. To remove it, run `ingot config unset {key}`.")
    try:
        if key == "server":
            parse_address(value)
        elif key == "ca":
            from ingot.access import read_authorities  # gRPC is slow to load

            read_authorities(value)
            return str(Path(value).absolute())
        elif key in ("certificate", "key"):
            Path(value).read_bytes()
            return str(Path(value).absolute())
        elif not (value.isascii() and value.isprintable() and " " not in value):
            raise ValueError("A token has only visible ASCII characters, and no spaces.")
    except OSError as error:
        raise ConfigError(f"{value}: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return value
