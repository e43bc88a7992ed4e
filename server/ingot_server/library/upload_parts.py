"""The parts of an upload: the names of their objects, and the bytes that they hold together.

    <offset, 20 digits>           appended by an API server, never replaced
    <offset, 20 digits>-<size>    sent to a signed link, which may be done again

All parts of an upload come from one file. So where parts overlap, it does not matter which of them
is read. A part that was sent to a link counts only if it has the size in its name; that of another
size has another name, and so a part that arrives late never takes the place of a longer one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

LARGEST_LINK_PART_BYTES: Final = 64 << 20
_NAME: Final = re.compile(r"(\d{20})(?:-(\d{1,20}))?")


@dataclass(frozen=True, slots=True)
class Part:
    """One stored part."""

    name: str
    """The name of its object in the folder of the upload."""
    offset: int
    size_bytes: int

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.offset + self.size_bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """The bytes of one part that continue the file."""

    name: str
    """The name of the part's object."""
    skip: int
    """How many bytes of the part come before."""
    size_bytes: int


def appended_name(offset: int) -> str:
    """Return the name of a part that an API server appends."""
    return f"{offset:020}"


def linked_name(offset: int, size_bytes: int) -> str:
    """Return the name of a part that is sent to a signed link."""
    return f"{offset:020}-{size_bytes}"


def linked_bytes(parts: Iterable[Part]) -> int:
    """Return how many bytes were sent to signed links."""
    return sum(part.size_bytes for part in parts if part.name != appended_name(part.offset))


def parse_part(name: str, size_bytes: int) -> Part | None:
    """Return the part in an object; None for any other object, and for a part without its size."""
    match = _NAME.fullmatch(name)
    if match is None or not size_bytes or int(match[2] or size_bytes) != size_bytes:
        return None
    return Part(name, int(match[1]), size_bytes)


def file_segments(parts: Iterable[Part]) -> tuple[Segment, ...]:
    """Return what to read of the parts for the file from its beginning to the first gap."""
    ordered = sorted(parts, key=lambda part: part.offset)
    segments: list[Segment] = []
    position = number = 0
    while True:
        furthest: Part | None = None
        while number < len(ordered) and ordered[number].offset <= position:
            if furthest is None or ordered[number].end > furthest.end:
                furthest = ordered[number]
            number += 1
        if furthest is None or furthest.end <= position:
            return tuple(segments)
        segments.append(Segment(furthest.name, position - furthest.offset, furthest.end - position))
        position = furthest.end


def stored_ranges(parts: Iterable[Part]) -> list[range]:
    """Return the bytes that parts hold, ascending; what touches or overlaps is one range."""
    ranges: list[range] = []
    for part in sorted(parts, key=lambda part: part.offset):
        if ranges and part.offset <= ranges[-1].stop:
            ranges[-1] = range(ranges[-1].start, max(ranges[-1].stop, part.end))
        else:
            ranges.append(range(part.offset, part.end))
    return ranges
