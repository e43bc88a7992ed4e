"""What a transcript is made from, and what is said if there is nothing to make it from."""

from __future__ import annotations

from typing import Any

import pytest

from ingot.v1.media_pb2 import AudioStream, Media, SideFile
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.errors import Failure, reason_name
from ingot_server.library.recipes import canonical_recipe
from ingot_server.library.transcript_origin import check_makeable, transcript_subtitles
from tests.recipes import make_recipe

SUBTITLES = Recipe.Transcript.ORIGIN_SUBTITLES
SOUND = Recipe.Transcript.ORIGIN_SOUND
ENDPOINT = Settings(transcription_url="https://example.com/v1/audio/transcriptions")


def item(*languages: str, spoken: str = "") -> Media:
    """A media item with subtitles; `en*` are automatic ones, `en?` are in TTML."""
    files = [
        SideFile(
            kind=SideFile.KIND_SUBTITLES,
            language=each.rstrip("*?"),
            automatic=each.endswith("*"),
            content_type="application/ttml+xml" if each.endswith("?") else "text/vtt",
        )
        for each in languages
    ]
    return Media(audio=[AudioStream(language=spoken)], side_files=files)


@pytest.mark.parametrize(
    ("media", "parameters", "expected"),
    [
        (item("en", "de"), {}, "en"),
        (item("en", "de", spoken="deu"), {}, "de"),
        (item("en", spoken="de"), {}, "en"),
        (item("en*", "en"), {}, "en"),
        (item("en*", "de"), {"language": "en"}, "en*"),
        (item("de", "en-GB"), {"language": "en-US"}, "en-GB"),
        (item("en?", "en*"), {}, "en*"),
        (item("de"), {"language": "en"}, None),
        (item("en"), {"origin": SOUND}, None),
        (item(), {}, None),
    ],
)
def test_subtitles_go_before_the_sound(
    media: Media, parameters: dict[str, Any], expected: str | None
) -> None:
    found = transcript_subtitles(
        canonical_recipe(make_recipe("transcript", **parameters)), media, ENDPOINT
    )
    assert (found and found.language + "*" * found.automatic) == expected


@pytest.mark.parametrize(
    ("media", "parameters", "settings", "reason", "words"),
    [
        (item("de"), {"language": "en"}, Settings(), "TRANSCRIPTION_NOT_CONFIGURED", "in `en`"),
        (item(), {"origin": SOUND}, Settings(), "TRANSCRIPTION_NOT_CONFIGURED", "_URL"),
        (item(), {"origin": SUBTITLES}, ENDPOINT, "INVALID_REQUEST", "subtitle_languages"),
        (Media(), {}, ENDPOINT, "INVALID_REQUEST", "needs audio or subtitles"),
    ],
)
def test_what_to_do_is_said_if_there_is_nothing_to_make_it_from(
    media: Media, parameters: dict[str, Any], settings: Settings, reason: str, words: str
) -> None:
    with pytest.raises(Failure) as refused:
        check_makeable(make_recipe("transcript", **parameters), media, settings)
    assert reason_name(refused.value.reason) == reason
    assert words in refused.value.message
    assert bool(refused.value.violations) == (reason == "INVALID_REQUEST")
