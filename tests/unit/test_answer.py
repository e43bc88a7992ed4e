from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ingot.v1 import reason_pb2
from ingot_server.transfer.headers import (
    LONGEST_WAIT,
    ByteRange,
    Version,
    content_range,
    file_name,
    location,
    status_failure,
)

URL = "http://example.com/dir/clip%20one.mp4?a=b/c.mkv"

NAMES = {
    "": "clip one.mp4",
    "inline": "clip one.mp4",
    "attachment; filename=a.mp4": "a.mp4",
    'attachment; filename="a b.mp4"': "a b.mp4",
    'attachment; FileName = "a.mp4"; size=1': "a.mp4",
    'attachment; filename="a\\"b;c.mp4"': 'a"b;c.mp4',
    "attachment; filename=\"plain.mp4\"; filename*=UTF-8''%e2%82%ac.mp4": "\u20ac.mp4",
    "attachment; filename*=iso-8859-1'en'%A3.mp4; filename=plain.mp4": "\xa3.mp4",
    "attachment; filename*=nonsense''%A3.mp4; filename=plain.mp4": "plain.mp4",
    "attachment; filename*=UTF-8''%ff.mp4": "clip one.mp4",
    'attachment; filename="=?UTF-8?B?4oKsIDEubXA0?="': "\u20ac 1.mp4",
    "attachment; filename==?utf-8?Q?=E2=82=AC_1.mp4?=": "\u20ac 1.mp4",
    'attachment; filename="=?utf-8?q?=E2=82=AC?= =?utf-8?q?_1.mp4?="': "\u20ac 1.mp4",
    'attachment; filename="=?iso-8859-1?Q?caf=E9.mp4?="; size=1': "caf\xe9.mp4",
    'attachment; filename="=?utf-8?B?Li4vYi5tcDQ=?="': "b.mp4",
    'attachment; filename="=?nonsense?B?YQ==?=.mp4"': "=?nonsense?B?YQ==?=.mp4",
    'attachment; filename="=?utf-8?B?YQ==?=.mp4"': "a.mp4",
    'attachment; filename="=?utf-8?B?A?=.mp4"': "=?utf-8?B?A?=.mp4",
    'attachment; filename="%E2%82%AC%20%2fb%00.mp4"': "b .mp4",
    'attachment; filename="100% of%ff.mp4"': "100% of%ff.mp4",
    "attachment; filename*=\"UTF-8''%e2%82%ac 1.mp4\"": "\u20ac 1.mp4",
    'attachment; filename="caf\udce9.mp4"': "caf\xe9.mp4",
    'attachment; filename="/etc/passwd"': "passwd",
    'attachment; filename="C:/a/b.mp4"': "b.mp4",
    'attachment; filename="..\\\\..\\\\b.mp4"': "b.mp4",
    'attachment; filename=".."': "clip one.mp4",
    'attachment; filename=""': "clip one.mp4",
    "attachment; filename*=UTF-8''a%00%0A%09b%E2%80%AE4pm.mp4": "a b 4pm.mp4",
    f"attachment; filename={'a' * 300}.mp4": "a" * 251 + ".mp4",
    f"attachment; filename={'b' * 300}": "b" * 255,
}


@pytest.mark.parametrize(("disposition", "name"), NAMES.items(), ids=lambda text: text[:40])
def test_a_file_is_named_by_its_disposition_else_by_its_url(disposition: str, name: str) -> None:
    assert file_name({"Content-Disposition": disposition}, URL) == name


@pytest.mark.parametrize("url", ["http://example.com/", "http://example.com/a/", "http://a/.."])
def test_a_url_without_a_last_segment_names_nothing(url: str) -> None:
    assert file_name({}, url) == ""


@pytest.mark.parametrize(
    ("field", "span"),
    {
        "bytes 5-9/10": ByteRange(5, 9, 10),
        "Bytes 0-0/*": ByteRange(0, 0, None),
        "bytes */10": ByteRange(None, None, 10),
        "bytes 5-9": None,
        "items 5-9/10": None,
        "": None,
    }.items(),
)
def test_a_content_range_is_read(field: str, span: ByteRange | None) -> None:
    assert content_range({"Content-Range": field}) == span


# No date there is, and no number that a computer counts in.
_FAR_OFF = (
    "Mon, 01 Jan 99999999999999 00:00:00 GMT",
    "Mon, 01 Jan 2030 00:00:00 +99999999999999999999",
)


def test_a_source_says_when_to_ask_again() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    waits = {
        field: status_failure(429, {"Retry-After": field}, "host").retry_after
        for field in ("", "5", "0", "999999999", "-1", "soon", past, soon, *_FAR_OFF)
    }
    assert timedelta(seconds=80) < waits.pop(soon) <= timedelta(seconds=90)
    assert waits.pop("5") == timedelta(seconds=5)
    assert waits.pop("999999999") == LONGEST_WAIT
    assert set(waits.values()) == {timedelta(seconds=1)}


def test_a_version_that_could_not_be_asked_for_again_is_none() -> None:
    assert Version.of({"ETag": '"\udce9"', "Last-Modified": "\udce9"}) == Version("", "")
    assert Version.of({"ETag": '"é"'}).etag == '"é"'


def test_a_refusal_names_the_host_and_the_status() -> None:
    failure = status_failure(404, {}, "media.example")
    assert failure.reason == reason_pb2.REASON_MEDIA_DOES_NOT_EXIST
    assert failure.metadata == {"http_status": "404"}
    assert "media.example" in failure.message


def test_a_location_keeps_its_bytes() -> None:
    field = b"/caf\xe9/\xc3\xa9".decode(errors="surrogateescape")
    assert location(field) == "/caf%E9/\xe9"
