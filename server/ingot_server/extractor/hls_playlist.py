"""Parses an HLS media playlist (RFC 8216, section 4.3) into segments for yt-dlp's downloader."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from yt_dlp.utils import parse_m3u8_attributes


@dataclass(frozen=True, slots=True)
class Segment:
    """One media segment."""

    sequence: int
    seconds: float
    fragment: Mapping[str, Any]
    """`url`, `decrypt_info`, `byte_range`, `media_sequence`."""
    initialization: Mapping[str, Any] | None
    """The same for its initialization section; None if it needs none."""


@dataclass(frozen=True, slots=True)
class Playlist:
    """A media playlist as it was at one moment."""

    target_seconds: float
    segments: list[Segment]
    ended: bool
    """Whether the playlist is complete: no segment will be added."""


def parse(text: str, url: str) -> Playlist:
    """Parse the playlist `text` of `url`. Broken and unknown lines are ignored."""
    target, sequence, seconds, ended = 10.0, 0, 0.0, False
    key: dict[str, Any] = {"METHOD": "NONE"}
    ranged: dict[str, int] = {}
    offset = 0
    initialization: Mapping[str, Any] | None = None
    segments: list[Segment] = []
    for line in map(str.strip, text.splitlines()):
        tag, _, value = line.partition(":")
        if line and not line.startswith("#"):
            fragment = _fragment(urljoin(url, line), key, ranged, sequence)
            segments.append(Segment(sequence, seconds or target, fragment, initialization))
            sequence, seconds = sequence + 1, 0.0
            offset, ranged = ranged.get("end", 0), {}
        elif tag == "#EXTINF":
            seconds = _number(value.partition(",")[0])
        elif tag == "#EXT-X-TARGETDURATION":
            target = _number(value) or target
        elif tag == "#EXT-X-MEDIA-SEQUENCE":
            sequence = int(_number(value))
        elif tag == "#EXT-X-BYTERANGE":
            ranged = _range(value, offset)
        elif tag == "#EXT-X-KEY":
            key = _key(parse_m3u8_attributes(value), url)
        elif tag == "#EXT-X-MAP":
            found = parse_m3u8_attributes(value)
            place = _range(found["BYTERANGE"], 0) if found.get("BYTERANGE") else {}
            initialization = _fragment(urljoin(url, found.get("URI", "")), key, place, 0)
        elif tag == "#EXT-X-ENDLIST":
            ended = True
    return Playlist(target, segments, ended)


def _fragment(
    url: str, key: dict[str, Any], place: dict[str, int], sequence: int
) -> dict[str, Any]:
    return {
        "url": url,
        "decrypt_info": key,
        "byte_range": place,
        "media_sequence": sequence,
    }


def _key(found: dict[str, Any], url: str) -> dict[str, Any]:
    if found.get("METHOD") == "AES-128":
        found["URI"] = urljoin(url, found.get("URI", ""))
        if "IV" in found:
            found["IV"] = binascii.unhexlify(found["IV"][2:].zfill(32))
    return found


def _range(value: str, offset: int) -> dict[str, int]:
    length, _, start = value.strip('"').partition("@")
    begin = int(_number(start)) if start else offset
    return {"start": begin, "end": begin + int(_number(length))}


def _number(text: str) -> float:
    """Return a number of at least 0; anything that is not a number is 0."""
    try:
        return min(max(0.0, float(text)), 1e15)
    except ValueError:
        return 0.0
