"""What a transcript is made from: the subtitles of its media item, or the sound."""

from __future__ import annotations

from typing import Final

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import AudioStream, Media, SideFile
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.languages import in_language
from ingot_server.library.recipes import check_applicable

LARGEST_SUBTITLES: Final = 16 << 20
"""Bytes of the largest file of subtitles that is read."""

# As extractor/subtitles.py stores them.
_READABLE: Final = frozenset({"text/vtt", "application/x-subrip"})
_HOW_TO_GET_SUBTITLES: Final = (
    "Ingest it again with options.subtitle_languages, and with options.automatic_subtitles if the "
    "automatic ones will do."
)


def check_makeable(recipe: Recipe, media: Media, settings: Settings, *, at: str = "recipe") -> None:
    """Check that this installation can make a canonical recipe of a media item.

    Raises what `check_applicable` and `transcript_subtitles` raise.
    """
    check_applicable(recipe, media, at=at)
    if recipe.HasField("transcript"):
        transcript_subtitles(recipe, media, settings, at=at)


def transcript_subtitles(
    recipe: Recipe, media: Media, settings: Settings, *, at: str = "recipe"
) -> SideFile | None:
    """Return the subtitles that a transcript is made from; None if it is made from the sound.

    `recipe` is canonical, and the field `at` of the request. Raises Failure INVALID_REQUEST if the
    media item does not have what the recipe needs, TRANSCRIPTION_NOT_CONFIGURED.
    """
    wanted = recipe.transcript
    found = None
    if wanted.origin != Recipe.Transcript.ORIGIN_SOUND:
        found = _subtitles(wanted.language, media)
        if found is None and wanted.origin == Recipe.Transcript.ORIGIN_SUBTITLES:
            problem = f"needs subtitles, and the media item has none{_in(wanted.language)}"
            raise _invalid(f"{at}.transcript.origin", problem, f" {_HOW_TO_GET_SUBTITLES}")
    if found is None:
        require_endpoint(recipe, settings)
        if not media.audio:
            problem = f"needs audio or subtitles{_in(wanted.language)}, and the media item has none"
            raise _invalid(f"{at}.transcript", problem)
    return found


def require_endpoint(recipe: Recipe, settings: Settings) -> None:
    """Raise Failure TRANSCRIPTION_NOT_CONFIGURED if there is no endpoint for a transcript."""
    if settings.transcription_url:
        return
    wanted = recipe.transcript
    if wanted.origin == Recipe.Transcript.ORIGIN_SOUND:
        why = "This transcript is made from the sound, which needs a transcription endpoint."
        otherwise = ""
    else:
        why = f"The media item has no subtitles{_in(wanted.language)} to make a transcript from."
        otherwise = f" {_HOW_TO_GET_SUBTITLES}"
    raise Failure(
        reason_pb2.REASON_TRANSCRIPTION_NOT_CONFIGURED,
        f"{why}{otherwise} To make it from the sound, the operator sets INGOT_TRANSCRIPTION_URL.",
        metadata={"setting": "transcription_url"},
    )


def _subtitles(language: str, media: Media) -> SideFile | None:
    """Return the subtitles in `language`, those that people wrote first; None if there are none.

    Without a language, those in the language of the original audio go first.
    """
    readable = [
        each
        for each in media.side_files
        if each.kind == SideFile.KIND_SUBTITLES
        and each.content_type in _READABLE
        and each.size_bytes <= LARGEST_SUBTITLES
    ]
    labels = in_language(language or _spoken_language(media), [each.language for each in readable])
    matching = [each for each in readable if each.language in labels]
    if not matching and not language:
        matching = readable
    return min(matching, key=lambda each: each.automatic, default=None)


def _spoken_language(media: Media) -> str:
    original = [each for each in media.audio if each.role == AudioStream.ROLE_ORIGINAL]
    return next((each.language for each in original or media.audio if each.language), "")


def _in(language: str) -> str:
    return f" in `{language}`" if language else ""


def _invalid(field: str, problem: str, advice: str = "") -> Failure:
    return Failure(
        reason_pb2.REASON_INVALID_REQUEST,
        f"The recipe's transcript {problem}.{advice}",
        violations={field: problem},
    )
