"""Where redirects lead, and where they do not."""

from __future__ import annotations

import pytest

from ingot.v1 import reason_pb2
from ingot_server.errors import reason_name
from tests.integration.download.download_harness import CLIP, DownloadHarness
from tests.origin import Origin, Page, running_origin


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(
    origin: Origin, harness: DownloadHarness, status: int
) -> None:
    origin.serve("/a/start", Page(status=status, redirect="../b/next?x=1#top"))
    origin.serve("/b/next", Page(status=status, redirect=origin.url("/b/./clip%2emp4")))
    url = origin.serve("/b/clip%2emp4", Page(CLIP))
    downloaded = await harness.take(origin.url("/a/start"))
    assert (downloaded.final_url, downloaded.filename) == (url, "clip.mp4")
    assert [asked.path for asked in origin.log] == ["/a/start", "/b/next?x=1", "/b/clip%2emp4"]


@pytest.mark.parametrize(
    ("location", "path"),
    {
        "/clip%2b%7E|?sig=a%2fb/c==&x=%7e?": "/clip%2b%7E|?sig=a%2fb/c==&x=%7e?",
        "/clip%2b%7E|?": "/clip%2b%7E|?",
        "?a=1": "/start?a=1",
        "clip one.mp4": "/clip%20one.mp4",
        "é.mp4": "/%C3%A9.mp4",
    }.items(),
)
async def test_a_redirect_is_followed_as_it_was_written(
    origin: Origin, harness: DownloadHarness, location: str, path: str
) -> None:
    origin.serve("/start", Page(redirect=location))
    failed = await harness.failure(origin.url("/start"))
    assert failed.reason in {
        reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
        reason_pb2.REASON_TOO_MANY_REDIRECTS,
    }
    assert origin.log[1].path == path


REDIRECTS = {
    "/loop": "TOO_MANY_REDIRECTS",
    "http://10.0.0.1/clip.mp4": "ADDRESS_FORBIDDEN",
    "http://169.254.169.254/latest/meta-data": "ADDRESS_FORBIDDEN",
    "http://[::ffff:10.0.0.1]/": "ADDRESS_FORBIDDEN",
    "http://0x0a.1/": "ADDRESS_FORBIDDEN",
    "//192.168.1.1/clip.mp4": "ADDRESS_FORBIDDEN",
    "http://printer.local/": "ADDRESS_FORBIDDEN",
    "https://10.0.0.1/clip.mp4": "ADDRESS_FORBIDDEN",
    "file:///etc/passwd": "UNSUPPORTED_URL",
    "ftp://example.com/clip.mp4": "UNSUPPORTED_URL",
    "javascript:alert(1)": "UNSUPPORTED_URL",
    "data:video/mp4;base64,AAAA": "UNSUPPORTED_URL",
    "http://user:secret@127.0.0.1/": "UNSUPPORTED_URL",
    "http://[::1/": "UNSUPPORTED_URL",
    "/" + "a" * 9000: "UNSUPPORTED_URL",
}


@pytest.mark.parametrize(("target", "reason"), REDIRECTS.items(), ids=lambda text: text[:30])
async def test_a_redirect_that_leads_nowhere_is_refused(
    origin: Origin, harness: DownloadHarness, target: str, reason: str
) -> None:
    failure = await harness.failure(origin.serve("/loop", Page(redirect=target)))
    assert reason_name(failure.reason) == reason
    assert len(origin.log) == (5 if target == "/loop" else 1)


async def test_a_redirect_without_a_target_is_the_sources_failure(
    origin: Origin, harness: DownloadHarness
) -> None:
    raw = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"
    failure = await harness.failure(origin.serve("/a", Page(raw=raw)))
    assert failure.reason == reason_pb2.REASON_SOURCE_FAILED


async def test_the_first_url_is_checked_too(harness: DownloadHarness) -> None:
    failure = await harness.failure("http://10.0.0.1/clip.mp4")
    assert failure.reason == reason_pb2.REASON_ADDRESS_FORBIDDEN


async def test_a_cookie_of_a_redirect_is_sent_to_its_target(harness: DownloadHarness) -> None:
    async with running_origin() as origin:
        base = origin.base.replace("127.0.0.1", "localhost")
        cookie = {"Set-Cookie": "pass=1; Path=/"}
        origin.serve("/a", Page(redirect=base + "/b", headers=cookie))
        origin.serve("/b", Page(CLIP))
        await harness.take(base + "/a")
        assert origin.log[1].headers["Cookie"] == "pass=1"
