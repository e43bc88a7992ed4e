"""What is asked of yt-dlp for each selection, decided by yt-dlp's own selector."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yt_dlp

from ingot_server.extractor import formats
from ingot_server.extractor.formats import SelectionUnavailable, Wanted

ON_OFFER = [
    {"format_id": "140", "ext": "m4a", "vcodec": "none", "acodec": "mp4a.40.2", "abr": 128},
    {"format_id": "251", "ext": "webm", "vcodec": "none", "acodec": "opus", "abr": 160},
    {"format_id": "18", "ext": "mp4", "vcodec": "avc1.42", "acodec": "mp4a.40.2", "height": 360},
    {"format_id": "136", "ext": "mp4", "vcodec": "avc1.4d", "acodec": "none", "height": 720},
    {"format_id": "247", "ext": "webm", "vcodec": "vp9", "acodec": "none", "height": 720},
    {"format_id": "137", "ext": "mp4", "vcodec": "avc1.64", "acodec": "none", "height": 1080},
    {"format_id": "313", "ext": "webm", "vcodec": "vp9", "acodec": "none", "height": 2160},
]


def picked(offer: list[dict[str, Any]], wanted: Wanted, *, live: bool = False) -> dict[str, Any]:
    def select(context: dict[str, Any]) -> Any:
        offered = formats.offered(context["formats"], wanted, live=live)
        return choose({**context, "formats": offered})

    with yt_dlp.YoutubeDL(
        {
            "format": select,
            "format_sort": formats.sort(audio_only=wanted.audio_only),
            "merge_output_format": formats.MERGED_INTO,
            "allow_multiple_audio_streams": wanted.all_audio_languages,
            "quiet": True,
        }
    ) as ydl:
        choose = ydl.build_format_selector(formats.selector(wanted))
        info = {
            "id": "a",
            "title": "a",
            "extractor": "x",
            "formats": [{"url": "http://example.com/a", **one} for one in offer],
        }
        found: dict[str, Any] = ydl.process_video_result(info, download=False)
        return found


BEST = Wanted(audio_only=False)
AUDIO = Wanted(audio_only=True)


def best(**fields: Any) -> Wanted:
    return dataclasses.replace(BEST, **fields)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (BEST, ("313+251", "webm")),
        (best(max_height=1080), ("137+140", "mp4")),
        (best(max_height=720), ("136+140", "mp4")),
        (best(max_height=500), ("18", "mp4")),
        (best(min_height=2160), ("313+251", "webm")),
        (best(min_height=720, max_height=1080), ("137+140", "mp4")),
        (AUDIO, ("251", "webm")),
    ],
)
def test_a_selection_takes_the_best_that_needs_no_encoding(
    wanted: Wanted, expected: tuple[str, str]
) -> None:
    found = picked(ON_OFFER, wanted)
    assert found["format_id"] == expected[0]
    assert found["ext"] == expected[1]


@pytest.mark.parametrize(
    ("offer", "wanted", "words"),
    [
        (ON_OFFER[3:], best(max_height=100), "720, 1080 and 2160 pixels, and max_height is 100"),
        (ON_OFFER[:3], best(min_height=720), "a height of 360 pixels, and min_height is 720"),
        (
            ON_OFFER[2:],
            best(min_height=400, max_height=500),
            "360, 720, 1080 and 2160 pixels, and min_height is 400 and max_height is 500",
        ),
        (ON_OFFER[:2], best(min_height=1), "offers no video, and min_height is 1"),
    ],
)
def test_if_no_video_has_an_allowed_height_the_failure_says_what_there_is(
    offer: list[dict[str, Any]], wanted: Wanted, words: str
) -> None:
    with pytest.raises(SelectionUnavailable, match=words):
        picked(offer, wanted)


@pytest.mark.parametrize("wanted", [best(max_height=100), best(min_height=100)])
def test_formats_of_unknown_height_are_taken_when_nothing_else_is(wanted: Wanted) -> None:
    unknown = {"format_id": "x", "ext": "mp4"}
    assert picked([unknown], wanted)["format_id"] == "x"
    assert picked([{**unknown, "format_id": "100", "height": 100}, unknown], wanted)[
        "format_id"
    ] == ("100")


SOUND = {"ext": "m4a", "vcodec": "none", "acodec": "mp4a.40.2", "abr": 128}
SPOKEN = [
    {**SOUND, "format_id": "de", "language": "de", "language_preference": -1},
    {**SOUND, "format_id": "us", "language": "en_US", "language_preference": -1},
    {
        "format_id": "fr",
        "ext": "webm",
        "vcodec": "none",
        "acodec": "opus",
        "abr": 64,
        "language": "fra",
        "language_preference": 10,
    },
    {"format_id": "136", "ext": "mp4", "vcodec": "avc1.4d", "acodec": "none", "height": 720},
    {
        "format_id": "22",
        "ext": "mp4",
        "vcodec": "avc1.64",
        "acodec": "mp4a.40.2",
        "height": 1080,
        "language": "de",
    },
]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (best(max_height=720), "136+fr"),
        (AUDIO, "fr"),
        (best(audio_language="de"), "22"),
        (best(audio_language="de", max_height=720), "136+de"),
        (best(audio_language="en"), "136+us"),
        (best(audio_language="en-GB"), "136+us"),
        (best(audio_language="fr-CA"), "136+fr"),
        (Wanted(audio_only=True, audio_language="en"), "us"),
        (best(all_audio_languages=True, max_height=720), "136+fr+us+de"),
        (best(all_audio_languages=True), "22+fr+us+de"),
        (Wanted(audio_only=True, all_audio_languages=True), "fr+us+de"),
    ],
)
def test_the_sound_is_the_original_or_in_the_requested_language(
    wanted: Wanted, expected: str
) -> None:
    assert picked(SPOKEN, wanted)["format_id"] == expected


def test_exactly_the_requested_language_goes_before_its_variants() -> None:
    variants = [
        {**SOUND, "format_id": each, "language": each, "abr": rate}
        for each, rate in (("pt", 64), ("pt-BR", 256), ("pt-PT", 128))
    ]
    for wanted, expected in (("pt", "pt"), ("PT-pt", "pt-PT"), ("pt-AO", "pt-BR")):
        assert picked(variants, Wanted(True, audio_language=wanted))["format_id"] == expected


@pytest.mark.parametrize(
    ("offer", "wanted", "words"),
    [
        (SPOKEN, best(audio_language="es"), "audio in de, en_US and fra, and audio_language is es"),
        (ON_OFFER, best(audio_language="en"), "does not say which language its audio has"),
        (SPOKEN[1:3] + SPOKEN[4:], best(audio_language="en"), "in en_US, but no video"),
        (SPOKEN, best(audio_language="en", min_height=1000), "720 pixels, and min_height is 1000"),
    ],
)
def test_if_the_language_is_not_offered_the_failure_says_which_are(
    offer: list[dict[str, Any]], wanted: Wanted, words: str
) -> None:
    with pytest.raises(SelectionUnavailable, match=words):
        picked(offer, wanted)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (best(max_height=720, video_codecs=["vp9"]), "247+251"),
        (best(max_height=720, video_codecs=["av1", "vp9", "h264"]), "247+251"),
        (best(max_height=720, video_codecs=["h264", "vp9"]), "136+140"),
        (best(max_height=720, video_codecs=["hevc"]), "136+140"),
        (best(video_codecs=["h264"]), "313+251"),
    ],
)
def test_a_preferred_codec_decides_between_formats_of_the_same_size(
    wanted: Wanted, expected: str
) -> None:
    assert picked(ON_OFFER, wanted)["format_id"] == expected


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("av1", "av01.0.08M.08"),
        ("h264", "avc1.640028"),
        ("h264", "h264"),
        ("hevc", "hvc1.1.6.L93.B0"),
        ("hevc", "hev1"),
        ("hevc", "h265"),
        ("vp8", "vp08.00.41.08"),
        ("vp9", "vp09.00.51.08"),
        ("vp9", "vp9.2"),
    ],
)
def test_a_codec_is_known_by_all_its_names(codec: str, name: str) -> None:
    pair = [
        {"format_id": "other", "ext": "mp4", "vcodec": "mp4v.20", "height": 720, "tbr": 9000},
        {"format_id": "it", "ext": "mp4", "vcodec": name, "height": 720, "tbr": 1},
    ]
    assert picked(pair, best(video_codecs=[codec]))["format_id"] == "it"


@pytest.mark.parametrize(
    ("offer", "wanted", "words"),
    [
        (
            ON_OFFER,
            best(max_height=720),
            (
                "720p avc1 in mp4 with mp4a in m4a: the best of at most 720 pixels in height, "
                "merged into one file without re-encoding."
            ),
        ),
        (ON_OFFER, AUDIO, "opus in webm: the best audio."),
        (
            SPOKEN,
            Wanted(audio_only=True, audio_language="en"),
            "mp4a in m4a: the best audio, in en_US.",
        ),
    ],
)
def test_the_reason_is_given_in_words(
    offer: list[dict[str, Any]], wanted: Wanted, words: str
) -> None:
    assert formats.reason(picked(offer, wanted), wanted) == words


@pytest.mark.parametrize(
    ("wanted", "expected"), [(BEST, "96"), (best(max_height=720), "95"), (AUDIO, "96")]
)
def test_of_what_is_live_only_hls_is_taken(wanted: Wanted, expected: str) -> None:
    both = {"ext": "mp4", "vcodec": "avc1.64", "acodec": "mp4a.40.2", "protocol": "m3u8_native"}
    segments = [
        {**both, "format_id": "95", "height": 720},
        {**both, "format_id": "96", "height": 1080},
    ]
    found = picked([*segments, *ON_OFFER], wanted, live=True)
    assert found["format_id"] == expected
    assert picked(ON_OFFER, wanted, live=True)["format_id"]
