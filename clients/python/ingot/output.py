"""The results that a command prints on stdout: text for people, or protobuf JSON."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import TypeVar

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from ingot import render

AnyMessage = TypeVar("AnyMessage", bound=Message)
Row = tuple[str, ...]


def write(options: Namespace, message: AnyMessage, as_text: Callable[[AnyMessage], str]) -> None:
    """Print one message, as JSON with `--json`."""
    if options.json:
        write_json(message)
    else:
        write_text(as_text(message))


def write_table(
    options: Namespace,
    messages: Iterable[AnyMessage],
    columns: Row,
    as_row: Callable[[AnyMessage], Row],
) -> None:
    """Print messages as a table with a heading; with `--json` one JSON message per line."""
    if options.json:
        for message in messages:
            write_json(message)
    else:
        write_text(render.table([columns, *map(as_row, messages)]))


async def write_stream_table(
    options: Namespace,
    messages: AsyncGenerator[AnyMessage, None],
    columns: Row,
    as_row: Callable[[AnyMessage], Row],
    *,
    limit: int | None = None,
) -> None:
    """Print the messages of a stream like `write_table`; JSON is printed as it arrives.

    At most `limit` messages are read; None means all.
    """
    received = []
    left = limit
    async with aclosing(messages):
        async for message in messages:
            if options.json:
                write_json(message)
            else:
                received.append(message)
            left = left - 1 if left is not None else None
            if left == 0:
                break
    if not options.json:
        write_table(options, received, columns, as_row)


def write_json(message: Message) -> None:
    """Print a message as one line of JSON. The line is flushed, for readers of a pipe."""
    sys.stdout.write(MessageToJson(message, indent=None) + "\n")
    sys.stdout.flush()


def write_text(lines: str) -> None:
    """Print lines for people."""
    sys.stdout.write(lines + "\n")
    sys.stdout.flush()
