"""The command `completion`: a script with which a shell completes the command line of `ingot`.

The script has all commands and options in it, so completing starts no Python.
"""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import Final

SHELLS: Final = ("bash", "zsh", "fish")

_FILES: Final = frozenset({"FILE"})
"""What stands for the name of a file in the usage of a command."""

# With an empty list of words instead of none, zsh completes options before the first argument too.
_NOTHING: Final = {"zsh": "()"}


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add the shell."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads the script")


def run_completion(parser: argparse.ArgumentParser, options: Namespace) -> int:
    """Print the script for `options.shell`, and return the exit code."""
    import shtab  # only this command needs it

    for action in _actions(parser):
        if action.choices is None:
            names_file = action.metavar in _FILES
            action.complete = shtab.FILE if names_file else _NOTHING  # type: ignore[attr-defined]
    sys.stdout.write(shtab.complete(parser, shell=options.shell) + "\n")
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of all its commands."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other list of them
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for command in action.choices.values():
                yield from _actions(command)
