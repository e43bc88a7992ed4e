"""What HLS and DASH manifests say about their audio, and yt-dlp leaves out.

It runs in the extraction child. Sources: RFC 8216, section 4.3.4.1 (EXT-X-MEDIA); ISO/IEC 23009-1,
section 5.8.5.5 (the role scheme of DASH); ETSI TS 103 285, section 6.1.2 (audio description).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import urljoin
from xml.etree.ElementTree import Element

import yt_dlp.extractor.common

from ingot_server.extractor.audio_tracks import ALTERNATE

_ROLES: Final = "urn:mpeg:dash:role:2011"
_PURPOSES: Final = "urn:tva:metadata:cs:AudioPurposeCS:2007"
_FOR_THE_BLIND: Final = "1"
_DESCRIBED: Final = "audio description"


def keep_audio_marks() -> None:
    """Make yt-dlp keep the audio that players take by themselves apart from the rest.

    The rest gets a lower `language_preference`, and its note says if it is described, dubbed or a
    commentary.
    """
    extractor = yt_dlp.extractor.common.InfoExtractor
    parse_hls = extractor._parse_m3u8_formats_and_subtitles  # noqa: SLF001 - there is no hook
    parse_dash = extractor._parse_mpd_periods  # noqa: SLF001

    def parsed_hls(
        self: Any, m3u8_doc: str, m3u8_url: str | None = None, *args: Any, **options: Any
    ) -> Any:
        formats, subtitles = parse_hls(self, m3u8_doc, m3u8_url, *args, **options)
        _mark_hls(formats, m3u8_doc, m3u8_url or "")
        return formats, subtitles

    def parsed_dash(
        self: Any, mpd_doc: Element, mpd_id: str | None = None, *args: Any, **options: Any
    ) -> Iterator[Any]:
        notes = _dash_notes(mpd_doc, mpd_id)
        for period in parse_dash(self, mpd_doc, mpd_id, *args, **options):
            for found in period["formats"]:
                if found["format_id"] in notes:
                    _mark(found, notes[found["format_id"]])
            yield period

    extractor._parse_m3u8_formats_and_subtitles = parsed_hls  # noqa: SLF001
    extractor._parse_mpd_periods = parsed_dash  # noqa: SLF001


def _mark_hls(formats: Iterable[dict[str, Any]], document: str, url: str) -> None:
    renditions = [
        yt_dlp.extractor.common.parse_m3u8_attributes(line)
        for line in document.splitlines()
        if line.startswith("#EXT-X-MEDIA:")
    ]
    audio = [each for each in renditions if each.get("TYPE") == "AUDIO"]
    apart = {urljoin(url, each["URI"]): each for each in audio if each.get("URI")}
    within_video = [each for each in audio if not each.get("URI")]
    for found in formats:
        rendition = apart.get(found["url"])
        if rendition is not None:
            if "describes-video" in rendition.get("CHARACTERISTICS", ""):
                _mark(found, _DESCRIBED)
            elif rendition.get("DEFAULT") != "YES":
                _mark(found)
        elif within_video and found.get("acodec") != "none" and not found.get("language"):
            found["language"] = within_video[0].get("LANGUAGE")


def _dash_notes(document: Element, mpd_id: str | None) -> dict[str, str]:
    """Return what is said of each audio that players do not take by themselves, by format id."""
    notes = {}
    for adaptation in document.iterfind(".//{*}AdaptationSet"):
        note = _dash_note(adaptation)
        for representation in adaptation.iterfind("{*}Representation"):
            name = representation.get("id")
            if note is not None and name:
                notes[f"{mpd_id}-{name}" if mpd_id else name] = note
    return notes


def _dash_note(adaptation: Element) -> str | None:
    """Return what is said of an adaptation set; None if players may take it by themselves."""
    roles = _values(adaptation, "Role", _ROLES)
    if "description" in roles or _FOR_THE_BLIND in _values(adaptation, "Accessibility", _PURPOSES):
        return _DESCRIBED
    if "commentary" in roles:
        return "commentary"
    if "dub" in roles:
        return "dubbed"
    return "" if roles & {"alternate", "supplementary"} else None


def _values(adaptation: Element, name: str, scheme: str) -> set[str]:
    return {
        each.get("value", "")
        for each in adaptation.iterfind(f"{{*}}{name}")
        if each.get("schemeIdUri") == scheme
    }


def _mark(found: dict[str, Any], note: str = "") -> None:
    """Mark the audio of a format as one that players do not take by themselves."""
    if found.get("acodec") != "none":
        found["language_preference"] = ALTERNATE
        found["format_note"] = ", ".join(filter(None, [found.get("format_note"), note]))
