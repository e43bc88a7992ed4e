"""Which of the audio that a source offers is the original, and which to take. Pure.

The original is what the source marks as such, else its default. Most extractors of yt-dlp say both
by `language_preference`: 10 is the original or the main language, -10 is audio for few listeners,
and -1 means that nothing is known. Described audio and commentary, which many sources mark only by
a name, come after all other audio.

This module imports only `languages` and the standard library, because it also runs in the
extraction child.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from ingot_server.languages import language_tag

Format: TypeAlias = Mapping[str, Any]

ORIGINAL: Final = 10
"""The `language_preference` of the original sound."""
UNKNOWN: Final = -1
ALTERNATE: Final = -5
"""That of audio which players do not take by themselves."""

_DESCRIBED: Final = re.compile(
    r"audio.?descri|descri(?:pti(?:ve|on)|bed).?(?:audio|video)?\b|audiodes[ck]ri|visual.?impair|"
    r"[-_](?:desc|ad)$",
    re.IGNORECASE,
)
_DUBBED: Final = re.compile(r"\b(?:auto-?)?dub(?:bed)?\b", re.IGNORECASE)
_COMMENTARY: Final = re.compile(r"\bcommentary|\bkommentar|\bcommentaires?\b", re.IGNORECASE)
_SUFFIX: Final = re.compile(r"[-_](?:desc|ad|audio-description)$", re.IGNORECASE)
_NAMES: Final = ("language", "format_note", "format_id")


class Role(enum.StrEnum):
    """What the audio of a format is, named as the values of AudioStream.Role."""

    ORIGINAL = "ORIGINAL"
    DUBBED = "DUBBED"
    DESCRIBED = "DESCRIBED"
    COMMENTARY = "COMMENTARY"
    UNKNOWN = "UNSPECIFIED"


def role(found: Format, offered: Iterable[Format]) -> Role:
    """Return what the audio of a format is among that of all formats `offered`.

    Audio is dubbed if its name says so, or if the source marks other audio, in another language, as
    the original.
    """
    special = _special(found)
    if special is not None:
        return special
    if _preference(found) == ORIGINAL:
        return Role.ORIGINAL
    if _says(_DUBBED, found):
        return Role.DUBBED
    originals = {
        each.get("language")
        for each in offered
        if _preference(each) == ORIGINAL and _special(each) is None
    }
    language = found.get("language")
    return Role.DUBBED if language and originals - {language, None} else Role.UNKNOWN


def language(found: Format) -> str:
    """Return the BCP 47 tag of the audio of a format; empty if it is unknown."""
    return language_tag(_SUFFIX.sub("", str(found.get("language") or "")))


def with_best_audio(
    formats: Sequence[Format], offered: Iterable[Format], *, video: bool
) -> list[Format]:
    """Return those of `formats` that have the best audio of all that is `offered`, or none.

    Video without audio stays if it belongs to that audio. With `video`, and if the best audio has
    no video to go with it, other video stays without its own audio.
    """
    top = max((_rank(each) for each in offered if each.get("acodec") != "none"), default=None)
    if top is None:
        return list(formats)
    kept = [each for each in formats if _belongs(each, top)]
    has_audio = any(each.get("acodec") != "none" for each in kept)
    if not has_audio or not video or any(each.get("vcodec") != "none" for each in kept):
        return kept if has_audio else []
    return [
        each if each in kept else {**each, "acodec": "none"}
        for each in formats
        if each in kept or each.get("vcodec") != "none"
    ]


def with_all_audio(formats: Sequence[Format]) -> list[Format]:
    """Return video, then audio without video: the best of each language and role, best sound last.

    `formats` are sorted, the best one last. Video loses its own audio if the same is there by
    itself.
    """
    alone: dict[tuple[str, Role], Format] = {}
    for each in formats:
        if each.get("vcodec") == "none":
            alone[language(each), role(each, formats)] = each
    pictures = [
        {**each, "acodec": "none"} if (language(each), role(each, formats)) in alone else each
        for each in formats
        if each.get("vcodec") != "none"
    ]
    return [*pictures, *sorted(alone.values(), key=_rank)]


_Rank: TypeAlias = tuple[bool, float, bool]


def _belongs(found: Format, top: _Rank) -> bool:
    if found.get("acodec") != "none":
        return _rank(found) == top
    return _preference(found) in (UNKNOWN, top[1])


def _rank(found: Format) -> _Rank:
    return _special(found) is None, _preference(found), not _says(_DUBBED, found)


def _preference(found: Format) -> float:
    preference = found.get("language_preference")
    return preference if isinstance(preference, (int, float)) else UNKNOWN


def _special(found: Format) -> Role | None:
    if _says(_DESCRIBED, found):
        return Role.DESCRIBED
    return Role.COMMENTARY if _says(_COMMENTARY, found) else None


def _says(words: re.Pattern[str], found: Format) -> bool:
    return any(words.search(str(found.get(name) or "")) for name in _NAMES)
