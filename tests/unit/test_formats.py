"""What is asked of yt-dlp for each selection, decided by yt-dlp's own selector."""

from __future__ import annotations

from typing import Any

import pytest
import yt_dlp

from ingot_server.extractor import formats

ON_OFFER = [
    {"format_id": "140", "ext": "m4a", "vcodec": "none", "acodec": "mp4a.40.2", "abr": 128},
    {"format_id": "251", "ext": "webm", "vcodec": "none", "acodec": "opus", "abr": 160},
    {"format_id": "18", "ext": "mp4", "vcodec": "avc1.42", "acodec": "mp4a.40.2", "height": 360},
    {"format_id": "136", "ext": "mp4", "vcodec": "avc1.4d", "acodec": "none", "height": 720},
    {"format_id": "247", "ext": "webm", "vcodec": "vp9", "acodec": "none", "height": 720},
    {"format_id": "137", "ext": "mp4", "vcodec": "avc1.64", "acodec": "none", "height": 1080},
    {"format_id": "313", "ext": "webm", "vcodec": "vp9", "acodec": "none", "height": 2160},
]


def picked(
    offer: list[dict[str, Any]], audio_only: bool, max_height: int | None, live: bool = False
) -> dict[str, Any]:
    choice = formats.choose(audio_only=audio_only, max_height=max_height, live=live)
    with yt_dlp.YoutubeDL(
        {
            "format": choice.selector,
            "format_sort": list(choice.sort),
            "merge_output_format": formats.MERGED_INTO,
            "quiet": True,
        }
    ) as ydl:
        info = {
            "id": "a",
            "title": "a",
            "extractor": "x",
            "formats": [{"url": "http://example.com/a", **one} for one in offer],
        }
        found: dict[str, Any] = ydl.process_video_result(info, download=False)
        return found


@pytest.mark.parametrize(
    ("audio_only", "max_height", "expected"),
    [
        (False, None, ("313+140", "mkv")),
        (False, 1080, ("137+140", "mp4")),
        (False, 720, ("136+140", "mp4")),
        (False, 500, ("18", "mp4")),
        (True, None, ("251", "webm")),
    ],
)
def test_a_selection_takes_the_best_that_needs_no_encoding(
    audio_only: bool, max_height: int | None, expected: tuple[str, str]
) -> None:
    found = picked(ON_OFFER, audio_only, max_height)
    assert found["format_id"] == expected[0]
    assert found["ext"] in {expected[1], "webm"}


def test_if_nothing_is_low_enough_there_is_no_format() -> None:
    with pytest.raises(yt_dlp.utils.ExtractorError, match="Requested format is not available"):
        picked(ON_OFFER[3:], audio_only=False, max_height=100)


def test_formats_of_unknown_height_are_taken_when_nothing_else_is() -> None:
    assert picked([{"format_id": "x", "ext": "mp4"}], False, 100)["format_id"] == "x"


@pytest.mark.parametrize(
    ("audio_only", "max_height", "words"),
    [
        (
            False,
            720,
            (
                "720p avc1 in mp4 with mp4a in m4a: the best of at most 720 pixels in height, "
                "merged into one file without re-encoding."
            ),
        ),
        (True, None, "opus in webm: the best audio."),
    ],
)
def test_the_reason_is_given_in_words(audio_only: bool, max_height: int | None, words: str) -> None:
    info = picked(ON_OFFER, audio_only, max_height)
    assert formats.reason(info, audio_only=audio_only, max_height=max_height) == words


@pytest.mark.parametrize(
    ("audio_only", "max_height", "expected"),
    [(False, None, "96"), (False, 720, "95"), (True, None, "96")],
)
def test_of_what_is_live_only_hls_is_taken(
    audio_only: bool, max_height: int | None, expected: str
) -> None:
    both = {"ext": "mp4", "vcodec": "avc1.64", "acodec": "mp4a.40.2", "protocol": "m3u8_native"}
    segments = [
        {**both, "format_id": "95", "height": 720},
        {**both, "format_id": "96", "height": 1080},
    ]
    found = picked([*segments, *ON_OFFER], audio_only, max_height, live=True)
    assert found["format_id"] == expected
    assert picked(ON_OFFER, audio_only, max_height, live=True)["format_id"]
