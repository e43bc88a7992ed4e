"""What HLS and DASH manifests say of their formats, and yt-dlp leaves out or misreads.

That is which audio players take by themselves, and of what segments a DASH representation consists.

It runs in the extraction child. Sources: RFC 8216, section 4.3.4.1 (EXT-X-MEDIA); ISO/IEC 23009-1,
section 5.8.5.5 (the role scheme of DASH); ETSI TS 103 285, section 6.1.2 (audio description).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import urljoin
from xml.etree.ElementTree import Element, ParseError, fromstring

import yt_dlp.extractor.common
import yt_dlp.utils

from ingot_server.extractor import dash_manifest
from ingot_server.extractor.audio_tracks import ALTERNATE
from ingot_server.extractor.presentation import TRACK, LiveStream, Track, Unreadable

_ROLES: Final = "urn:mpeg:dash:role:2011"
_PURPOSES: Final = "urn:tva:metadata:cs:AudioPurposeCS:2007"
_FOR_THE_BLIND: Final = "1"
_DESCRIBED: Final = "audio description"
_MAX_REMOTE_BYTES: Final = 4 << 20
_REMOTE: Final = b'<Remote xmlns="urn:mpeg:dash:schema:mpd:2011">%s</Remote>'


def correct_formats() -> None:
    """Make yt-dlp keep the audio that players take by themselves apart, and read DASH correctly.

    Other audio gets a lower `language_preference`, and its note says if it is described, dubbed or
    a commentary. A format of DASH gets a Track.
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
        self: Any,
        mpd_doc: Element,
        mpd_id: str | None = None,
        mpd_base_url: str = "",
        mpd_url: str | None = None,
    ) -> Iterator[Any]:
        url = f"{mpd_base_url.rstrip('/')}/" if mpd_base_url else mpd_url or ""
        try:
            manifest = dash_manifest.read(mpd_doc, url, functools.partial(_remote_elements, self))
        except Unreadable as error:
            raise yt_dlp.utils.ExtractorError(
                f"The DASH manifest {error}", expected=True
            ) from error
        notes = _dash_notes(manifest.document)
        for period in parse_dash(self, manifest.document, None, mpd_base_url, mpd_url):
            for found in period["formats"]:
                place = found["format_id"]
                if place in notes:
                    _mark(found, notes[place])
                names = (mpd_id, manifest.names.get(place, place))
                found["format_id"] = "-".join(filter(None, names)) or "dash"
                _take_track(found, manifest, place)
            yield period

    extractor._parse_m3u8_formats_and_subtitles = parsed_hls  # noqa: SLF001
    extractor._parse_mpd_periods = parsed_dash  # noqa: SLF001


def _take_track(found: dict[str, Any], manifest: dash_manifest.Manifest, place: str) -> None:
    """Give a format the track that the manifest has at a place."""
    track = manifest.tracks.get(place)
    if track is None:
        return
    for name in ("fragments", "fragment_base_url", "protocol"):
        found.pop(name, None)
    if manifest.is_live:
        track = Track(error=LiveStream("The DASH manifest says that more segments will follow"))
    if track.is_one_file:
        found["url"] = track.parts[0].fragments[0]["url"]
        return
    found.update({"protocol": "http_dash_segments", TRACK: track})


def _remote_elements(extractor: Any, url: str) -> Element:
    """Return an element with the remote elements at a URL as children."""
    with extractor._downloader.urlopen(url) as response:  # noqa: SLF001 - there is no method
        content = response.read(_MAX_REMOTE_BYTES)
    text = re.sub(rb"^\s*<\?xml[^>]*\?>", b"", content)
    try:
        return fromstring(_REMOTE % text)  # noqa: S314 - as yt-dlp parses the rest
    except ParseError as error:
        raise Unreadable(f"refers to elements that are not well-formed at {url}") from error


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


def _dash_notes(document: Element) -> dict[str, str]:
    """Return what is said of each audio that players do not take by themselves, by format id."""
    notes = {}
    for adaptation in document.iterfind(".//{*}AdaptationSet"):
        note = _dash_note(adaptation)
        for representation in adaptation.iterfind("{*}Representation"):
            name = representation.get("id")
            if note is not None and name:
                notes[name] = note
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
