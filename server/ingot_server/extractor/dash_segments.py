"""The segments of one DASH representation in one period (ISO/IEC 23009-1:2019, 5.3.9). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final
from urllib.parse import urljoin
from xml.etree.ElementTree import Element

from ingot_server.extractor.presentation import MAX_FRAGMENTS, Fragment, Part, Unreadable

_IDENTIFIER: Final = re.compile(r"\$([A-Za-z]*)(?:%0?(\d{0,2})d)?\$")
# The lengths of periods are rounded: what is left after the last segment is not another one.
_ROUNDING: Final = Fraction(1, 1000)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a representation stands in its manifest."""

    levels: Sequence[Element]
    """The period, the adaptation set and the representation."""
    base_url: str
    seconds: Fraction | None
    """The length of the period; None if the manifest does not say."""

    @property
    def attributes(self) -> Mapping[str, str]:
        """The representation's attributes, with those that it inherits."""
        _, adaptation, representation = self.levels
        return {**adaptation.attrib, **representation.attrib}


@dataclass(frozen=True, slots=True)
class _Segment:
    """One segment. Its times are in ticks; a length of 0 is unknown."""

    time: int
    length: int
    fragment: Fragment


def part(place: Place) -> Part:
    """Return what a representation adds to its track.

    Raises Unreadable, and ArithmeticError, KeyError or ValueError if the manifest is malformed.
    """
    addressing = _Addressing.of(place)
    fragments: list[Fragment]
    places: list[float | None] = []
    if addressing.kind == "SegmentBase":
        seconds, fragments = place.seconds or Fraction(0), [{"url": place.base_url}]
    else:
        inside = [each for each in addressing.segments(place) if addressing.holds(each)]
        fragments = [each.fragment for each in inside]
        ticks = sum(each.length for each in inside)
        seconds = place.seconds or Fraction(ticks, addressing.timescale)
        if all(each.length for each in inside):
            places = [(each.time - addressing.begin) / addressing.timescale for each in inside]
        if fragments and addressing.initialization:
            fragments.insert(0, addressing.initialization)
            places = [None, *places] if places else []
    begins_at = addressing.begin / addressing.timescale
    return Part(tuple(fragments), float(seconds), begins_at, tuple(places))


@dataclass(frozen=True, slots=True)
class _Addressing:
    """How the segments are addressed. Numbers without a unit are in ticks of `timescale`."""

    kind: str
    """SegmentTemplate, SegmentList or SegmentBase."""
    attributes: Mapping[str, str]
    timeline: Element | None
    urls: Sequence[Element]
    initialization: Fragment | None
    timescale: int
    begin: int
    end: int | None
    """Where the period ends; None if the manifest does not say."""

    @classmethod
    def of(cls, place: Place) -> _Addressing:
        inner = list(reversed(place.levels))
        kinds = ("SegmentTemplate", "SegmentList", "SegmentBase")
        kind = next((kind for level in inner for kind in kinds if _has(level, kind)), kinds[-1])
        found = [each for level in inner if (each := level.find(f"{{*}}{kind}")) is not None]
        attributes = {name: text for each in reversed(found) for name, text in each.attrib.items()}
        timescale = _positive(attributes.get("timescale", "1"))
        begin = int(attributes.get("presentationTimeOffset", 0))
        seconds = place.seconds
        initialization = next(_children(found, "Initialization"), None)
        return cls(
            kind=kind,
            attributes=attributes,
            timeline=next(_children(found, "SegmentTimeline"), None),
            urls=next((urls for each in found if (urls := each.findall("{*}SegmentURL"))), ()),
            initialization=_initialization(place, attributes, initialization),
            timescale=timescale,
            begin=begin,
            end=None if seconds is None else begin + ceil((seconds - _ROUNDING) * timescale),
        )

    def segments(self, place: Place) -> Iterator[_Segment]:
        """Yield all segments that are addressed, also those outside the period."""
        if self.kind == "SegmentList":
            fragments = [
                _fragment(place, each.get("media", ""), each.get("mediaRange"))
                for each in self.urls
            ]
            times = self._times(len(fragments)) or [(self.begin, 0)] * len(fragments)
            if len(times) > len(fragments):
                raise Unreadable(f"lists {len(fragments)} of its {len(times)} segments")
            for (time, length), fragment in zip(times, fragments, strict=False):
                yield _Segment(time, length, fragment)
            return
        template = self.attributes["media"]
        number = int(self.attributes.get("startNumber", 1))
        for time, length in self._times(None) or [(self.begin, 0)]:
            url = _filled(template, place, {"Number": number, "Time": time})
            yield _Segment(time, length, _fragment(place, url))
            number += 1

    def holds(self, segment: _Segment) -> bool:
        """Return whether a segment is in the period, at least in part."""
        if not segment.length:
            return True
        begins_in_time = self.end is None or segment.time < self.end
        return begins_in_time and segment.time + segment.length > self.begin

    def _times(self, listed: int | None) -> list[tuple[int, int]]:
        """Return when each segment begins, and its length; empty if the manifest does not say.

        `listed` is the number of segments of a list.
        """
        if self.timeline is not None:
            return _timeline(self.timeline, self.end)
        if "duration" not in self.attributes:
            return []
        length = _positive(self.attributes["duration"])
        count = listed
        if count is None and "endNumber" in self.attributes:
            first = int(self.attributes.get("startNumber", 1))
            count = int(self.attributes["endNumber"]) - first + 1
        if count is None:
            if self.end is None:
                raise Unreadable("does not say how many segments it has")
            count = ceil(Fraction(self.end - self.begin, length))
        _check(count)
        return [(self.begin + number * length, length) for number in range(count)]


def _timeline(timeline: Element, end: int | None) -> list[tuple[int, int]]:
    """Return the time and the length of each segment of a SegmentTimeline (5.3.9.6)."""
    times: list[tuple[int, int]] = []
    entries = timeline.findall("{*}S")
    time = 0
    for entry, following in zip(entries, [*entries[1:], None], strict=True):
        time = int(entry.get("t", time))
        length, repeats = _positive(entry.attrib["d"]), int(entry.get("r", 0))
        if repeats < 0:
            # Up to the next entry, or to the end of the period.
            stop = following.get("t") if following is not None else end
            if stop is None:
                raise Unreadable("does not say where the repetition of its segments ends")
            repeats = max(0, ceil(Fraction(int(stop) - time, length)) - 1)
        _check(len(times) + repeats + 1)
        times += [(time + number * length, length) for number in range(repeats + 1)]
        time += (repeats + 1) * length
    return times


def _check(count: int) -> None:
    if count > MAX_FRAGMENTS:
        raise Unreadable(f"has {count} segments, and {MAX_FRAGMENTS} is the most that are fetched")


def _positive(text: str) -> int:
    number = int(text)
    if number <= 0:
        raise ValueError(f"{number} is not positive")
    return number


def _has(level: Element, name: str) -> bool:
    return level.find(f"{{*}}{name}") is not None


def _children(elements: Sequence[Element], name: str) -> Iterator[Element]:
    for element in elements:
        yield from element.findall(f"{{*}}{name}")


def _initialization(
    place: Place, attributes: Mapping[str, str], element: Element | None
) -> Fragment | None:
    if element is not None:
        return _fragment(place, element.get("sourceURL", ""), element.get("range"))
    template = attributes.get("initialization")
    return _fragment(place, _filled(template, place, {})) if template else None


def _fragment(place: Place, url: str, byte_range: str | None = None) -> Fragment:
    fragment: dict[str, object] = {"url": urljoin(place.base_url, url)}
    if byte_range:
        first, last = map(int, byte_range.split("-"))
        fragment["byte_range"] = {"start": first, "end": last + 1}
    return fragment


def _filled(template: str, place: Place, values: Mapping[str, int]) -> str:
    """Return the URL that a template stands for (5.3.9.4.4)."""
    known: dict[str, object] = {
        **values,
        "RepresentationID": place.attributes.get("id", ""),
        "Bandwidth": place.attributes.get("bandwidth", ""),
    }

    def value(found: re.Match[str]) -> str:
        name, width = found[1], found[2]
        if not name:
            return "$"
        if name not in known:
            raise Unreadable(f"uses ${name}$ in a template")
        return str(known[name]).zfill(int(width or 0))

    return _IDENTIFIER.sub(value, template)
