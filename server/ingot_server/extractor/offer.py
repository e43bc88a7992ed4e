"""What a source offers, for a preview: all formats, and whether they are available now.

It runs in the extraction child.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ingot_server.extractor.audio_tracks import role
from ingot_server.extractor.formats import codec_name
from ingot_server.languages import language_tag

_MAX_FORMATS: Final = 300
_MAX_TEXT: Final = 100
_MOST: Final = 2**31 - 1


def offer(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is added to the message for one media item if it is a preview."""
    formats = [each for each in info.get("formats") or () if _has_media(each)]
    return {
        "formats": [_format(each, formats) for each in formats[-_MAX_FORMATS:]],
        "is_upcoming": info.get("live_status") == "is_upcoming",
        "start_time": _number(info.get("release_timestamp"), 1e11),
    }


def _format(found: Mapping[str, Any], offered: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    language = _text(found.get("language"))
    size = _number(found.get("filesize"), 1e18)
    return {
        "format_id": _text(found.get("format_id")),
        "extension": _text(found.get("ext")),
        "video_codec": _text(codec_name(found.get("vcodec"))),
        "audio_codec": _text(codec_name(found.get("acodec"))),
        "width": int(_number(found.get("width")) or 0),
        "height": int(_number(found.get("height")) or 0),
        "fps": _number(found.get("fps"), 10_000),
        "audio_role": "UNSPECIFIED" if found.get("acodec") == "none" else role(found, offered),
        "language": language_tag(language) or language,
        "bitrate_bps": round(1000 * (_number(found.get("tbr")) or 0)),
        "size_bytes": int(size) if size else None,
    }


def _has_media(found: Mapping[str, Any]) -> bool:
    return found.get("vcodec") != "none" or found.get("acodec") != "none"


def _text(value: object) -> str:
    text = "" if value is None else str(value)
    return text.encode(errors="replace").decode()[:_MAX_TEXT]


def _number(value: object, most: float = _MOST) -> float | None:
    return value if isinstance(value, (int, float)) and 0 < value <= most else None
