"""Subtitles and the thumbnail: what the extraction child fetches beside the media."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yt_dlp
import yt_dlp.utils

from ingot_server.pipeline.extraction_request import Request

_BYTES: Final = 32 << 20
_SUBTITLE_TYPES: Final = {
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "ttml": "application/ttml+xml",
}


def side_files(
    ydl: yt_dlp.YoutubeDL, info: Mapping[str, Any], request: Request, directory: str
) -> Iterator[dict[str, Any]]:
    """What was asked for besides; what cannot be had is left out."""
    failures = (yt_dlp.utils.YoutubeDLError, OSError, ValueError)
    for number, (language, automatic, found) in enumerate(_subtitles(info, request)):
        extension = found["ext"] if found.get("ext") in _SUBTITLE_TYPES else "vtt"
        path = Path(directory, f"subtitles-{number}.{extension}")
        try:
            if found.get("data") is not None:
                path.write_text(str(found["data"]))
            else:
                ydl.params["progress_hooks"] = []
                ydl.dl(str(path), {**found, "ext": extension}, subtitle=True)
        except failures as error:
            _note(f"subtitles in {language}: {error}"[:500])
            continue
        yield _side_file(path, "SUBTITLES", _SUBTITLE_TYPES[extension], language, automatic)
    picture = info.get("thumbnail")
    if request.thumbnail and picture:
        path = Path(directory, "thumbnail")
        try:
            with ydl.urlopen(str(picture)) as answer:
                content = answer.read(_BYTES)
            path.write_bytes(content)
        except failures as error:
            _note(f"thumbnail: {error}"[:500])
            return
        kind = _picture_type(content)
        if kind:
            yield _side_file(path, "THUMBNAIL", kind, "", automatic=False)


def _subtitles(
    info: Mapping[str, Any], request: Request
) -> Iterator[tuple[str, bool, dict[str, Any]]]:
    for wanted in request.subtitle_languages:
        places = [(False, info.get("subtitles"))]
        if request.automatic_subtitles:
            places.append((True, info.get("automatic_captions")))
        for automatic, languages in places:
            match = _language(wanted, languages or {})
            if match:
                yield match, automatic, _subtitle(languages[match])  # type: ignore[index]
                break


def _side_file(
    path: Path, kind: str, content_type: str, language: str, automatic: bool
) -> dict[str, Any]:
    return {
        "path": str(path),
        "kind": kind,
        "content_type": content_type,
        "language": language,
        "automatic": automatic,
    }


def _language(wanted: str, languages: Mapping[str, Any]) -> str:
    """The key that is the language asked for, or else a variant of it; empty: there is none."""
    lower = wanted.lower()
    for match in (
        lambda key: key == lower,
        lambda key: key.startswith(f"{lower}-"),
    ):
        for key in languages:
            if match(str(key).lower().replace("_", "-")) and re.fullmatch(r"[\w-]{1,40}", str(key)):  # type: ignore[no-untyped-call]
                return str(key)
    return ""


def _subtitle(forms: list[dict[str, Any]]) -> dict[str, Any]:
    for extension in _SUBTITLE_TYPES:
        for form in forms:
            if form.get("ext") == extension:
                return form
    return forms[-1]


def _picture_type(content: bytes) -> str:
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"\x89PNG\r\n"):
        return "image/png"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    if content[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    return ""


def _note(message: str) -> None:
    """For the worker's log, when this process fails."""
    sys.stderr.write(f"{message}\n")
