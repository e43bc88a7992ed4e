"""The options that say which server to call and how, and where their values come from.

An option wins over the environment, the environment over the configuration file, and the file over
the default. A token of `ingot login` wins over one in the configuration file. The token, the
authority, the certificate and the key in the file are for the server in the file: they are not used
for another one. This module does not load gRPC.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ingot.address import DEFAULT_ADDRESS, parse_address
from ingot.config_file import ConfigError, config_path, read_config
from ingot.stored_tokens import StoredTokens

VARIABLES: Final = {
    "server": "INGOT_SERVER",
    "token": "INGOT_TOKEN",
    "ca": "INGOT_CA",
    "certificate": "INGOT_CERTIFICATE",
    "key": "INGOT_KEY",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One value, and where it is from: an option, a variable, a file, or `default`."""

    value: str = field(repr=False)  # it may be a token
    origin: str


def add_server_options(parser: argparse.ArgumentParser, *, headers: str) -> None:
    """Add the options. `headers` is where those that are given here are collected."""
    parser.add_argument(
        "--server",
        metavar="ADDRESS",
        help="HOST, HOST:PORT, https://HOST[:PORT] or unix:PATH"
        f" (default: INGOT_SERVER, `ingot config`, {DEFAULT_ADDRESS})",
    )
    parser.add_argument(
        "--token",
        help="token to send to the server; other users of this machine can see it, unless it is in"
        " INGOT_TOKEN or `ingot config`",
    )
    parser.add_argument(
        "--ca",
        metavar="FILE",
        help="PEM file of the authorities to trust for https, instead of the public ones"
        " (default: INGOT_CA, `ingot config`)",
    )
    parser.add_argument(
        "--certificate",
        metavar="FILE",
        help="PEM file of a certificate to show to the server"
        " (default: INGOT_CERTIFICATE, `ingot config`)",
    )
    parser.add_argument(
        "--key",
        metavar="FILE",
        help="PEM file of the key of that certificate, if it is not in the same file"
        " (default: INGOT_KEY, `ingot config`)",
    )
    parser.add_argument(
        "--header",
        dest=headers,
        action="append",
        type=_parse_header,
        metavar="NAME:VALUE",
        help="header to send with every call; repeatable",
    )
    parser.add_argument(
        "--allow-plaintext-token",
        action="store_true",
        help="send the token to another machine although the connection is not encrypted",
    )


def find_settings(options: Namespace, environment: Mapping[str, str]) -> dict[str, Setting]:
    """Return what is set of VARIABLES; the server always is.

    Raises ConfigError if the file or the address is not valid.
    """
    path = config_path(environment)
    in_file = read_config(path)
    found: dict[str, Setting] = {"server": Setting(DEFAULT_ADDRESS, "default")}
    for key, variable in VARIABLES.items():
        for value, origin in (
            (getattr(options, key, None), f"--{key}"),
            (environment.get(variable) or None, variable),
            (in_file.get(key), str(path)),
        ):
            applies = key == "server" or origin != str(path) or _is_for(found["server"], in_file)
            if value is not None and applies:
                found[key] = Setting(value, origin)
                break
    try:
        address = parse_address(found["server"].value)
    except ValueError as error:
        raise ConfigError(f"{found['server'].origin}: {error}") from error
    if "token" not in found or found["token"].origin == str(path):
        stored = StoredTokens(environment).find(address)
        if stored:
            found["token"] = Setting(stored, "ingot login")
    return found


def _is_for(server: Setting, in_file: Mapping[str, str]) -> bool:
    """Return whether the values of the file may be used for `server`."""
    try:
        return parse_address(server.value) == parse_address(in_file.get("server", DEFAULT_ADDRESS))
    except ValueError:
        return False


def _parse_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not name or not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:VALUE")
    return name.strip(), value.strip()
