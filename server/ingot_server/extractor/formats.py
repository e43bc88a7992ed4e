"""Selects formats of a source as a Selection wants them, and explains the choice. Pure.

    what the source offers -> offered: those that the selection allows, in its order
    -> yt-dlp's format selector `selector`: one of them, or video and audio apart

Nothing is re-encoded: separate video and audio are merged into one container, and audio is copied
out of a container that holds both. Resolution and frame rate decide first, then the codecs that the
caller prefers; among equals MP4 and M4A win, because everything plays them. Video that only WebM
holds for all browsers gets audio that WebM holds, too. The original sound goes before its
translations and before all of these (`audio_tracks.py`).

This module imports only `audio_tracks`, `languages` and the standard library, because it also runs
in the extraction child.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ingot_server.extractor.audio_tracks import with_all_audio, with_best_audio
from ingot_server.languages import in_language

MERGED_INTO: Final = "mp4/webm/mkv"
_WEBM_VIDEO: Final = frozenset({"vp8", "vp9"})
_WEBM_AUDIO: Final = frozenset({"opus", "vorbis"})
_ABSENT: Final = (None, "none")
_MOST_NAMES: Final = 20

# What sources call the codecs that ffprobe names as on the left.
_CODECS: Final = {
    "av1": re.compile(r"av0?1", re.IGNORECASE),
    "h264": re.compile(r"avc|[hx]\.?264", re.IGNORECASE),
    "hevc": re.compile(r"hev|hvc|[hx]\.?265", re.IGNORECASE),
    "vp8": re.compile(r"vp0?8", re.IGNORECASE),
    "vp9": re.compile(r"vp0?9", re.IGNORECASE),
}
_AUDIO_CODECS: Final = {
    "aac": re.compile(r"mp4a|aac", re.IGNORECASE),
    "eac3": re.compile(r"e-?ac-?3|ec-3", re.IGNORECASE),
    "ac3": re.compile(r"ac-?3", re.IGNORECASE),
}


class SelectionUnavailable(Exception):
    """The source has the media, but not as it was selected. The message says what there is."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A Selection as the extraction child knows it. None, or empty: not restricted."""

    audio_only: bool
    max_height: int | None = None
    min_height: int | None = None
    audio_language: str = ""
    all_audio_languages: bool = False
    video_codecs: Sequence[str] = ()


def selector(wanted: Wanted) -> str:
    """Return yt-dlp's format selector for the best of what is `offered`."""
    audio = "mergeall[vcodec=none]" if wanted.all_audio_languages else "bestaudio"
    return f"{audio}/best" if wanted.audio_only else f"bestvideo*+{audio}/best"


def sort(*, audio_only: bool) -> list[str]:
    """Return yt-dlp's option `format_sort`."""
    return [] if audio_only else ["res", "fps", "vext:mp4", "aext:m4a"]


def offered(
    formats: Iterable[Mapping[str, Any]], wanted: Wanted, *, live: bool = False
) -> list[Mapping[str, Any]]:
    """Return those `formats` that `wanted` allows. They are sorted, the best one last.

    Their audio is in the wanted language, or the original, or the best of each language and role.
    With `live`, only HLS formats if there are any, because only they can be recorded. Video of
    unknown height is allowed only if no video is known to have an allowed height. Raises
    SelectionUnavailable.
    """
    found = list(formats)
    if live:
        found = [each for each in found if _is_hls(each)] or found
    if wanted.audio_language:
        found = _in_language(found, wanted)
    spoken = found
    if not wanted.audio_only:
        found = _of_height(found, wanted)
    if wanted.all_audio_languages and any(each.get("vcodec") == "none" for each in found):
        return _by_codec(with_all_audio(found), wanted.video_codecs)
    found = with_best_audio(found, spoken, video=not wanted.audio_only)
    if spoken and not found:
        language = wanted.audio_language
        sound = f"With audio in {language}" if language else "With its original sound"
        raise _no_such_height(with_best_audio(spoken, spoken, video=True), wanted, f"{sound}, the")
    found = _by_codec(found, wanted.video_codecs)
    return found if wanted.audio_only else _fitting_webm(found)


def _fitting_webm(formats: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the formats without the audio that the best video cannot be merged with into WebM.

    That concerns only video which no other container holds for all browsers: VP8 and VP9.
    """
    best = next((each for each in reversed(formats) if each.get("vcodec") != "none"), None)
    if best is None or best.get("acodec") != "none":
        return formats
    if codec_name(best.get("vcodec")) not in _WEBM_VIDEO:
        return formats
    audio = [each for each in formats if each.get("vcodec") == "none"]
    others = [each for each in audio if codec_name(each.get("acodec")) not in _WEBM_AUDIO]
    return [each for each in formats if each not in others] if len(others) < len(audio) else formats


def _in_language(formats: list[Mapping[str, Any]], wanted: Wanted) -> list[Mapping[str, Any]]:
    languages = [str(each.get("language") or "") for each in _with("acodec", formats)]
    labels = sorted(set(languages) - {""})
    accepted = in_language(wanted.audio_language, labels)
    if not accepted:
        offer = (
            f"offers audio in {_listed(labels)}"
            if labels
            else "does not say which language its audio has"
        )
        raise SelectionUnavailable(
            f"The source {offer}, and audio_language is {wanted.audio_language}"
        )
    found = [
        each
        for each in formats
        if each.get("acodec") == "none" or str(each.get("language")) in accepted
    ]
    if not wanted.audio_only and _with("vcodec", formats) and not _with("vcodec", found):
        raise SelectionUnavailable(
            f"The source offers audio in {_listed(sorted(accepted))}, but no video to go with it"
        )
    return found


def _of_height(formats: list[Mapping[str, Any]], wanted: Wanted) -> list[Mapping[str, Any]]:
    if not _limits(wanted):
        return formats
    lowest, highest = wanted.min_height or 0, wanted.max_height or float("inf")
    videos = _with("vcodec", formats)
    known = [each for each in videos if each.get("height")]
    allowed = [each for each in known if lowest <= each["height"] <= highest]
    if not allowed:
        allowed = [each for each in videos if not each.get("height")]
    if not allowed and (videos or wanted.min_height):
        raise _no_such_height(formats, wanted)
    return [each for each in formats if each.get("vcodec") == "none" or each in allowed]


def _limits(wanted: Wanted) -> dict[str, int]:
    limits = {"min_height": wanted.min_height, "max_height": wanted.max_height}
    return {name: limit for name, limit in limits.items() if limit is not None}


def _no_such_height(
    formats: Iterable[Mapping[str, Any]], wanted: Wanted, subject: str = "The"
) -> SelectionUnavailable:
    heights = sorted({int(each["height"]) for each in formats if each.get("height")})
    offer = f"video with a height of {_listed(heights)} pixels" if heights else "no video"
    return SelectionUnavailable(
        f"{subject} source offers {offer}, and "
        + " and ".join(f"{name} is {limit}" for name, limit in _limits(wanted).items())
    )


def _by_codec(formats: list[Mapping[str, Any]], codecs: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return the formats with those of the same rank ordered by the caller's `codecs`."""
    if not codecs:
        return formats
    return [
        each
        for _, equals in itertools.groupby(formats, _rank)
        for each in sorted(equals, key=lambda each: -_place(each, codecs))
    ]


def _rank(each: Mapping[str, Any]) -> tuple[object, ...]:
    sizes = [size for size in (each.get("height"), each.get("width")) if size]
    has_video = each.get("vcodec") != "none"
    return has_video, each.get("preference"), min(sizes, default=0), round(each.get("fps") or 0)


def _place(each: Mapping[str, Any], codecs: Sequence[str]) -> int:
    name = str(each.get("vcodec"))
    for place, codec in enumerate(codecs):
        if _CODECS[codec].match(name):
            return place
    return len(codecs)


def _is_hls(each: Mapping[str, Any]) -> bool:
    return str(each.get("protocol")).startswith("m3u8")


def _with(codec: str, formats: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the formats that have video (`vcodec`) or audio (`acodec`), or may have it."""
    return [each for each in formats if each.get(codec) != "none"]


def _listed(names: Sequence[object]) -> str:
    """Return names as in `1, 2 and 3`."""
    *others, last = [str(name)[:40] for name in names[-_MOST_NAMES:]]
    return f"{', '.join(others)} and {last}" if others else last


def codec_name(name: object) -> str:
    """Return what ffprobe calls the codec that a source calls `name`; empty for none."""
    if name in _ABSENT:
        return ""
    text = str(name)
    for codec, names in (*_CODECS.items(), *_AUDIO_CODECS.items()):
        if names.match(text):
            return codec
    return text.partition(".")[0]


def taken(info: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the formats that yt-dlp selected: one, or the parts that it will merge."""
    return info.get("requested_formats") or [info]


def holds_video(info: Mapping[str, Any]) -> bool:
    """Return whether the selected formats hold video, or may: many sources do not say."""
    return any(part.get("vcodec") != "none" for part in taken(info))


def size_bytes(info: Mapping[str, Any]) -> int | None:
    """Return the total size of the selected formats; None if the source does not say exactly."""
    sizes = [part.get("filesize") for part in taken(info)]
    return sum(size for size in sizes if size) if all(sizes) else None


def reason(info: Mapping[str, Any], wanted: Wanted) -> str:
    """Return one sentence that says why these formats were selected."""
    parts = taken(info)
    what = " with ".join(_named(part) for part in parts)
    if wanted.audio_only:
        alone = parts[0].get("vcodec") == "none"
        why = (
            "the best audio"
            if alone
            else "no audio-only format exists, so it is copied out of the video"
        )
    elif wanted.max_height is not None:
        why = f"the best of at most {wanted.max_height} pixels in height"
    else:
        why = "the best available"
    if wanted.audio_language:
        why += f", in {parts[-1].get('language')}"
    if len(parts) > 1:
        why += ", merged into one file without re-encoding"
    return f"{what}: {why}."


def _named(part: Mapping[str, Any]) -> str:
    words = []
    if part.get("height"):
        words.append(f"{part['height']}p")
    codecs = (part.get("vcodec"), part.get("acodec"))
    words += [str(codec).partition(".")[0] for codec in codecs if codec not in _ABSENT]
    words.append(f"in {part['ext']}" if part.get("ext") else "in an unknown container")
    return " ".join(words)[:200]
