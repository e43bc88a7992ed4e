"""Downloads side files in the extraction child, and chooses subtitles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import yt_dlp
import yt_dlp.extractor.common

from ingot_server.extractor.protocol import Request
from ingot_server.extractor.raw_info import write_info
from ingot_server.extractor.side_file_messages import FAILURES, image_type, missing, side_file
from ingot_server.extractor.source_storyboard import fetch_storyboard
from ingot_server.extractor.subtitle_forms import SUBTITLE_TYPES, subtitle_format, to_webvtt
from ingot_server.languages import language_tag

_MAX_THUMBNAIL_BYTES: Final = 32 << 20
_MAX_THUMBNAILS: Final = 8
_MAX_SUBTITLES: Final = 64
_MAX_SUBTITLES_BYTES: Final = 16 << 20
# What yt-dlp calls subtitles and is not.
_NO_SUBTITLES: Final = frozenset({"live_chat", "rechat", "danmaku", "comments"})
_ORIGINAL: Final = "-orig"
# BCP 47: undetermined.
_UNKNOWN_LANGUAGE: Final = "und"
_START_BYTES: Final = 4096


def side_files(
    ydl: yt_dlp.YoutubeDL, info: Mapping[str, Any], request: Request, directory: str
) -> Iterator[dict[str, Any]]:
    """Download the requested side files, and yield a message for each, and for what is missing."""
    found = subtitles(info, request)
    for number, (language, automatic, form) in enumerate(islice(found, _MAX_SUBTITLES)):
        path = Path(directory, f"subtitles-{number}")
        yield from _fetch_subtitles(ydl, form, path, language, automatic=automatic)
    if rest := sum(1 for _ in found):
        yield missing(f"subtitles in {rest} more languages than {_MAX_SUBTITLES}")
    if request.thumbnail:
        yield from _fetch_thumbnail(ydl, info, directory)
    if request.storyboard:
        yield from fetch_storyboard(ydl, info, directory)
    if request.info:
        yield from write_info(info, directory, is_identified=request.is_identified)


def _fetch_subtitles(
    ydl: yt_dlp.YoutubeDL, form: dict[str, Any], path: Path, language: str, *, automatic: bool
) -> Iterator[dict[str, Any]]:
    """Yield the subtitles as the source has them, then as WebVTT if that is another form."""
    try:
        if form.get("data") is not None:
            path.write_text(str(form["data"]))
        else:
            ydl.params["progress_hooks"] = []
            ydl.dl(str(path), {**form, "ext": "vtt"}, subtitle=True)
        if path.stat().st_size > _MAX_SUBTITLES_BYTES:
            yield missing(f"subtitles in {language}: more than {_MAX_SUBTITLES_BYTES} bytes")
            return
        with path.open("rb") as file:
            extension = subtitle_format(file.read(_START_BYTES))
    except FAILURES as error:
        yield missing(f"subtitles in {language}: {error}")
        return
    if not extension:
        yield missing(f"subtitles in {language}: their form is not known")
        return
    path = path.rename(path.with_suffix(f".{extension}"))
    yield side_file(path, "SUBTITLES", SUBTITLE_TYPES[extension], language, automatic=automatic)
    try:
        made = None if extension == "vtt" else to_webvtt(ydl, path)
    except FAILURES as error:
        yield missing(f"subtitles in {language} as WebVTT: {error}")
        return
    if made is not None:
        kind = SUBTITLE_TYPES["vtt"]
        yield side_file(made, "SUBTITLES", kind, language, automatic=automatic, converted=True)


def _fetch_thumbnail(
    ydl: yt_dlp.YoutubeDL, info: Mapping[str, Any], directory: str
) -> Iterator[dict[str, Any]]:
    for url in _thumbnail_urls(info):
        path = Path(directory, "thumbnail")
        try:
            with ydl.urlopen(url) as response:
                content = response.read(_MAX_THUMBNAIL_BYTES)
            path.write_bytes(content)
        except FAILURES as error:
            yield missing(f"thumbnail: {error}")
            continue
        kind = image_type(content)
        if kind:
            yield side_file(path, "THUMBNAIL", kind)
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
    if not request.all_subtitles:
        return
    for automatic, languages in (
        (False, info.get("subtitles") or {}),
        (True, _untranslated(info) if request.automatic_subtitles else {}),
    ):
        for key, candidates in languages.items():
            if candidates and key not in _NO_SUBTITLES and (key, automatic) not in taken:
                taken.add((key, automatic))
                tag = language_tag(str(key).removesuffix(_ORIGINAL))
                yield tag or _UNKNOWN_LANGUAGE, automatic, _best_format(candidates)


def _untranslated(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the automatic subtitles in the language that is spoken, not translations of them."""
    found = info.get("automatic_captions") or {}
    spoken = str(info.get("language") or "")
    original = {key: found[key] for key in found if str(key).endswith(_ORIGINAL)}
    return original or {key: found[key] for key in found if spoken and key == spoken}


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
    for extension in SUBTITLE_TYPES:
        for candidate in candidates:
            if candidate.get("ext") == extension:
                return candidate
    return candidates[-1]
