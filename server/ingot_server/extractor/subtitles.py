"""Downloads side files in the extraction child: subtitles and the thumbnail."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yt_dlp
import yt_dlp.extractor.common
import yt_dlp.utils

from ingot_server.extractor.error_report import Refused
from ingot_server.extractor.protocol import Request
from ingot_server.languages import language_tag

_MAX_THUMBNAIL_BYTES: Final = 32 << 20
_MAX_THUMBNAILS: Final = 8
_START_BYTES: Final = 4096
_SUBTITLE_TYPES: Final = {
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "ttml": "application/ttml+xml",
}


def side_files(
    ydl: yt_dlp.YoutubeDL, info: Mapping[str, Any], request: Request, directory: str
) -> Iterator[dict[str, Any]]:
    """Download the requested side files and yield a message for each; failed ones are left out."""
    failures = (yt_dlp.utils.YoutubeDLError, Refused, OSError, ValueError)
    for number, (language, automatic, found) in enumerate(subtitles(info, request)):
        path = Path(directory, f"subtitles-{number}.vtt")
        try:
            if found.get("data") is not None:
                path.write_text(str(found["data"]))
            else:
                ydl.params["progress_hooks"] = []
                ydl.dl(str(path), {**found, "ext": "vtt"}, subtitle=True)
            with path.open("rb") as file:
                extension = subtitle_format(file.read(_START_BYTES))
        except failures as error:
            _log(f"subtitles in {language}: {error}"[:500])
            continue
        if extension:
            path = path.rename(path.with_suffix(f".{extension}"))
            yield _side_file(path, "SUBTITLES", _SUBTITLE_TYPES[extension], language, automatic)
    for url in _thumbnail_urls(info) if request.thumbnail else ():
        path = Path(directory, "thumbnail")
        try:
            with ydl.urlopen(url) as response:
                content = response.read(_MAX_THUMBNAIL_BYTES)
            path.write_bytes(content)
        except failures as error:
            _log(f"thumbnail: {error}"[:500])
            continue
        kind = _image_type(content)
        if kind:
            yield _side_file(path, "THUMBNAIL", kind, "", automatic=False)
            return


def _thumbnail_urls(info: Mapping[str, Any]) -> list[str]:
    """Return thumbnail URLs, the best first. YouTube's are guesses: not every video has them."""
    known = [info.get("thumbnail")]
    known += [each.get("url") for each in reversed(info.get("thumbnails") or ())]
    return [str(url) for url in dict.fromkeys(known) if url][:_MAX_THUMBNAILS]


def subtitles(
    info: Mapping[str, Any], request: Request
) -> Iterator[tuple[str, bool, dict[str, Any]]]:
    """Yield, for each requested language, the closest match, whether it is automatic, its file.

    Subtitles that people wrote are preferred to automatic ones.
    """
    taken = set()
    for wanted in request.subtitle_languages:
        places = [(False, info.get("subtitles") or {})]
        if request.automatic_subtitles:
            places.append((True, info.get("automatic_captions") or {}))
        for automatic, languages in places:
            tag, key = _language(wanted, languages)
            if tag and (key, automatic) not in taken:
                taken.add((key, automatic))
                yield tag, automatic, _best_format(languages[key])
            if tag:
                break


def keep_subtitle_names() -> None:
    """Make yt-dlp use the NAME of HLS subtitles that have no LANGUAGE.

    Otherwise it merges all of them into one of unknown language.
    """
    common = yt_dlp.extractor.common
    parse = getattr(common, "parse_m3u8_attributes", None)
    if parse is None:
        return

    def parsed(attributes: str) -> dict[str, Any]:
        found: dict[str, Any] = parse(attributes)
        if found.get("TYPE") == "SUBTITLES" and found.get("NAME"):
            found.setdefault("LANGUAGE", found["NAME"])
        return found

    common.parse_m3u8_attributes = parsed


def _side_file(
    path: Path, kind: str, content_type: str, language: str, automatic: bool
) -> dict[str, Any]:
    return {
        "path": str(path),
        "what": kind,
        "content_type": content_type,
        "language": language,
        "automatic": automatic,
    }


def _language(wanted: str, languages: Mapping[str, Any]) -> tuple[str, str]:
    """Return the tag and the key of the best match; both are empty if there is none.

    The language itself comes first, then a variant of it, then the language it is a variant of:
    `pt` accepts `pt-BR`, and `pt-BR` accepts `pt`, but not `pt-PT` (RFC 4647, section 3.4).
    """
    known: dict[str, tuple[str, str]] = {}
    # A key that equals its tag goes before one that only means the same.
    tagged = [(language_tag(str(key)), str(key)) for key in languages]
    for tag, key in sorted(tagged, key=lambda each: each[0].lower() != _plain(each[1])):
        if tag:
            known.setdefault(tag.lower(), (tag, key))
    lower = language_tag(wanted).lower()
    variants = [name for name in known if name.startswith(f"{lower}-")]
    while lower:
        if lower in known:
            return known[lower]
        if variants:
            return known[variants[0]]
        lower = lower.rpartition("-")[0]
    return "", ""


def _plain(key: str) -> str:
    return key.lower().replace("_", "-")


def _best_format(candidates: list[dict[str, Any]]) -> dict[str, Any]:
    for extension in _SUBTITLE_TYPES:
        for candidate in candidates:
            if candidate.get("ext") == extension:
                return candidate
    return candidates[-1]


def subtitle_format(start: bytes) -> str:
    """Return the subtitle format of a file that begins with `start`; empty if it is not one."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"WEBVTT"):
        return "vtt"
    if text.startswith(b"<") and re.search(rb"<(?:\w+:)?tt[\s>]", text):
        return "ttml"
    if re.match(rb"\d+\s*\n\d+:\d\d:\d\d[,.]\d+\s*-->", text):
        return "srt"
    return ""


def _image_type(content: bytes) -> str:
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"\x89PNG\r\n"):
        return "image/png"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    if content[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    return ""


def _log(message: str) -> None:
    """Write a line that the worker logs if this process fails."""
    sys.stderr.write(f"{message}\n")
