"""The command `ingot`: read the command line, run the command, return its exit code.

0 is success, 1 failure or not found, 2 wrong usage, 130 ended by Ctrl-C, 141 a closed output pipe.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from ingot.arguments import build_parser
from ingot.completion_command import run_completion
from ingot.config_command import run_config
from ingot.config_file import ConfigError
from ingot.log import show_log
from ingot.login_command import run_login, run_logout
from ingot.server_options import VARIABLES, find_settings
from ingot.trace_context import trace_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, by default that of the program, and return its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    _set_global_options(options)
    if options.command == "completion":
        return run_completion(parser, options)
    try:
        if options.command == "config":
            return run_config(options, os.environ)
        settings = find_settings(options, os.environ)
        if options.command == "logout":
            return run_logout(settings["server"].value, os.environ)
    except ConfigError as error:
        parser.error(str(error))
    for key in VARIABLES:
        setattr(options, key, settings[key].value if key in settings else "")

    _prepare_output()
    # gRPC would otherwise write its own log between the lines of a command while a server restarts.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if options.verbose:
        show_log()
    if options.command == "login":
        return run_login(options, os.environ)
    from ingot import commands  # gRPC is slow to load, and `--help` does not need it

    try:
        return asyncio.run(commands.run_command(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python flushes stdout when it exits, and would report the closed pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _set_global_options(options: Namespace) -> None:
    """Set the global options that were not given, and join the headers from all places."""
    for name in ("json", "quiet", "verbose", "allow_plaintext_token"):
        setattr(options, name, getattr(options, name, False))
    options.headers = [
        *trace_of(os.environ),
        *(header for name in ("first_headers", "headers") for header in getattr(options, name, [])),
    ]


def _prepare_output() -> None:
    """Keep the program from failing because of a closed output or an unprintable character."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the program was started with this output closed
            devnull = Path(os.devnull).open("w")  # noqa: SIM115 - until the program ends
            setattr(sys, name, devnull)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A title may have characters that the terminal's encoding does not have.
        sys.stdout.reconfigure(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
