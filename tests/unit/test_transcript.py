"""Subtitles as the text that agents read."""

from __future__ import annotations

import pytest

from ingot.transcript import Cue, cues, transcript

VTT = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

NOTE 00:00.000 is not a time

first
00:00.500 --> 00:02.000 align:start position:0%
<v Ann>Tom &amp; Jerry</v>
<i>sing</i>   a song

01:02:03.000 --> 01:02:05.000
The end
"""
SRT = "1\r\n00:00:00,500 --> 00:00:02,000\r\nOne\r\n\r\n2\r\n00:01:05,000 --> 00:01:06,000\r\n2\r\n"
ROLLING = """WEBVTT

00:00:00.000 --> 00:00:02.000
 
we<00:00:01.000><c> sing</c>

00:00:02.000 --> 00:00:02.010
we sing
 

00:00:02.010 --> 00:00:04.000
we sing
a song

00:00:04.000 --> 00:00:05.000
a song
we sing
"""  # noqa: W293 - as YouTube has it


@pytest.mark.parametrize(
    ("subtitles", "text"),
    [
        (VTT, "Tom & Jerry\nsing a song\nThe end"),
        (SRT, "One\n2"),
        (ROLLING, "we sing\na song\nwe sing"),
        ("", ""),
    ],
    ids=["WebVTT", "SubRip", "rolling", "nothing"],
)
def test_a_transcript_is_what_is_shown_once_each(subtitles: str, text: str) -> None:
    assert transcript(subtitles) == text


def test_a_line_that_is_said_again_later_is_there_again() -> None:
    first = "00:01.000 --> 00:02.000\nLa la\n\n"
    later = "00:05.500 --> 00:07.250\n{\\an8}La la\n"

    found = list(cues(f"WEBVTT\n\n{first}{later}"))

    assert found == [Cue(1.0, 2.0, ("La la",)), Cue(5.5, 7.25, ("La la",))]


def test_each_line_has_its_time_on_request() -> None:
    assert transcript(VTT, with_times=True).splitlines() == [
        "[0:00] Tom & Jerry",
        "[0:00] sing a song",
        "[1:02:03] The end",
    ]
    assert transcript(SRT, with_times=True) == "[0:00] One\n[1:05] 2"
