"""The commands `login` and `logout`: a token is asked for, checked, and kept for one server."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
from argparse import Namespace
from collections.abc import Mapping

from ingot.address import parse_address
from ingot.config_file import ConfigError
from ingot.stored_tokens import StoredTokens


def add_login(parser: argparse.ArgumentParser) -> None:
    """Describe where the token comes from."""
    parser.epilog = (
        "The token is read from the terminal without being shown, or from stdin if that is none."
    )


def run_login(options: Namespace, environment: Mapping[str, str]) -> int:
    """Ask for a token, call the server with it, keep it; return the exit code."""
    token = getpass.getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
    if not token:
        sys.stderr.write("ingot: The token is empty.\n")
        return 2
    options.token = token
    code = asyncio.run(_check(options))
    if code:
        return code
    try:
        where = StoredTokens(environment).store(parse_address(options.server), token)
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"ingot: The token cannot be kept: {_explained(error)}\n")
        return 1
    if not options.quiet:
        sys.stderr.write(f"The token for {options.server} is in {where}.\n")
    if environment.get("INGOT_TOKEN"):
        sys.stderr.write("INGOT_TOKEN is set, and commands use that one instead.\n")
    return 0


def run_logout(server: str, environment: Mapping[str, str]) -> int:
    """Forget the token of `server`; return the exit code."""
    try:
        found = StoredTokens(environment).remove(parse_address(server))
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"ingot: The token cannot be removed: {_explained(error)}\n")
        return 1
    if not found:
        sys.stderr.write(f"ingot: There is no token of `ingot login` for {server}.\n")
    return 0 if found else 1


def _explained(error: ConfigError | OSError) -> str:
    return f"{error.strerror}." if isinstance(error, OSError) else str(error)


async def _check(options: Namespace) -> int:
    """Make a call that reads; return the exit code of a command that made it."""
    from ingot import commands  # gRPC is slow to load

    return await commands.check_token(options)
