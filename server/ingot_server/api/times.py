"""Times and durations in messages that no rule of the contract limits: those out of their range."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

_TIME: Final = "must be a time of the years 1 to 9999, with 0 to 999999999 nanoseconds"
_DURATION: Final = (
    "must be a duration of at most 10000 years, with at most 999999999 nanoseconds of the same sign"
)


def invalid_times(message: Message, at: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path of each value out of its range (timestamp.proto, duration.proto), and why."""
    if not _may_have_times(message.DESCRIPTOR):
        return
    for field, value in message.ListFields():
        kind = field.message_type
        if kind is None or kind.GetOptions().map_entry:
            continue
        path = at + field.name
        if field.is_repeated:
            for number, each in enumerate(value):
                yield from _of(each, f"{path}[{number}]")
        else:
            yield from _of(value, path)


def _of(value: Message, path: str) -> Iterator[tuple[str, str]]:
    try:
        if isinstance(value, Timestamp | Duration):
            value.ToJsonString()
        else:
            yield from invalid_times(value, path + ".")
    except (ValueError, OverflowError):
        yield path, _TIME if isinstance(value, Timestamp) else _DURATION


@cache
def _may_have_times(kind: Descriptor) -> bool:
    """Return whether a message of this kind can have one in it. No message contains itself."""
    return any(
        each in {Timestamp.DESCRIPTOR, Duration.DESCRIPTOR} or _may_have_times(each)
        for field in kind.fields
        if (each := field.message_type) is not None
    )
