from __future__ import annotations

from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from ingot.v1.media_pb2 import Selection
from ingot_server.library.identity import (
    canonical_selection,
    is_media_id,
    media_id,
    selects_section,
)

BEST = Selection(mode=Selection.MODE_BEST)
AUDIO = Selection(mode=Selection.MODE_AUDIO_ONLY)
SMALL = Selection(max_height=720)
EXACT = Selection(
    max_height=1080, min_height=720, audio_language="en-US", video_codecs=["h264", "vp9"]
)
KEY = "http:http://example.com/clip.mp4"


# Ids are in buckets and in callers' databases: these must never change.
@pytest.mark.parametrize(
    ("key", "selection", "expected"),
    [
        (KEY, Selection(), "chkmz5h5f56jqoabak2tnyhv3xlu7cx5j2vf2kzzwx5eol6qvvuq"),
        (KEY, AUDIO, "3b5jwtp4tt5eago7p4lc3ueygsx2eokmos7qg6csxcz3t25sbpoa"),
        (KEY, SMALL, "6jxlqbjwglwvrgp3bhxd6yzkqmefj2eodd5wmuzqhwbddwmhbg6a"),
        (KEY, EXACT, "xftkn5wfcd5zqidd4o63mkmdqm2wk2s4eigmi4pjn4hknfcdveea"),
        ("youtube:p9kdDet7G14", BEST, "crclsoq5twhwtgjw2gi5ppyxmdsjohzfjlh5rhhcqkk6covlnvva"),
        (
            "http:http://example.com/\u00fc",
            BEST,
            "u2pntmotm5ok4swqy4sluffiywz5ns5x5tjnahbbvqnz44jadbwq",
        ),
    ],
)
def test_an_id_never_changes(key: str, selection: Selection, expected: str) -> None:
    assert media_id(key, selection) == expected


def test_unset_means_best() -> None:
    assert media_id(KEY, Selection()) == media_id(KEY, BEST)
    assert canonical_selection(Selection()) == BEST
    assert canonical_selection(SMALL) == Selection(mode=Selection.MODE_BEST, max_height=720)


def test_from_the_beginning_is_no_section() -> None:
    whole = Selection(start_offset=Duration())
    assert media_id(KEY, whole) == media_id(KEY, BEST)
    assert not selects_section(canonical_selection(whole))


def test_all_of_the_media_has_one_id_whether_its_offsets_are_exact_or_not() -> None:
    whole = Selection(start_offset=Duration(), exact_offsets=True)
    assert media_id(KEY, whole) == media_id(KEY, BEST)


def test_every_spelling_of_a_language_has_the_same_id() -> None:
    ids = {media_id(KEY, Selection(audio_language=each)) for each in ("en-US", "eng-us", "EN-us")}
    assert len(ids) == 1


def test_canonical_selection_leaves_its_argument_alone() -> None:
    selection = Selection()
    canonical_selection(selection).max_height = 1
    assert selection == Selection()


def test_every_key_and_selection_has_an_id_of_its_own() -> None:
    selections = [BEST, AUDIO, SMALL, Selection(max_height=7), Selection(max_height=72), EXACT]
    selections += [Selection(min_height=720), Selection(audio_language="de")]
    selections += [
        Selection(start_offset=Duration(seconds=1)),
        Selection(end_offset=Duration(seconds=1)),
        Selection(start_offset=Duration(nanos=1)),
        Selection(start_offset=Duration(seconds=1), end_offset=Duration(seconds=10)),
        Selection(start_offset=Duration(seconds=1), exact_offsets=True),
    ]
    selections += [Selection(all_audio_languages=True)]
    selections += [Selection(video_codecs=names) for names in (["h264", "vp9"], ["vp9", "h264"])]
    keys = [KEY, KEY + "?", "0\n" + KEY, "", "mode=BEST\n" + KEY]
    ids = {media_id(key, selection) for key in keys for selection in selections}
    assert len(ids) == len(keys) * len(selections)
    assert all(is_media_id(each) for each in ids)


@pytest.mark.parametrize(
    "text",
    ["", "a" * 51, "a" * 53, "A" * 52, "1" * 52, "../" + "a" * 49, "a" * 52 + "\n", "\u0430" * 52],
)
def test_text_that_is_not_an_id(text: str) -> None:
    assert not is_media_id(text)


def test_a_recording_is_named_by_its_length_too() -> None:
    lengths = (None, timedelta(seconds=60), timedelta(seconds=60.5))
    assert len({media_id("youtube:p9kdDet7G14", BEST, length) for length in lengths}) == 3
