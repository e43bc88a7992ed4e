"""Parses an HLS media playlist (RFC 8216, section 4.3) into segments for yt-dlp's downloader.

EXT-X-GAP is of the second edition (draft-pantos-hls-rfc8216bis, section 4.4.4.7).
"""

from __future__ import annotations

import binascii
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin

from yt_dlp.utils import parse_m3u8_attributes

from ingot_server.extractor.presentation import (
    MAX_FRAGMENTS,
    Incomplete,
    LiveStream,
    Part,
    Track,
    Unreadable,
)

# By how much rounding to whole seconds (before version 3 of the protocol) changes a length.
_ROUNDING_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Segment:
    """One media segment."""

    sequence: int
    seconds: float
    fragment: Mapping[str, Any]
    """`url`, `decrypt_info`, `byte_range`, `media_sequence`."""
    initialization: Mapping[str, Any] | None
    """The same for its initialization section; None if it needs none."""
    part: int = 0
    """Changes at each EXT-X-DISCONTINUITY, where the timestamps may start again."""


@dataclass(slots=True)
class Playlist:
    """A media playlist as it was at one moment."""

    target_seconds: float
    segments: list[Segment]
    ended: bool
    """Whether the playlist is complete: no segment will be added."""
    gaps: list[float] = field(default_factory=list)
    """The length of each segment that is missing at the source (EXT-X-GAP)."""
    i_frames_only: bool = False
    """Whether these are only pictures for fast forward."""
    rounding_seconds: float = 0.0
    """By how much the sum of the lengths may be wrong because they are rounded or not given."""


def track(playlist: Playlist, *, ended: bool) -> Track:
    """Return what a playlist that is not recorded consists of.

    `ended` says that the stream is over, even if the playlist does not say so.
    """
    if playlist.i_frames_only:
        what = "The HLS playlist has only pictures for fast forward (EXT-X-I-FRAMES-ONLY)"
        return Track(error=Unreadable(what))
    if playlist.gaps:
        missing = f"{len(playlist.gaps)} segments, {sum(playlist.gaps):g} s in all,"
        return Track(error=Incomplete(f"The HLS playlist says that {missing} do not exist"))
    if not (playlist.ended or ended):
        return Track(error=LiveStream("The HLS playlist says that more segments will follow"))
    if len(playlist.segments) > MAX_FRAGMENTS:
        return Track(error=Unreadable(f"The HLS playlist has more than {MAX_FRAGMENTS} segments"))
    lengths = {segment.seconds for segment in playlist.segments}
    # Where all are said to be equally long, the last one seldom is.
    rounding = playlist.rounding_seconds + (max(lengths) if len(lengths) == 1 else 0)
    parts = []
    for _, group in itertools.groupby(playlist.segments, lambda segment: segment.part):
        segments = list(group)
        fragments = [segment.fragment for segment in segments]
        ends = list(itertools.accumulate(segment.seconds for segment in segments))
        places: list[float | None] = [0.0, *ends[:-1]]
        if segments[0].initialization:
            fragments.insert(0, segments[0].initialization)
            places.insert(0, None)
        parts.append(Part(tuple(fragments), ends[-1], places=tuple(places)))
    return Track(tuple(parts), rounding_seconds=rounding)


def parse(text: str, url: str) -> Playlist:
    """Parse the playlist `text` of `url`. Broken and unknown lines are ignored."""
    reader = _Reader(url)
    for line in map(str.strip, text.splitlines()):
        if not line.startswith("#"):
            if line:
                reader.add_segment(line)
            continue
        tag, _, value = line.partition(":")
        read = _TAGS.get(tag)
        if read is not None:
            read(reader, value)
    return reader.playlist


class _Reader:
    """What the tags so far say about the next segment."""

    def __init__(self, url: str) -> None:
        self.playlist = Playlist(target_seconds=10.0, segments=[], ended=False)
        self._url = url
        self._sequence = self._part = self._offset = 0
        self._length = ""
        self._key: dict[str, Any] = {"METHOD": "NONE"}
        self._range: dict[str, int] = {}
        self._initialization: Mapping[str, Any] | None = None
        self._is_gap = self._is_advertisement = False

    def add_segment(self, uri: str) -> None:
        seconds = _number(self._length)
        if self._is_gap:
            self.playlist.gaps.append(seconds)
        elif not self._is_advertisement:
            if "." not in self._length:
                self.playlist.rounding_seconds += _ROUNDING_SECONDS
            if not seconds:
                seconds = self.playlist.target_seconds
                self.playlist.rounding_seconds += seconds
            place = urljoin(self._url, uri)
            fragment = _fragment(place, self._key, self._range, self._sequence)
            self.playlist.segments.append(
                Segment(self._sequence, seconds, fragment, self._initialization, self._part)
            )
        self._sequence += 1
        self._length, self._is_gap = "", False
        self._offset, self._range = self._range.get("end", 0), {}

    def length(self, value: str) -> None:
        self._length = value.partition(",")[0].strip()

    def target(self, value: str) -> None:
        self.playlist.target_seconds = _number(value) or self.playlist.target_seconds

    def sequence(self, value: str) -> None:
        self._sequence = int(_number(value))

    def byte_range(self, value: str) -> None:
        self._range = _range(value, self._offset)

    def key(self, value: str) -> None:
        self._key = _key(parse_m3u8_attributes(value), self._url)

    def initialization(self, value: str) -> None:
        found = parse_m3u8_attributes(value)
        place = _range(found["BYTERANGE"], 0) if found.get("BYTERANGE") else {}
        section = _fragment(urljoin(self._url, found.get("URI", "")), self._key, place, 0)
        if self._initialization is not None and self._initialization != section:
            self._part += 1
        self._initialization = section

    def discontinuity(self, _value: str) -> None:
        self._part += 1

    def gap(self, _value: str) -> None:
        self._is_gap = True

    def i_frames(self, _value: str) -> None:
        self.playlist.i_frames_only = True

    def kind(self, value: str) -> None:
        self.playlist.ended = self.playlist.ended or value == "VOD"

    def end(self, _value: str) -> None:
        self.playlist.ended = True

    def anvato(self, value: str) -> None:
        if "type=ad" in value or "type=master" in value:
            self._is_advertisement = "type=ad" in value

    def uplynk(self, value: str) -> None:
        if value.endswith((",ad", ",segment")):
            self._is_advertisement = value.endswith(",ad")


_TAGS: Final[Mapping[str, Callable[[_Reader, str], None]]] = {
    "#EXTINF": _Reader.length,
    "#EXT-X-TARGETDURATION": _Reader.target,
    "#EXT-X-MEDIA-SEQUENCE": _Reader.sequence,
    "#EXT-X-BYTERANGE": _Reader.byte_range,
    "#EXT-X-KEY": _Reader.key,
    "#EXT-X-MAP": _Reader.initialization,
    "#EXT-X-DISCONTINUITY": _Reader.discontinuity,
    "#EXT-X-GAP": _Reader.gap,
    "#EXT-X-I-FRAMES-ONLY": _Reader.i_frames,
    "#EXT-X-PLAYLIST-TYPE": _Reader.kind,
    "#EXT-X-ENDLIST": _Reader.end,
    # Advertisements that are no part of the media, as yt-dlp knows them.
    "#ANVATO-SEGMENT-INFO": _Reader.anvato,
    "#UPLYNK-SEGMENT": _Reader.uplynk,
}


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
