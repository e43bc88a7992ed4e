from __future__ import annotations

import math

import pytest

from ingot_server.extractor.hls_playlist import parse, track
from ingot_server.extractor.presentation import Incomplete, LiveStream, Unreadable

URL = "http://live.example/a/list.m3u8?token=1"
TEXT = """#EXTM3U
#EXT-X-TARGETDURATION:6
#EXT-X-MEDIA-SEQUENCE:41
#EXT-X-MAP:URI="init.mp4",BYTERANGE="600@0"
#EXT-X-KEY:METHOD=AES-128,URI="key",IV=0x01
#EXTINF:5.5,a title
#EXT-X-BYTERANGE:100@600
all.mp4
#EXTINF:6
#EXT-X-BYTERANGE:50
all.mp4
#EXT-X-KEY:METHOD=NONE
/b/last.mp4
"""


def test_segments_are_what_the_downloader_takes() -> None:
    playlist = parse(TEXT, URL)
    first, second, last = playlist.segments

    assert (playlist.target_seconds, playlist.ended) == (6, False)
    assert [(each.sequence, each.seconds) for each in playlist.segments] == [
        (41, 5.5),
        (42, 6),
        (43, 6),
    ]
    assert first.initialization is not None
    assert first.initialization["url"] == "http://live.example/a/init.mp4"
    assert first.initialization["byte_range"] == {"start": 0, "end": 600}
    assert first.initialization["decrypt_info"] == {"METHOD": "NONE"}
    assert first.fragment["byte_range"] == {"start": 600, "end": 700}
    assert second.fragment["byte_range"] == {"start": 700, "end": 750}
    assert first.fragment["decrypt_info"]["URI"] == "http://live.example/a/key"
    assert first.fragment["decrypt_info"]["IV"] == bytes(15) + b"\x01"
    assert last.fragment["url"] == "http://live.example/b/last.mp4"
    assert last.fragment["decrypt_info"]["METHOD"] == "NONE"


def test_the_end_is_reported() -> None:
    assert parse(TEXT + "#EXT-X-ENDLIST\n", URL).ended


def test_what_is_broken_is_left_out() -> None:
    playlist = parse("#EXTM3U\n#EXT-X-TARGETDURATION:soon\n#EXTINF:-4,\na.ts\n#EXT-X-NEW\n", URL)
    assert [each.seconds for each in playlist.segments] == [10.0]


PARTS = """#EXTM3U
#EXT-X-MAP:URI="a.mp4"
#EXTINF:2.0,
1.m4s
#EXT-X-MAP:URI="a.mp4"
#EXTINF:2.0,
2.m4s
#EXT-X-MAP:URI="b.mp4"
#EXTINF:1.5,
3.m4s
#EXT-X-DISCONTINUITY
#EXTINF:1.5,
4.m4s
#EXT-X-ENDLIST
"""


def test_a_part_ends_at_a_discontinuity_or_another_initialization() -> None:
    found = track(parse(PARTS, "http://live.example/"), ended=False)

    assert [
        ([each["url"].rpartition("/")[2] for each in part.fragments], part.seconds)
        for part in found.parts
    ] == [
        (["a.mp4", "1.m4s", "2.m4s"], 4),
        (["b.mp4", "3.m4s"], 1.5),
        (["b.mp4", "4.m4s"], 1.5),
    ]
    assert found.seconds == 7


def test_an_initialization_does_not_count_as_a_media_segment() -> None:
    first, second, *_ = parse(PARTS, "http://live.example/").segments

    assert (first.fragment["media_sequence"], second.fragment["media_sequence"]) == (0, 1)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("2.m4s", "#EXT-X-GAP\n2.m4s"), Incomplete),
        (("#EXT-X-MAP", "#EXT-X-I-FRAMES-ONLY\n#EXT-X-MAP"), Unreadable),
        (("#EXT-X-ENDLIST", ""), LiveStream),
    ],
)
def test_a_playlist_that_is_not_whole_media_is_an_error(
    change: tuple[str, str], error: type[Exception]
) -> None:
    found = track(parse(PARTS.replace(*change), "http://live.example/"), ended=False)

    assert isinstance(found.error, error)


@pytest.mark.parametrize(
    ("lengths", "shortest"),
    [
        (["6.006", "6.006", "2.0"], 14.012 - 1),
        (["6", "6", "2"], 14 - 1.5),
        (["6.0", "6.0", "6.0"], 18 - 6),
    ],
)
def test_rounded_lengths_may_be_wrong_by_as_much(lengths: list[str], shortest: float) -> None:
    text = "".join(f"#EXTINF:{length},\n{number}.ts\n" for number, length in enumerate(lengths))

    found = track(parse(text, "http://live.example/"), ended=True)

    assert found.bounds_seconds[0] == pytest.approx(shortest)
    assert found.bounds_seconds[1] == math.inf
