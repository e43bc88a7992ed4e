from __future__ import annotations

from xml.etree.ElementTree import Element, fromstring

import pytest

from ingot_server.extractor.dash_manifest import read
from ingot_server.extractor.presentation import Track, Unjoinable, Unreadable

URL = "http://site.example/films/list.mpd?token=1"
NUMBERED = '<SegmentTemplate media="$Number$.m4s" initialization="init.mp4" {}>{}</SegmentTemplate>'


def no_remote(_url: str) -> Element:
    raise AssertionError("Nothing is elsewhere")


def video(inside: str, attributes: str = "", base: str = "") -> str:
    return (
        f'<AdaptationSet contentType="video" mimeType="video/mp4">{base}'
        f'<Representation id="v" bandwidth="900" {attributes}>{inside}</Representation>'
        "</AdaptationSet>"
    )


def manifest(periods: str, attributes: str = 'mediaPresentationDuration="PT10S"') -> Element:
    return fromstring(f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" {attributes}>{periods}</MPD>')


def track(periods: str, attributes: str = 'mediaPresentationDuration="PT10S"') -> Track:
    return read(manifest(periods, attributes), URL, no_remote).tracks["0"]


def names(found: Track) -> list[list[str]]:
    """The last part of each URL, by part."""
    return [[each["url"].rpartition("/")[2] for each in part.fragments] for part in found.parts]


@pytest.mark.parametrize(
    ("template", "timeline", "expected"),
    [
        ('duration="4"', "", ["1", "2", "3"]),
        ('duration="4" startNumber="0"', "", ["0", "1", "2"]),
        ('duration="90000" timescale="45000"', "", ["1", "2", "3", "4", "5"]),
        ('duration="4" endNumber="2"', "", ["1", "2"]),
        ("", '<S d="5" r="1"/>', ["1", "2"]),
        ("", '<S d="3" r="-1"/>', ["1", "2", "3", "4"]),
        ("", '<S t="0" d="2" r="-1"/><S t="4" d="6"/>', ["1", "2", "3"]),
        # What ends before the period begins, or begins after it ends, is not part of it.
        ('presentationTimeOffset="20"', '<S t="10" d="5" r="5"/>', ["3", "4"]),
        ("", "", ["1"]),
    ],
)
def test_a_template_names_the_segments_of_its_period(
    template: str, timeline: str, expected: list[str]
) -> None:
    times = f"<SegmentTimeline>{timeline}</SegmentTimeline>" if timeline else ""
    found = track(f"<Period>{video(NUMBERED.format(template, times))}</Period>")

    assert names(found) == [["init.mp4", *(f"{number}.m4s" for number in expected)]]


def test_the_identifiers_of_a_template_are_replaced() -> None:
    text = "$RepresentationID$/$Bandwidth$-$Number%05d$-$Time$-$$.m4s"
    inside = f'<SegmentTemplate media="{text}" duration="5" presentationTimeOffset="7"/>'

    (part,) = track(f"<Period>{video(inside)}</Period>").parts

    assert [each["url"] for each in part.fragments] == [
        "http://site.example/films/v/900-00001-7-$.m4s",
        "http://site.example/films/v/900-00002-12-$.m4s",
    ]


def test_a_base_url_counts_at_each_level() -> None:
    inside = "<BaseURL>r/</BaseURL>" + NUMBERED.format('duration="10"', "")
    adaptation = video(inside, base="<BaseURL>a/</BaseURL>")
    text = f"<BaseURL>m/</BaseURL><Period><BaseURL>/p/</BaseURL>{adaptation}</Period>"

    (part,) = track(text).parts

    assert part.fragments[0]["url"] == "http://site.example/p/a/r/init.mp4"


def test_segments_are_inherited_and_the_innermost_attribute_counts() -> None:
    outer = '<SegmentTemplate media="$Number$.m4s" timescale="10" duration="20"/>'
    inner = '<SegmentTemplate duration="50"/>'

    found = track(f"<Period>{outer}{video(inner)}</Period>")

    assert names(found) == [["1.m4s", "2.m4s"]]


def test_a_track_goes_on_with_what_is_like_it_in_each_period() -> None:
    template = NUMBERED.format('duration="5"', "")
    size, other = 'width="64" height="48" codecs="avc1.42c00d"', 'width="96" height="54"'
    second = (
        "<BaseURL>second/</BaseURL>"
        + video("<BaseURL>other/</BaseURL>" + template, other)
        + video("<BaseURL>same/</BaseURL>" + template, size.replace("avc1.42c00d", "avc3.64"))
    )
    periods = f'<Period duration="PT6S">{video(template, size)}</Period><Period>{second}</Period>'

    found = track(periods)

    assert [part.seconds for part in found.parts] == [6, 4]
    assert found.parts[1].fragments[0]["url"] == "http://site.example/films/second/same/init.mp4"


@pytest.mark.parametrize(
    ("periods", "attributes", "kind"),
    [
        ("<Period>{}</Period>", "", Unreadable),
        ('<Period duration="PT1S">{}</Period><Period>{other}</Period>', None, Unjoinable),
    ],
)
def test_a_track_says_why_it_cannot_be_fetched(
    periods: str, attributes: str | None, kind: type[Exception]
) -> None:
    template = NUMBERED.format('duration="4"', "")
    one, other = video(template, 'codecs="avc1.1"'), video(template, 'codecs="hvc1.1"')
    text = periods.format(one, other=other)

    found = track(text) if attributes is None else track(text, attributes)

    assert isinstance(found.error, kind)


@pytest.mark.parametrize(
    "template",
    ['duration="x"', 'duration="1" timescale="0"', 'duration="-1"', 'duration="0.0000001"'],
)
def test_a_malformed_manifest_is_an_error_of_its_track(template: str) -> None:
    found = track(f"<Period>{video(NUMBERED.format(template, ''))}</Period>")

    assert isinstance(found.error, Unreadable)


def test_more_segments_than_can_be_fetched_are_not_listed() -> None:
    timeline = '<SegmentTimeline><S d="1" r="2000000000"/></SegmentTimeline>'

    found = track(f"<Period>{video(NUMBERED.format('', timeline))}</Period>")

    assert isinstance(found.error, Unreadable)


def test_pictures_for_fast_forward_are_no_track() -> None:
    trick = '<EssentialProperty schemeIdUri="http://dashif.org/guidelines/trickmode" value="1"/>'
    template = NUMBERED.format('duration="5"', "")
    sets = video(template, base=trick) + video(template)

    assert list(read(manifest(f"<Period>{sets}</Period>"), URL, no_remote).tracks) == ["0"]


@pytest.mark.parametrize(
    ("attributes", "live"),
    [
        ('type="dynamic" minimumUpdatePeriod="PT2S"', True),
        ('type="dynamic"', True),
        ('type="dynamic" mediaPresentationDuration="PT10S"', False),
        ('type="static"', False),
    ],
)
def test_a_dynamic_manifest_is_live_until_its_length_is_known(attributes: str, live: bool) -> None:
    template = NUMBERED.format('duration="5"', "")
    text = f"<Period>{video(template)}</Period>"

    assert read(manifest(text, attributes), URL, no_remote).is_live == live


@pytest.mark.parametrize(
    ("template", "timeline", "expected"),
    [
        ('duration="4"', "", (None, 0.0, 4.0, 8.0)),
        ("", '<S d="3"/><S d="7"/>', (None, 0.0, 3.0)),
        # The period begins within its first segment.
        ('presentationTimeOffset="22"', '<S t="20" d="5" r="5"/>', (None, -2.0, 3.0, 8.0)),
        ("", "", ()),
    ],
)
def test_a_manifest_says_when_segments_begin(
    template: str, timeline: str, expected: tuple[float | None, ...]
) -> None:
    times = f"<SegmentTimeline>{timeline}</SegmentTimeline>" if timeline else ""
    found = track(f"<Period>{video(NUMBERED.format(template, times))}</Period>")

    assert found.parts[0].places == expected
