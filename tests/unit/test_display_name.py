"""The name of a job before its source has told a title."""

from __future__ import annotations

import pytest

from ingot_server.jobs.display_name import LONGEST_NAME, name_of_url, shortened


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.com/talks/Autumn%20bells.mp4?token=1", "Autumn bells.mp4"),
        ("https://www.youtube.com/watch?v=p9kdDet7G14", "youtube.com/watch?v=p9kdDet7G14"),
        ("https://t.me/bells/12", "t.me/bells/12"),
        ("https://example.com/lectures/", "example.com/lectures"),
        ("https://example.com/lectures/index.html", "example.com/lectures/index.html"),
        ("https://example.com", "example.com"),
        ("s3://talks/2026/bells.mkv", "bells.mkv"),
        ("upload:4711", "upload:4711"),
        ("http://[half", "http://[half"),
    ],
)
def test_a_url_is_readable(url: str, name: str) -> None:
    assert name_of_url(url) == name


def test_a_long_name_is_cut_and_marked() -> None:
    cut = shortened("bell " * 100)
    assert len(cut) == LONGEST_NAME
    assert cut.endswith("\N{HORIZONTAL ELLIPSIS}")
    assert shortened("two\n lines") == "two lines"
