"""SponsorBlock's segments become chapters that are in order and do not overlap."""

from __future__ import annotations

from typing import Any

import pytest
from yt_dlp.postprocessor.sponsorblock import SponsorBlockPP

from ingot_server.config import Settings
from ingot_server.extractor.sponsorblock import merged
from ingot_server.setting_values import SettingError
from ingot_server.sponsorblock_categories import CATEGORIES, chosen_categories

Span = tuple[str, float, float]

SPONSOR = "[SponsorBlock]: Sponsor"


def parts(*spans: Span) -> list[dict[str, Any]]:
    return [{"title": title, "start_time": start, "end_time": end} for title, start, end in spans]


@pytest.mark.parametrize(
    ("chapters", "segments", "expected"),
    [
        pytest.param([("A", 0, 60)], [], [], id="no segments"),
        pytest.param(
            [],
            [("Sponsor", 10, 20)],
            [("Video", 0, 10), (SPONSOR, 10, 20), ("Video", 20, 60)],
            id="no chapters",
        ),
        pytest.param(
            [("A", 0, 30), ("B", 30, 60)],
            [("Sponsor", 20, 40)],
            [("A", 0, 20), (SPONSOR, 20, 40), ("B", 40, 60)],
            id="across two chapters",
        ),
        pytest.param(
            [("A", 0, 20), ("B", 20, 30), ("C", 30, 60)],
            [("Sponsor", 15, 35)],
            [("A", 0, 15), (SPONSOR, 15, 35), ("C", 35, 60)],
            id="over a whole chapter",
        ),
        pytest.param(
            [("A", 0, 60)],
            [("Sponsor", 10, 30), ("Intro", 20, 40)],
            [
                *(("A", 0, 10), (SPONSOR, 10, 20), ("[SponsorBlock]: Sponsor, Intro", 20, 30)),
                *(("[SponsorBlock]: Intro", 30, 40), ("A", 40, 60)),
            ],
            id="overlapping segments",
        ),
        pytest.param(
            [("A", 0, 60)],
            [("Sponsor", 10, 20), ("Sponsor", 20, 30)],
            [("A", 0, 10), (SPONSOR, 10, 30), ("A", 30, 60)],
            id="segments in a row",
        ),
        pytest.param(
            [("A", 0, 30), ("B", 30, 60)],
            [("Sponsor", 0.4, 29.5)],
            [(SPONSOR, 0, 30), ("B", 30, 60)],
            id="short remainders",
        ),
        pytest.param(
            [("A", 0, 0.5), ("A", 0.5, 60)],
            [("Sponsor", 50, 60)],
            [("A", 0, 0.5), ("A", 0.5, 50), (SPONSOR, 50, 60)],
            id="chapters that are short by themselves, and of one title",
        ),
        pytest.param(
            [("A", 0, 10), ("B", 40, 60)],
            [("Sponsor", 20, 30)],
            [("A", 0, 10), (SPONSOR, 20, 30), ("B", 40, 60)],
            id="between chapters",
        ),
        pytest.param([("A", 0, 60)], [("Sponsor", 20, 20)], [], id="a segment without a length"),
    ],
)
def test_segments_take_the_place_of_what_they_cover(
    chapters: list[Span], segments: list[Span], expected: list[Span]
) -> None:
    video = {"title": "Video", "duration": 60}
    assert merged(parts(*chapters), parts(*segments), video) == parts(*expected)


def test_the_categories_are_those_of_yt_dlp() -> None:
    assert set(CATEGORIES) == set(SponsorBlockPP.CATEGORIES)
    assert chosen_categories("") == []
    assert chosen_categories("intro, outro") == ["intro", "outro"]
    assert chosen_categories("all") == list(CATEGORIES)


@pytest.mark.parametrize(
    ("name", "text"),
    [("INGOT_SPONSORBLOCK", "sponsors"), ("INGOT_SPONSORBLOCK_API", "sponsor.ajay.app")],
)
def test_a_setting_that_cannot_be_used_is_refused(name: str, text: str) -> None:
    with pytest.raises(SettingError, match=f"{name}='{text}'"):
        Settings.from_environment({name: text})
