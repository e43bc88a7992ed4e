"""What a command prints: its results on stdout, a line or a table each, or protobuf JSON."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import TypeVar

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

Shown = TypeVar("Shown", bound=Message)


def write(options: Namespace, message: Shown, as_text: Callable[[Shown], str]) -> None:
    """Prints `message` in the form that was asked for."""
    if options.json:
        write_json(message)
    else:
        write_text(as_text(message))


def write_json(message: Message) -> None:
    """Prints a message as one line; flushed, for whoever reads a pipe wants each when it comes."""
    sys.stdout.write(MessageToJson(message, indent=None) + "\n")
    sys.stdout.flush()


def write_text(lines: str) -> None:
    """Prints lines for people."""
    sys.stdout.write(lines + "\n")
    sys.stdout.flush()
