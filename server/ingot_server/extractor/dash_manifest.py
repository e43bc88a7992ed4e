"""Reads which tracks a DASH manifest has, over all of its periods (ISO/IEC 23009-1:2019). Pure.

yt-dlp reads what a representation is: codecs, size, language. This module reads what it consists
of: its segments in every period, however they are addressed (`dash_segments.py`). The formats are
the representations of the longest period, the others are taken for inserted advertisements. A
track goes on in another period with the representation that is like it; if there is none, its
error says so.
"""

from __future__ import annotations

import copy
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Final
from urllib.parse import urljoin
from xml.etree.ElementTree import Element

from ingot_server.extractor.dash_segments import Place, part
from ingot_server.extractor.presentation import (
    MAX_FRAGMENTS,
    Part,
    Track,
    Unjoinable,
    Unreadable,
)

_LENGTH: Final = re.compile(
    r"P(?:([\d.]+)Y)?(?:([\d.]+)M)?(?:([\d.]+)D)?"
    r"(?:T(?:([\d.]+)H)?(?:([\d.]+)M)?(?:([\d.]+)S)?)?"
)
_UNITS: Final = (31_536_000, 2_592_000, 86_400, 3600, 60, 1)
_HREF: Final = "{http://www.w3.org/1999/xlink}href"
_NOTHING: Final = "urn:mpeg:dash:resolve-to-zero:2013"
_TRICK_MODE: Final = "trickmode"
_SEGMENTS: Final = ("SegmentTemplate", "SegmentList", "SegmentBase")
_MAX_PERIODS: Final = 500
_MAX_REMOTE: Final = 50


@dataclass(frozen=True, slots=True)
class Manifest:
    """A DASH manifest that was read."""

    document: Element
    """The manifest for yt-dlp: the longest period alone, and the places in `names` as ids."""
    names: dict[str, str | None]
    """The id of each representation in `document`, and the one that it has in the manifest."""
    tracks: dict[str, Track]
    """The tracks of audio and video, by the id of their representation in `document`."""
    is_live: bool
    """Whether segments will still be added."""


@dataclass(frozen=True, slots=True)
class _Period:
    element: Element
    seconds: Fraction | None


def read(document: Element, url: str, load: Callable[[str], Element]) -> Manifest:
    """Read the manifest `document` of `url`.

    `load` returns an element whose children are the remote elements of a URL. Raises Unreadable.
    """
    document = copy.deepcopy(document)
    _load_remote(document, url, load)
    periods = _periods(document)
    main = max(periods, key=lambda each: each.seconds or 0)
    for period in periods:
        if period is not main:
            document.remove(period.element)
        for adaptation in period.element.findall("{*}AdaptationSet"):
            if _is_trick_mode(adaptation):
                period.element.remove(adaptation)
    base = _base_url(urljoin(url, "."), document)
    whole = float(_seconds(document.get("mediaPresentationDuration")) or 0)
    tracks, names = {}, {}
    for number, place in enumerate(_places(main, base)):
        identity = str(number)
        if _kind(place) in {"audio", "video"}:
            tracks[identity] = _track(place, main, periods, base, whole)
        names[identity] = place.levels[-1].get("id")
    _simplify(main, tracks, base)
    return Manifest(document, names, tracks, _is_live(document))


def _is_live(document: Element) -> bool:
    updates = document.get("minimumUpdatePeriod") or not document.get("mediaPresentationDuration")
    return document.get("type") == "dynamic" and bool(updates)


def _load_remote(document: Element, url: str, load: Callable[[str], Element]) -> None:
    """Replace periods and other elements that are elsewhere (5.5), one level deep."""
    loaded = 0
    for parent in list(document.iter()):
        for child in list(parent):
            href = child.get(_HREF)
            if href is None:
                continue
            place = list(parent).index(child)
            parent.remove(child)
            if href == _NOTHING:
                continue
            loaded += 1
            if loaded > _MAX_REMOTE:
                raise Unreadable(f"refers to more than {_MAX_REMOTE} remote elements")
            for offset, remote in enumerate(load(urljoin(url, href))):
                if remote.get(_HREF) not in {None, _NOTHING}:
                    raise Unreadable("has remote elements that refer to others")
                parent.insert(place + offset, remote)


def _periods(document: Element) -> list[_Period]:
    """Return the periods with their lengths (5.3.2.1)."""
    elements = document.findall("{*}Period")
    if not elements:
        raise Unreadable("has no periods")
    if len(elements) > _MAX_PERIODS:
        raise Unreadable(f"has {len(elements)} periods, and {_MAX_PERIODS} is the most")
    starts: list[Fraction | None] = []
    start: Fraction | None = Fraction(0)
    for element in elements:
        start = _seconds(element.get("start")) if element.get("start") else start
        starts.append(start)
        length = _seconds(element.get("duration"))
        start = None if start is None or length is None else start + length
    whole = _seconds(document.get("mediaPresentationDuration"))
    end = None if whole is None or starts[0] is None else starts[0] + whole
    found = []
    for element, (begin, following) in zip(elements, pairwise([*starts, end]), strict=True):
        length = _seconds(element.get("duration"))
        if length is None and begin is not None and following is not None and following > begin:
            length = following - begin
        if length is None or length > 0:
            found.append(_Period(element, length))
    return found


def _seconds(text: str | None) -> Fraction | None:
    """Return the seconds of an xs:duration; None if there is none."""
    found = _LENGTH.fullmatch(text.strip()) if text else None
    if found is None:
        return None
    numbers = [Fraction(number or 0) for number in found.groups()]
    return sum(map(operator.mul, numbers, _UNITS), Fraction(0))


def _base_url(outer: str, element: Element) -> str:
    found = element.find("{*}BaseURL")
    return urljoin(outer, (found.text or "").strip()) if found is not None else outer


def _places(period: _Period, base: str) -> Iterator[Place]:
    outer = _base_url(base, period.element)
    for adaptation in period.element.findall("{*}AdaptationSet"):
        inner = _base_url(outer, adaptation)
        for representation in adaptation.findall("{*}Representation"):
            levels = (period.element, adaptation, representation)
            yield Place(levels, _base_url(inner, representation), period.seconds)


def _kind(place: Place) -> str:
    """Return `video`, `audio`, `text` or what else a representation is."""
    attributes = place.attributes
    kind = attributes.get("contentType") or attributes.get("mimeType", "").partition("/")[0]
    return kind if kind != "application" else "text"


def _is_trick_mode(adaptation: Element) -> bool:
    """Return whether an adaptation set has only the pictures for fast forward."""
    return any(
        _TRICK_MODE in each.get("schemeIdUri", "")
        for name in ("EssentialProperty", "SupplementalProperty")
        for each in adaptation.findall(f"{{*}}{name}")
    )


def _track(
    place: Place, main: _Period, periods: Sequence[_Period], base: str, whole_seconds: float
) -> Track:
    parts = []
    try:
        for number, period in enumerate(periods, 1):
            found = place if period is main else _like(place, period, base, number)
            if found is None:
                parts.append(Part((), float(period.seconds or 0)))
            else:
                parts.append(part(found))
        if sum(len(each.fragments) for each in parts) > MAX_FRAGMENTS:
            raise Unreadable(f"has more than {MAX_FRAGMENTS} segments")
    except Unjoinable as error:
        return Track(error=error)
    except Unreadable as error:
        return Track(error=Unreadable(f"A representation of the DASH manifest {error}"))
    except (ArithmeticError, KeyError, ValueError) as error:
        what = f"A representation of the DASH manifest is malformed: {error!r}"
        return Track(error=Unreadable(what))
    return Track(tuple(parts), whole_seconds=whole_seconds, is_timed=True)


def _like(place: Place, period: _Period, base: str, number: int) -> Place | None:
    """Return the representation that continues the one at `place` in another period.

    None if the period has nothing of this kind. Raises Unjoinable.
    """
    others = [each for each in _places(period, base) if _kind(each) == _kind(place)]
    if not others:
        return None
    looks = _looks(place)
    alike = [each for each in others if _can_follow(looks, _looks(each))]
    if not alike:
        raise Unjoinable(
            f"Period {number} of the DASH presentation has {_kind(place)} in "
            f"{_named(_looks(others[-1]))}, and the longest one in {_named(looks)}. They cannot be "
            "one file without encoding them again."
        )
    wanted = place.attributes
    return min(
        alike,
        key=lambda each: (
            each.attributes.get("lang") != wanted.get("lang"),
            each.attributes.get("id") != wanted.get("id"),
            abs(_number(each, "bandwidth") - _number(place, "bandwidth")),
        ),
    )


def _looks(place: Place) -> tuple[str, str]:
    """Return the family of the codecs, and the size or the sampling rate; empty if unknown."""
    attributes = place.attributes
    codec = attributes.get("codecs", "").partition(".")[0].lower()
    codec = {"avc3": "avc1", "hev1": "hvc1", "vp09": "vp9"}.get(codec, codec)
    width, height = attributes.get("width"), attributes.get("height")
    size = f"{width}x{height}" if width and height else ""
    return codec, size or attributes.get("audioSamplingRate", "")


def _can_follow(one: tuple[str, str], other: tuple[str, str]) -> bool:
    return all(a == b or not (a and b) for a, b in zip(one, other, strict=True))


def _named(looks: tuple[str, str]) -> str:
    return " ".join(filter(None, looks)) or "an unknown format"


def _number(place: Place, name: str) -> int:
    text = place.attributes.get(name, "")
    return int(text) if text.isdecimal() else 0


def _simplify(main: _Period, tracks: dict[str, Track], base: str) -> None:
    """Number the representations, and remove what yt-dlp would misread of those with a track."""
    for number, place in enumerate(list(_places(main, base))):
        period, adaptation, representation = place.levels
        if str(number) in tracks:
            for level in (adaptation, representation):
                for name in _SEGMENTS:
                    for element in level.findall(f"{{*}}{name}"):
                        level.remove(element)
            for element in period.findall("{*}SegmentList"):
                period.remove(element)
        representation.set("id", str(number))
