"""Turns yt-dlp's info dict into the messages that the extraction child sends.

Texts from the site are cut to a maximum length. URLs are http or https, or empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ingot_server.extractor import audio_tracks, formats
from ingot_server.extractor.protocol import Request

_MAX_TEXT: Final = 100_000
_MAX_NAME: Final = 4000
_MAX_URL_BYTES: Final = 8192
_MAX_ITEMS: Final = 1000


def resolved(info: Mapping[str, Any], identity: str, request: Request) -> dict[str, Any]:
    """Return the message for one media item; `identity` is its id among those of its extractor."""
    parts = formats.taken(info)
    return {
        "kind": "resolved",
        "extractor": _name(info.get("extractor_key") or info.get("extractor")),
        "extractor_id": _id(info.get("id")),
        "identity": _id(identity),
        "title": _name(info.get("title")),
        "description": _text(info.get("description")),
        "tags": [_name(tag) for tag in (info.get("tags") or [])[:_MAX_ITEMS]],
        "uploader": _name(info.get("uploader") or info.get("channel") or info.get("creator")),
        "publish_time": _published(info),
        "duration": _number(info.get("duration")),
        "thumbnail_url": _web(info.get("thumbnail")),
        "page_url": page_of(info),
        "chapters": [
            {
                "title": _name(chapter.get("title")),
                "start": _number(chapter.get("start_time")) or 0.0,
                "end": _number(chapter.get("end_time")) or 0.0,
            }
            for chapter in (info.get("chapters") or [])[:_MAX_ITEMS]
        ],
        "is_live": bool(info.get("is_live")),
        "size_bytes": formats.size_bytes(info),
        "audio": [
            {
                "language": audio_tracks.language(part),
                "role": audio_tracks.role(part, info.get("formats") or ()),
            }
            for part in parts
            if part.get("acodec") != "none"
        ],
        "format_id": "+".join(_text(part.get("format_id")) for part in parts)[:500],
        "format_reason": _name(formats.reason(info, request.wanted)),
    }


def listed(found: Mapping[str, Any], entries: list[Any], asked: str) -> dict[str, Any]:
    """Return the message for a list: its entries, without the list's own URL `asked`."""
    known: dict[str, dict[str, Any]] = {}
    for entry in entries:
        flat = str(entry.get("_type", "video")).startswith("url")
        choices = [entry.get("url" if flat else "webpage_url"), entry.get("url")]
        choices += [part.get("url") for part in entry.get("formats") or ()][-1:]
        url = next((one for one in map(_web, choices) if one and one != asked), "")
        if url:
            described = {
                "url": url,
                "title": _name(entry.get("title")),
                "duration": _number(entry.get("duration")),
                "publish_time": _published(entry),
                "live_status": _name(entry.get("live_status")),
            }
            known.setdefault(url, described)
    return {
        "kind": "entries",
        "title": _name(found.get("title")),
        "extractor": _name(found.get("extractor_key") or found.get("extractor")),
        "extractor_id": _id(found.get("id")),
        "entries": list(known.values()),
        "total": max(int(found.get("playlist_count") or 0), len(known)),
    }


def page_of(info: Mapping[str, Any]) -> str:
    """Return the URL of the page that shows the media; empty if the info dict has none."""
    return _web(info.get("webpage_url"))


def _published(info: Mapping[str, Any]) -> float | None:
    moment = _number(info.get("timestamp")) or _number(info.get("release_timestamp"))
    day = str(info.get("upload_date") or "")
    if moment is None and re.fullmatch(r"\d{8}", day):
        try:
            moment = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).timestamp()
        except ValueError:
            return None
    return moment


def _number(value: object) -> float | None:
    if isinstance(value, (int, float)) and 0 <= value < 1e11:
        return float(value)
    return None


def _text(value: object) -> str:
    text = "" if value is None else str(value)
    return text.encode(errors="replace").decode()[:_MAX_TEXT].replace("\0", "")


def _name(value: object) -> str:
    return _text(value)[:_MAX_NAME]


def _id(value: object) -> str:
    """Return an id; empty for one that is too long to be one, as a part of it may be another's."""
    text = _text(value)
    return text if len(text) <= _MAX_NAME else ""


def _web(value: object) -> str:
    """Return an http or https URL; empty for any other scheme, and for a URL that is too long."""
    text = _text(value).partition("#__youtubedl_smuggle")[0]  # data for another extractor
    if len(text.encode()) > _MAX_URL_BYTES:
        return ""
    return text if re.match(r"https?://", text, re.IGNORECASE) else ""
