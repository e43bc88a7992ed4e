"""What a source's first answer says, and when it rules a download out."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest

from ingot.v1 import reason_pb2
from ingot.v1.reason_pb2 import Reason
from ingot_server.errors import reason_name
from ingot_server.library.manifest_pb2 import SourceVersion
from ingot_server.setting_values import ByteSize
from ingot_server.transfer.content import START_BYTES
from ingot_server.transfer.download import Downloaded
from tests.integration.download.download_harness import CLIP, DownloadHarness
from tests.origin import Origin, Page


async def test_a_file_arrives_whole_with_what_its_source_said(
    origin: Origin, harness: DownloadHarness
) -> None:
    page = Page(
        CLIP,
        content_type="Video/MP4; codecs=avc1",
        etag='"v1"',
        last_modified="Fri, 20 Nov 2026 10:00:00 GMT",
        headers={"Content-Disposition": "attachment; filename*=UTF-8''%C3%A9t%C3%A9.mp4"},
    )
    url = origin.serve("/clip", page)
    assert await harness.take(url) == Downloaded(
        final_url=url,
        filename="été.mp4",
        content_type="video/mp4",
        size_bytes=len(CLIP),
        sha256=hashlib.sha256(CLIP).hexdigest(),
        http_etag='"v1"',
        http_last_modified="Fri, 20 Nov 2026 10:00:00 GMT",
        delivered=True,
    )
    assert harness.seen[0] == (0, len(CLIP))
    assert harness.seen[-1] == (len(CLIP), len(CLIP))
    [asked] = origin.gets("/clip")
    assert asked.headers["User-Agent"] == "Ingot/0.2"
    assert asked.headers["Accept-Encoding"] == "identity"
    assert not {"Range", "Proxy-Authorization", "Via", "Referer"} & set(asked.headers)


@pytest.mark.parametrize(
    "page",
    [
        Page(CLIP, chunked=True),
        Page(CLIP, content_type=None),
        Page(CLIP, content_type="application/octet-stream"),
        Page(CLIP, content_type="binary/whatever"),
        Page(CLIP, headers={"Content-Encoding": "identity"}),
        Page(CLIP, headers={"Content-Encoding": "none"}),
        Page(CLIP, status=203),
        Page(raw=b"HTTP/1.0 200 OK\r\nContent-Type: video/mp4\r\n\r\n" + CLIP),
    ],
    ids=lambda page: f"{page.content_type}-{page.status}-{page.chunked}",
)
async def test_a_plausible_answer_is_taken(
    origin: Origin, harness: DownloadHarness, page: Page
) -> None:
    await harness.take(origin.serve("/a/clip%20one.mp4", page))


async def test_without_a_length_progress_has_no_total(
    origin: Origin, harness: DownloadHarness
) -> None:
    url = origin.serve("/a/clip%20one.mp4", Page(CLIP, chunked=True))
    downloaded = await harness.take(url + "?x=/y")
    assert downloaded.filename == "clip one.mp4"
    assert harness.seen[0] == (0, None)
    assert harness.seen[-1] == (len(CLIP), len(CLIP))


async def test_a_url_is_asked_for_as_it_is(origin: Origin, harness: DownloadHarness) -> None:
    origin.serve("/a%2fb%2E|/~c%7E", Page(CLIP))
    for query in ("", "?", "?x=%20+%26&&y[]=%C3%a9;z", '?{"a"}=%2b|^`\\%zz?'):
        path = "/a%2fb%2E|/~c%7E" + query
        await harness.take(origin.url(path))
        assert origin.log[-1].path == path


REFUSALS = (401, 403, 406, 412, 429)
STATUSES = {
    400: "SOURCE_FAILED",
    401: "PRIVATE",
    403: "PRIVATE",
    406: "SOURCE_FAILED",
    404: "MEDIA_DOES_NOT_EXIST",
    410: "MEDIA_DOES_NOT_EXIST",
    418: "SOURCE_FAILED",
    429: "RATE_LIMITED",
    451: "GEO_BLOCKED",
    500: "SOURCE_FAILED",
    503: "SOURCE_FAILED",
    206: "SOURCE_FAILED",  # without the range that it holds
    304: "SOURCE_FAILED",
    300: "SOURCE_FAILED",
}


@pytest.mark.parametrize(("status", "reason"), STATUSES.items())
async def test_a_status_has_its_reason(
    origin: Origin, harness: DownloadHarness, status: int, reason: str
) -> None:
    page = Page(b"no", status=status, content_type="text/html", headers={"Retry-After": "7"})
    failure = await harness.failure(origin.serve("/clip.mp4", page))
    assert reason_name(failure.reason) == reason
    assert failure.metadata["http_status"] == str(status)
    assert failure.retry_after == timedelta(seconds=7)
    agents = [asked.headers["User-Agent"].partition("/")[0] for asked in origin.log]
    assert agents == (["Ingot", "Mozilla"] if status in REFUSALS else ["Ingot"])


@pytest.mark.parametrize("status", REFUSALS)
async def test_a_source_that_refuses_robots_is_asked_again_as_a_browser(
    origin: Origin, harness: DownloadHarness, status: int
) -> None:
    harness.settings = harness.settings.replace(user_agent="Example/1.0 (+https://a.example)")
    origin.serve("/start", Page(redirect="/clip.mp4"))
    page = Page(CLIP, refuses_robots=status, breaks=[400_000], etag='"1"')
    origin.serve("/clip.mp4", page)
    await harness.take(origin.url("/start"))
    asked = [(each.path, each.headers["User-Agent"][:11]) for each in origin.log]
    assert asked == [
        ("/start", "Example/1.0"),
        ("/clip.mp4", "Example/1.0"),
        ("/start", "Mozilla/5.0"),
        ("/clip.mp4", "Mozilla/5.0"),
        ("/clip.mp4", "Mozilla/5.0"),
    ]


TEXT = b"{'video': 'clip.mp4'}"
NOT_TAKEN: dict[str, tuple[Page, Reason.ValueType]] = {
    "page": (Page(CLIP, content_type="text/html; charset=utf-8"), reason_pb2.REASON_NOT_MEDIA),
    "json": (Page(TEXT, content_type="application/json"), reason_pb2.REASON_NOT_MEDIA),
    "text": (Page(TEXT, content_type="TEXT/plain"), reason_pb2.REASON_NOT_MEDIA),
    "picture": (Page(CLIP, content_type="image/png"), reason_pb2.REASON_NOT_MEDIA),
    "playlist": (Page(TEXT, content_type="audio/x-mpegurl"), reason_pb2.REASON_NOT_MEDIA),
    "dash": (Page(TEXT, content_type="application/dash+xml"), reason_pb2.REASON_NOT_MEDIA),
    "coded": (Page(CLIP, headers={"Content-Encoding": "zstd"}), reason_pb2.REASON_SOURCE_FAILED),
    "not brotli": (Page(TEXT, headers={"Content-Encoding": "br"}), reason_pb2.REASON_SOURCE_FAILED),
    "large": (Page(size=9 << 20), reason_pb2.REASON_TOO_LARGE),
    "huge": (Page(b"x", announce=1 << 62), reason_pb2.REASON_TOO_LARGE),
}


@pytest.mark.parametrize(("page", "reason"), NOT_TAKEN.values(), ids=NOT_TAKEN.keys())
async def test_what_the_beginning_rules_out_is_not_received(
    origin: Origin, harness: DownloadHarness, page: Page, reason: Reason.ValueType
) -> None:
    if len(page.content) > START_BYTES:
        page = replace(page, silent_after=START_BYTES)  # the rest of the body never comes
    harness.hurry()
    failure = await harness.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason
    assert len(origin.log) == 1


@pytest.mark.parametrize(
    "page", [Page(b""), Page(b"", chunked=True), Page(status=204, content_type=None)]
)
async def test_an_empty_file_is_not_media(
    origin: Origin, harness: DownloadHarness, page: Page
) -> None:
    failure = await harness.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_NOT_MEDIA


async def test_an_endless_file_ends_at_the_limit(origin: Origin, harness: DownloadHarness) -> None:
    failure = await harness.failure(origin.serve("/endless", Page(endless=True)))
    assert failure.reason == reason_pb2.REASON_TOO_LARGE
    assert failure.metadata == {"limited_by": "ingot", "limit_bytes": str(8 << 20)}
    await origin.idle()


async def test_no_room_in_scratch_is_reported_before_a_byte_arrives(
    origin: Origin, harness: DownloadHarness
) -> None:
    harness.settings = harness.settings.replace(max_media_size=ByteSize(1 << 62))
    page = Page(b"x", announce=1 << 60, gate=asyncio.Event())
    failure = await harness.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_SCRATCH_FULL


ETAG = SourceVersion(http_etag='"v1"')
DATE = SourceVersion(http_last_modified="Fri, 20 Nov 2026 10:00:00 GMT")


@pytest.mark.parametrize("stored", [ETAG, DATE])
async def test_an_unchanged_file_is_not_received(
    origin: Origin, harness: DownloadHarness, stored: SourceVersion
) -> None:
    page = Page(CLIP, etag=stored.http_etag, last_modified=stored.http_last_modified)
    url = origin.serve("/clip.mp4", page)
    async with harness.file() as file:
        assert await harness.into(file, url, stored) is None
        assert origin.bytes_sent("/clip.mp4") == 0
        page.etag, page.last_modified = '"v2"', "Sat, 21 Nov 2026 10:00:00 GMT"
        downloaded = await harness.into(file, url, stored)
        assert downloaded is not None
        assert (downloaded.http_etag, file.size) == ('"v2"', len(CLIP))
