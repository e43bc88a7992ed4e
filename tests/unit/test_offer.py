"""What a preview says of the formats of a source, and how `ingot resolve` shows it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingot.resolve_report import resolve_report
from ingot.v1.ingest_service_pb2 import OfferedFormat, ResolveResponse
from ingot.v1.media_pb2 import AudioStream, FrameRate
from ingot_server.extractor.offer import offer
from ingot_server.extractor.result import Offer, listed, resolved

TEXTS = ("extractor", "extractor_id", "identity", "title", "description", "uploader")
MESSAGE: dict[str, Any] = {
    **dict.fromkeys((*TEXTS, "thumbnail_url", "page_url", "format_id", "format_reason"), ""),
    "publish_time": None,
    "duration": None,
    "is_live": False,
    "size_bytes": None,
    "tags": [],
    "chapters": [],
    "audio": [],
}


def offered(*formats: dict[str, Any], **info: object) -> Offer:
    """Return what the worker makes of what the child says of these formats."""
    preview = {**offer({"formats": list(formats), **info}), "selection_error": ""}
    found = resolved(json.loads(json.dumps({**MESSAGE, "preview": preview})), "1").offer
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            {
                "format_id": "137",
                "ext": "mp4",
                "vcodec": "avc1.640028",
                "acodec": "none",
                "width": 1920,
                "height": 1080,
                "fps": 29.97,
                "tbr": 4400.5,
                "filesize": 5000,
            },
            OfferedFormat(
                format_id="137",
                extension="mp4",
                video_codec="h264",
                width=1920,
                height=1080,
                frame_rate=FrameRate(numerator=2997, denominator=100),
                bitrate_bps=4_400_500,
                size_bytes=5000,
            ),
        ),
        (
            {"format_id": "a", "vcodec": "none", "acodec": "mp4a.40.2", "language": "eng"},
            OfferedFormat(format_id="a", audio_codec="aac", language="en"),
        ),
        (
            {
                "format_id": "c",
                "acodec": "opus",
                "language": "fr",
                "format_note": "French (dubbed)",
            },
            OfferedFormat(
                format_id="c",
                audio_codec="opus",
                language="fr",
                audio_role=AudioStream.ROLE_DUBBED,
            ),
        ),
        (
            {"format_id": "b", "vcodec": "none", "acodec": "ec-3", "language": "Klingon!"},
            OfferedFormat(format_id="b", audio_codec="eac3", language="Klingon!"),
        ),
        (
            {"format_id": "c", "vcodec": "theora", "acodec": "vorbis", "height": -1, "fps": "x"},
            OfferedFormat(format_id="c", video_codec="theora", audio_codec="vorbis"),
        ),
        ({"format_id": 5, "filesize": 10**20}, OfferedFormat(format_id="5")),
    ],
)
def test_a_format_is_described_as_far_as_its_source_does(
    found: dict[str, Any], expected: OfferedFormat
) -> None:
    assert offered(found).formats == (expected,)


def test_storyboards_are_not_formats_and_too_many_are_cut() -> None:
    storyboard = {"format_id": "sb0", "vcodec": "none", "acodec": "none"}
    formats = offered(*[{"format_id": str(number)} for number in range(1000)], storyboard).formats
    assert (len(formats), formats[-1].format_id) == (300, "999")


def test_what_is_announced_says_when_it_begins() -> None:
    found = offered(live_status="is_upcoming", release_timestamp=1_900_000_000)
    assert found.is_upcoming
    assert found.start_time is not None
    assert found.start_time.timestamp() == 1_900_000_000


def test_an_entry_has_what_the_list_says_and_a_title_that_is_cut() -> None:
    entry = {
        "url": "http://a/b",
        "title": "x" * 4000,
        "duration": 2.5,
        "publish_time": 1_764_468_000.0,
        "live_status": "is_upcoming",
    }
    names = {"title": "", "extractor": "", "extractor_id": "", "total": 1}
    found = listed({**names, "entries": [entry]})
    assert found.urls == ("http://a/b",)
    assert len(found.entries[0].title) == 200
    assert found.entries[0].duration.ToTimedelta().total_seconds() == 2.5
    assert found.entries[0].publish_time.seconds == 1_764_468_000
    assert found.entries[0].kind == ResolveResponse.KIND_UPCOMING


def test_the_report_has_the_best_format_first() -> None:
    found = ResolveResponse(
        kind=ResolveResponse.KIND_MEDIA,
        formats=[
            OfferedFormat(format_id="low", video_codec="h264", width=320, height=240),
            OfferedFormat(format_id="high", video_codec="vp9", width=1920, height=1080),
        ],
    )
    found.media.title = "Bells"
    found.selection_error.message = "There is no audio in fr."
    report = resolve_report(found)
    assert "kind          media" in report
    assert "not selected  There is no audio in fr." in report
    assert report.index("vp9 1920x1080") < report.index("h264 320x240")


def test_the_report_of_a_list_has_its_entries() -> None:
    found = ResolveResponse(kind=ResolveResponse.KIND_LIST, entry_count=9)
    found.entries.add(url="http://a/b", title="Toll\n").duration.FromSeconds(90)
    report = resolve_report(found)
    assert report.splitlines()[-1].split() == ["1:30", "Toll", "http://a/b"]
    assert "entries  9" in report
    assert "stored" not in report
