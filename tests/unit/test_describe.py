"""What a blob's key ends with."""

from __future__ import annotations

import pytest

from ingot_server.pipeline.description import extension, name_extension


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("clip.MP4", ".mp4"),
        ("a clip #1?.mp4", ".mp4"),
        ("//[clip.mp4", ".mp4"),
        ("a://\u2100.webm", ".webm"),
        ("clip", ""),
        (".mp4", ""),
        ("clip.mp4/..", ""),
        ("clip.m p", ""),
    ],
)
def test_a_file_name_is_not_a_url(name: str, found: str) -> None:
    assert name_extension(name) == found


def test_a_url_has_an_extension_by_its_path() -> None:
    assert extension("https://host.tv/a/clip.mp4?name=b.mkv") == ".mp4"
    assert extension("https://host.tv/?name=b.mkv") == ""
