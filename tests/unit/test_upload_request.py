"""What the requests of an upload say together."""

from __future__ import annotations

import pytest

from ingot.v1.ingest_service_pb2 import (
    CompleteUploadRequest,
    CreateUploadUrlRequest,
    IngestRequest,
    UploadHeader,
)
from ingot.v1.job_pb2 import JOB_PRIORITY_HIGH, JOB_PRIORITY_LOW, IngestOptions
from ingot_server.api.upload_request import (
    check_continues,
    checked,
    first_header,
    last_header,
    merged,
    part_size,
)
from ingot_server.errors import Failure
from tests.conversions import MP3, WAV

SHA = "0" * 64


def test_every_call_that_creates_something_has_the_same_fields_for_its_job() -> None:
    names = ("request_id", "priority", "labels", "recipes", "options")
    for message in (UploadHeader, CreateUploadUrlRequest, CompleteUploadRequest):
        for name in names:
            field = message.DESCRIPTOR.fields_by_name[name]
            expected = IngestRequest.DESCRIPTOR.fields_by_name[name]
            assert field.message_type is expected.message_type or name == "labels"
            assert field.GetOptions() == expected.GetOptions(), (message, name)


def test_a_later_request_replaces_what_it_sets_and_leaves_the_rest() -> None:
    first = UploadHeader(
        filename="a.mp4",
        size_bytes=9,
        labels={"a": "1", "b": "2"},
        priority=JOB_PRIORITY_LOW,
        recipes=[MP3, WAV],
    )
    later = CompleteUploadRequest(
        upload_id="u", sha256=SHA, labels={"c": "3"}, priority=JOB_PRIORITY_HIGH
    )
    header = merged(first, last_header(later, later.upload_id))
    assert (header.filename, header.size_bytes, header.sha256) == ("a.mp4", 9, SHA)
    assert header.labels == {"c": "3"}
    assert header.priority == JOB_PRIORITY_HIGH
    assert list(header.recipes) == [MP3, WAV]
    assert list(merged(header, UploadHeader(recipes=[WAV])).recipes) == [WAV]
    assert list(first.recipes) == [MP3, WAV]
    with pytest.raises(Failure, match="sha256 was 0000") as caught:
        merged(header, UploadHeader(sha256="1" * 64))
    assert set(caught.value.violations) == {"sha256"}


@pytest.mark.parametrize("field", IngestOptions.DESCRIPTOR.fields_by_name)
def test_an_option_that_means_nothing_for_a_file_is_refused(field: str) -> None:
    options = {
        "playlist": IngestOptions(playlist=True),
        "max_entries": IngestOptions(max_entries=3),
        "record_duration": IngestOptions(record_duration={"seconds": 3}),  # type: ignore[arg-type]
        "subtitle_languages": IngestOptions(subtitle_languages=["en"]),
        "automatic_subtitles": IngestOptions(automatic_subtitles=True),
        "thumbnail": IngestOptions(thumbnail=True),
        "all_subtitles": IngestOptions(all_subtitles=True),
        "info": IngestOptions(info=True),
        "storyboard": IngestOptions(storyboard=True),
    }[field]
    with pytest.raises(Failure) as caught:
        checked(UploadHeader(options=options), at="header.")
    assert set(caught.value.violations) == {f"header.options.{field}"}
    assert checked(UploadHeader(options=IngestOptions())).options == IngestOptions()


def test_an_upload_by_links_begins_with_its_size_and_type() -> None:
    with pytest.raises(Failure) as caught:
        first_header(CreateUploadUrlRequest(), "u")
    assert set(caught.value.violations) == {"size_bytes", "content_type"}
    request = CreateUploadUrlRequest(size_bytes=5, content_type="video/mp4", recipes=[MP3, MP3])
    header = first_header(request, "u")
    assert (header.upload_id, header.size_bytes) == ("u", 5)
    assert [recipe.mp3.bitrate_kbps for recipe in header.recipes] == [192]

    request.upload_id = "u"
    with pytest.raises(Failure) as caught:
        check_continues(request)
    assert set(caught.value.violations) == {"size_bytes", "content_type", "recipes"}
    check_continues(CreateUploadUrlRequest(upload_id="u", offset=3, part_size_bytes=2))


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [(0, 0, 64 << 20), (64 << 20, 0, 36 << 20), (1, 5, 5), ((100 << 20) - 1, 0, 1)],
)
def test_a_part_is_64_mib_or_the_rest_of_the_file(offset: int, size: int, expected: int) -> None:
    request = CreateUploadUrlRequest(offset=offset, part_size_bytes=size)
    assert part_size(request, 100 << 20) == expected


@pytest.mark.parametrize(
    ("offset", "size", "field"),
    [(100, 0, "offset"), (101, 1, "offset"), (99, 2, "part_size_bytes")],
)
def test_a_part_outside_of_the_file_is_refused(offset: int, size: int, field: str) -> None:
    with pytest.raises(Failure) as caught:
        part_size(CreateUploadUrlRequest(offset=offset, part_size_bytes=size), 100)
    assert set(caught.value.violations) == {field}
