"""Manifests as the first builds of Ingot 0.1.0 wrote them: the Media itself, without a version.

Some of its fields had other names and types. What is converted here is read as any manifest is, and
gets today's schema version when it is next written.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

_LARGEST_DENOMINATOR: Final = 1001
"""That of the frame rates of NTSC, such as 30000/1001."""


def is_early_manifest(stored: Mapping[str, Any]) -> bool:
    """Tell whether the JSON object is a Media, and not a Manifest."""
    return "blob" in stored and not {"media", "tombstone"} & stored.keys()


def from_early_manifest(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Manifest, as a JSON object that still has to be parsed."""
    media = {name: value for name, value in stored.items() if name != "freshness"}
    media["video"] = [_stream(stream) for stream in media.get("video", [])]
    media["audio"] = [_stream(stream) for stream in media.get("audio", [])]
    freshness = stored.get("freshness")
    if not freshness:
        return {"media": media}
    version = {name: value for name, value in freshness.items() if name != "validateTime"}
    return {
        "media": media,
        "sourceVersion": {**version, "confirmTime": freshness.get("validateTime")},
    }


def _stream(stream: Mapping[str, Any]) -> dict[str, Any]:
    converted = dict(stream)
    if "bitRate" in converted:
        converted["bitrateBps"] = converted.pop("bitRate")
    rate = converted.get("frameRate")
    if isinstance(rate, int | float):
        exact = Fraction(rate).limit_denominator(_LARGEST_DENOMINATOR)
        converted["frameRate"] = {"numerator": exact.numerator, "denominator": exact.denominator}
    return converted
