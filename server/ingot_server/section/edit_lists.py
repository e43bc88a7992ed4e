"""Edit lists of MP4 files, which say what of a track is shown (ISO/IEC 14496-12, 8.6.6).

FFmpeg writes one for each track. It can begin a track between key frames, but not end it before the
last packet.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

_HEADER: Final = struct.Struct(">I4s")
_LARGE_SIZE: Final = struct.Struct(">Q")
_COUNT: Final = struct.Struct(">I")
# By version: where a movie header has its time scale; where it, and a track header, has the length.
_TIME_SCALE_AT: Final = (12, 20)
_MOVIE_LENGTH_AT: Final = (16, 24)
_TRACK_LENGTH_AT: Final = (20, 28)
_LENGTH: Final = (struct.Struct(">I"), struct.Struct(">Q"))
# The length of an entry of an edit list, which begins with how long it is shown.
_ENTRY_BYTES: Final = (12, 20)


@dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    begin: int
    """Where its content begins in the file."""
    end: int


def end_tracks(path: str, seconds: float) -> None:
    """Let no track of the MP4 file at `path` be shown for longer than `seconds`. Raises OSError."""
    with Path(path).open("r+b") as file:
        movie = next(box for box in _boxes(file, 0, None) if box.kind == b"moov")
        inside = list(_boxes(file, movie.begin, movie.end))
        header = next(box for box in inside if box.kind == b"mvhd")
        scale = _read(file, header.begin + _TIME_SCALE_AT[_version(file, header)], _COUNT)
        longest = round(seconds * scale)
        _shorten(file, header, _MOVIE_LENGTH_AT, longest)
        for track in inside:
            if track.kind == b"trak":
                _end_track(file, track, longest)


def _end_track(file: BinaryIO, track: _Box, longest: int) -> None:
    for box in _boxes(file, track.begin, track.end):
        if box.kind == b"tkhd":
            _shorten(file, box, _TRACK_LENGTH_AT, longest)
        elif box.kind == b"edts":
            for edits in _boxes(file, box.begin, box.end):
                _end_edits(file, edits, longest)


def _end_edits(file: BinaryIO, edits: _Box, longest: int) -> None:
    version = _version(file, edits)
    left = longest
    for number in range(_read(file, edits.begin + 4, _COUNT)):
        place = edits.begin + 8 + number * _ENTRY_BYTES[version]
        shown = min(_read(file, place, _LENGTH[version]), left)
        _write(file, place, _LENGTH[version], shown)
        left -= shown


def _shorten(file: BinaryIO, header: _Box, places: tuple[int, int], longest: int) -> None:
    version = _version(file, header)
    place = header.begin + places[version]
    _write(file, place, _LENGTH[version], min(_read(file, place, _LENGTH[version]), longest))


def _boxes(file: BinaryIO, begin: int, end: int | None) -> Iterator[_Box]:
    """Yield the boxes between two places of a file; None is its end."""
    while end is None or begin < end:
        file.seek(begin)
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return
        size, kind = _HEADER.unpack(header)
        content = begin + _HEADER.size
        if size == 1:
            size = _read(file, content, _LARGE_SIZE)
            content += _LARGE_SIZE.size
        yield _Box(kind, content, begin + size)
        begin += size


def _version(file: BinaryIO, box: _Box) -> int:
    file.seek(box.begin)
    return file.read(1)[0]


def _read(file: BinaryIO, place: int, field: struct.Struct) -> int:
    file.seek(place)
    (value,) = field.unpack(file.read(field.size))
    return int(value)


def _write(file: BinaryIO, place: int, field: struct.Struct, value: int) -> None:
    file.seek(place)
    file.write(field.pack(value))
