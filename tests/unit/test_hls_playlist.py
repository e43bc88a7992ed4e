from __future__ import annotations

from ingot_server.extractor.hls_playlist import parse

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
