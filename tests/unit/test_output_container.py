"""The container of what arrives apart: MP4 or WebM, wherever they can hold it."""

from __future__ import annotations

import pytest

from ingot_server.section.output_container import container_of


@pytest.mark.parametrize(
    ("codecs", "container"),
    [
        (["h264", "aac"], "mp4"),
        (["hevc", "eac3"], "mp4"),
        (["av1", "aac"], "mp4"),
        (["av1", "opus"], "webm"),
        (["vp9", "opus"], "webm"),
        (["vp8", "vorbis"], "webm"),
        (["vp9", "aac"], "mp4"),
        (["h264", "opus"], "mp4"),
        (["h264", "flac"], "mp4"),
        (["h264", "vorbis"], "mkv"),
        (["vp8", "aac"], "mkv"),
        ([], "mkv"),
    ],
)
def test_browsers_play_the_container_if_any_of_theirs_holds_the_streams(
    codecs: list[str], container: str
) -> None:
    assert container_of(codecs) == container
