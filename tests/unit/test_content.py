from __future__ import annotations

import pytest

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.transfer.content import (
    MARKUP_BYTES,
    START_BYTES,
    Kind,
    ManifestResponse,
    check_content,
    kind_of,
)
from ingot_server.transfer.headers import PageResponse
from tests.media import RECIPES, media

MEDIA_NAMES = sorted(name for name in RECIPES if not name.startswith(("picture", "moving")))

STARTS = {
    b"\xff\xfb\x90\x64" + bytes(400): Kind.MEDIA,
    b"\xff\xf1\x50\x80" + bytes(400): Kind.MEDIA,
    b"\0\0\0\x18ftypisom": Kind.MEDIA,
    b"\0\0\0\x18ftypavif": Kind.BINARY,
    b"\xff\xd8\xff\xe0\0\x10JFIF": Kind.BINARY,
    b"\x89PNG\r\n\x1a\n": Kind.BINARY,
    b"RIFF\0\0\0\0WEBPVP8 ": Kind.BINARY,
    b"%PDF-1.7\n\x01": Kind.BINARY,
    b"#EXTM3U\n": Kind.MANIFEST,
    b"\xef\xbb\xbf\r\n#EXTM3U": Kind.MANIFEST,
    b"<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'>": Kind.MANIFEST,
    b"<?xml version='1.0'?>\n<!-- " + b"-" * 2000 + b" -->\n<MPD\n": Kind.MANIFEST,
    b"<?xml version='1.0'?><dash:MPD xmlns:dash='x'>": Kind.MANIFEST,
    b"<?xml version='1.0'?>\n<!-- made by -->\n<rss version='2.0'><channel>": Kind.PAGE,
    b"<?xml version='1.0'?><?xml-stylesheet href='a'?><rss>": Kind.PAGE,
    b"\xef\xbb\xbf <rss>": Kind.PAGE,
    b"<?xml version='1.0'?><feed xmlns='http://www.w3.org/2005/Atom'>": Kind.TEXT,
    b"<html><a href='/feed'>&lt;rss</a> <rss": Kind.PAGE,
    b"\n <!-- a --><!DOCTYPE HTML>": Kind.PAGE,
    b"<?xml version='1.0'?><!DOCTYPE html PUBLIC ''>": Kind.PAGE,
    b"<svg xmlns='http://www.w3.org/2000/svg'>": Kind.TEXT,
    b"{'video': 'clip.mp4'}": Kind.TEXT,
    b"WEBVTT\n": Kind.TEXT,
    "\ufeffein Text".encode("utf-16-le"): Kind.TEXT,
    b"--boundary\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\xff\0": Kind.BINARY,
    b"": Kind.TEXT,
}
NEVER_MEDIA = (
    *("text/plain", "TEXT/HTML; charset=x", "application/x-www-form-urlencoded", "image/jpeg"),
    *("multipart/form-data; boundary=x", "application/json", "audio/x-mpegurl", "font/woff"),
    *("application/dash+xml", "application/problem+json", "application/pdf", "image/svg+xml"),
)
POSSIBLE = ("", "video/mp4", "audio/mpeg", "application/octet-stream", "application/ogg", "x/y")


@pytest.mark.parametrize(("start", "kind"), STARTS.items(), ids=lambda value: repr(value)[:40])
def test_first_bytes_tell_what_a_file_is(start: bytes, kind: Kind) -> None:
    assert kind_of(start) is kind


@pytest.mark.parametrize("name", MEDIA_NAMES)
def test_every_kind_of_media_is_media_whatever_its_type(name: str) -> None:
    start = media(name).read_bytes()[:START_BYTES]
    for content_type in (*NEVER_MEDIA, *POSSIBLE):
        check_content(start, {"Content-Type": content_type}, "host")


@pytest.mark.parametrize("content_type", [*NEVER_MEDIA, *POSSIBLE])
def test_a_manifest_or_a_page_is_one_whatever_its_type(content_type: str) -> None:
    for start, kind in STARTS.items():
        if kind not in {Kind.MANIFEST, Kind.PAGE}:
            continue
        with pytest.raises(PageResponse) as caught:
            check_content(start[:MARKUP_BYTES], {"Content-Type": content_type}, "host")
        assert isinstance(caught.value, ManifestResponse) == (kind is Kind.MANIFEST)


def test_what_is_not_known_is_received_unless_its_type_forbids_it() -> None:
    unknown = b"\0\1\2\3"
    for content_type in (*POSSIBLE, "text/plain", "application/json", "audio/x-mpegurl"):
        check_content(unknown, {"Content-Type": content_type}, "host")
    for content_type in ("image/jpeg", "text/html", "multipart/form-data", "application/pdf"):
        with pytest.raises(Failure):
            check_content(unknown, {"Content-Type": content_type}, "host")


@pytest.mark.parametrize("content_type", NEVER_MEDIA)
def test_text_of_a_type_that_is_no_media_is_not_received(content_type: str) -> None:
    with pytest.raises(Failure) as caught:
        check_content(b"some text", {"Content-Type": content_type}, "host")
    assert caught.value.reason == reason_pb2.REASON_NOT_MEDIA
    assert caught.value.metadata == {"content_type": content_type.partition(";")[0].lower()}
