from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Freshness
from ingot.v1.reason_pb2 import Reason
from ingot_server.config import ByteSize, SettingError, Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure, reason_name
from ingot_server.pipeline.download import Downloaded, download
from ingot_server.pipeline.follower import Abandoned
from ingot_server.pipeline.scratch import Scratch, ScratchFile
from tests.origin import Origin, Page, running_origin
from tests.tls import server_context

CLIP = random.Random(7).randbytes(700_001)
SECOND = timedelta(seconds=1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        scratch_dir=tmp_path / "scratch",
        scratch_reserve=ByteSize(0),
        egress_allow_loopback=True,
        connect_timeout=SECOND,
        stall_timeout=SECOND / 2,
        stall_rate=ByteSize(1000),
        max_media_size=ByteSize(8 << 20),
        max_redirects=4,
    )


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as origin:
        yield origin


@dataclass
class Desk:
    """All that a download takes, and the seen progress of the last one."""

    settings: Settings
    scratch: Scratch
    proxy: EgressProxy
    seen: list[tuple[int, int | None]] = field(default_factory=list)
    moving: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def file(self) -> AsyncIterator[ScratchFile]:
        async with self.scratch.open("job", 1) as file:
            yield file

    async def into(
        self, file: ScratchFile, url: str, freshness: Freshness | None = None
    ) -> Downloaded | None:
        self.seen.clear()
        egress = self.proxy.issue("job")
        try:
            return await download(
                url,
                file,
                proxy_url=egress.proxy_url,
                settings=self.settings,
                freshness=freshness,
                progress=self._progress,
            )
        finally:
            egress.revoke()

    def _progress(self, done: int, total: int | None) -> None:
        self.seen.append((done, total))
        self.moving.set()

    async def take(self, url: str, content: bytes = CLIP) -> Downloaded:
        async with self.file() as file:
            downloaded = await self.into(file, url)
            assert downloaded is not None
            assert file.path.read_bytes() == content
            assert file.size == downloaded.size_bytes == len(content)
            assert downloaded.sha256 == hashlib.sha256(content).hexdigest()
            return downloaded

    async def failure(self, url: str) -> Failure:
        async with self.file() as file:
            with pytest.raises(Failure) as caught:
                await self.into(file, url)
            with file.follow() as follower, pytest.raises((Failure, Abandoned)):
                follower.read()
            return caught.value


@pytest.fixture
async def desk(settings: Settings) -> AsyncIterator[Desk]:
    scratch, proxy = Scratch(settings), EgressProxy(settings)
    await scratch.start()
    await proxy.start()
    yield Desk(settings, scratch, proxy)
    await proxy.close()
    await scratch.close()


async def test_a_file_arrives_whole_with_what_its_source_said(origin: Origin, desk: Desk) -> None:
    page = Page(
        CLIP,
        content_type="Video/MP4; codecs=avc1",
        etag='"v1"',
        last_modified="Fri, 20 Nov 2026 10:00:00 GMT",
        headers={"Content-Disposition": "attachment; filename*=UTF-8''%C3%A9t%C3%A9.mp4"},
    )
    url = origin.serve("/clip", page)
    assert await desk.take(url) == Downloaded(
        final_url=url,
        filename="été.mp4",
        content_type="video/mp4",
        size_bytes=len(CLIP),
        sha256=hashlib.sha256(CLIP).hexdigest(),
        http_etag='"v1"',
        http_last_modified="Fri, 20 Nov 2026 10:00:00 GMT",
    )
    assert desk.seen[0] == (0, len(CLIP))
    assert desk.seen[-1] == (len(CLIP), len(CLIP))
    [asked] = origin.gets("/clip")
    assert asked.headers["User-Agent"] == "Ingot/0.1"
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
async def test_a_plausible_answer_is_taken(origin: Origin, desk: Desk, page: Page) -> None:
    await desk.take(origin.serve("/a/clip%20one.mp4", page))


async def test_without_a_length_progress_has_no_total(origin: Origin, desk: Desk) -> None:
    url = origin.serve("/a/clip%20one.mp4", Page(CLIP, chunked=True))
    downloaded = await desk.take(url + "?x=/y")
    assert downloaded.filename == "clip one.mp4"
    assert desk.seen[0] == (0, None)
    assert desk.seen[-1] == (len(CLIP), len(CLIP))


async def test_a_url_is_asked_for_as_it_is(origin: Origin, desk: Desk) -> None:
    origin.serve("/a%2Fb/c", Page(CLIP))
    path = "/a%2Fb/c?x=%20+%26&&y[]=%C3%A9;z"
    await desk.take(origin.url(path))
    assert origin.log[0].path == path


STATUSES = {
    400: "SOURCE_FAILED",
    401: "PRIVATE",
    403: "PRIVATE",
    404: "MEDIA_DOES_NOT_EXIST",
    410: "MEDIA_DOES_NOT_EXIST",
    418: "SOURCE_FAILED",
    429: "RATE_LIMITED",
    451: "GEO_BLOCKED",
    500: "SOURCE_FAILED",
    503: "SOURCE_FAILED",
    206: "SOURCE_FAILED",
    304: "SOURCE_FAILED",
    300: "SOURCE_FAILED",
}


@pytest.mark.parametrize(("status", "reason"), STATUSES.items())
async def test_a_status_has_its_reason(
    origin: Origin, desk: Desk, status: int, reason: str
) -> None:
    page = Page(b"no", status=status, content_type="text/html", headers={"Retry-After": "7"})
    failure = await desk.failure(origin.serve("/clip.mp4", page))
    assert reason_name(failure.reason) == reason
    assert failure.metadata["http_status"] == str(status)
    assert failure.retry_after == timedelta(seconds=7)
    assert len(origin.log) == 1


NOT_TAKEN: dict[str, tuple[Page, Reason.ValueType]] = {
    "page": (Page(CLIP, content_type="text/html; charset=utf-8"), reason_pb2.REASON_NOT_MEDIA),
    "json": (Page(CLIP, content_type="application/json"), reason_pb2.REASON_NOT_MEDIA),
    "ld": (Page(CLIP, content_type="application/ld+json"), reason_pb2.REASON_NOT_MEDIA),
    "text": (Page(CLIP, content_type="TEXT/plain"), reason_pb2.REASON_NOT_MEDIA),
    "picture": (Page(CLIP, content_type="image/png"), reason_pb2.REASON_NOT_MEDIA),
    "playlist": (Page(CLIP, content_type="audio/x-mpegurl"), reason_pb2.REASON_NOT_MEDIA),
    "dash": (Page(CLIP, content_type="application/dash+xml"), reason_pb2.REASON_NOT_MEDIA),
    "coded": (Page(CLIP, headers={"Content-Encoding": "br"}), reason_pb2.REASON_SOURCE_FAILED),
    "large": (Page(size=9 << 20), reason_pb2.REASON_TOO_LARGE),
    "huge": (Page(b"x", announce=1 << 62), reason_pb2.REASON_TOO_LARGE),
}


@pytest.mark.parametrize(("page", "reason"), NOT_TAKEN.values(), ids=NOT_TAKEN.keys())
async def test_what_the_headers_rule_out_is_not_received(
    origin: Origin, desk: Desk, page: Page, reason: Reason.ValueType
) -> None:
    page = replace(page, gate=asyncio.Event())  # the body never comes
    failure = await desk.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason
    assert len(origin.log) == 1


@pytest.mark.parametrize(
    "page", [Page(b""), Page(b"", chunked=True), Page(status=204, content_type=None)]
)
async def test_an_empty_file_is_no_media(origin: Origin, desk: Desk, page: Page) -> None:
    failure = await desk.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_NOT_MEDIA


async def test_an_endless_file_ends_at_the_limit(origin: Origin, desk: Desk) -> None:
    failure = await desk.failure(origin.serve("/endless", Page(endless=True)))
    assert failure.reason == reason_pb2.REASON_TOO_LARGE
    assert failure.metadata["limit_bytes"] == str(8 << 20)
    await origin.idle()


async def test_no_room_in_scratch_is_told_before_a_byte_came(origin: Origin, desk: Desk) -> None:
    desk.settings = desk.settings.replace(max_media_size=ByteSize(1 << 62))
    page = Page(b"x", announce=1 << 60, gate=asyncio.Event())
    failure = await desk.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_SCRATCH_FULL


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(origin: Origin, desk: Desk, status: int) -> None:
    origin.serve("/a/start", Page(status=status, redirect="../b/next?x=1#top"))
    origin.serve("/b/next", Page(status=status, redirect=origin.url("/b/./clip%2emp4")))
    url = origin.serve("/b/clip.mp4", Page(CLIP))
    downloaded = await desk.take(origin.url("/a/start"))
    assert (downloaded.final_url, downloaded.filename) == (url, "clip.mp4")
    assert [asked.path for asked in origin.log] == ["/a/start", "/b/next?x=1", "/b/clip.mp4"]


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
    origin: Origin, desk: Desk, target: str, reason: str
) -> None:
    failure = await desk.failure(origin.serve("/loop", Page(redirect=target)))
    assert reason_name(failure.reason) == reason
    assert len(origin.log) == (5 if target == "/loop" else 1)


async def test_a_redirect_without_a_target_is_the_sources_failure(
    origin: Origin, desk: Desk
) -> None:
    raw = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"
    failure = await desk.failure(origin.serve("/a", Page(raw=raw)))
    assert failure.reason == reason_pb2.REASON_SOURCE_FAILED


async def test_the_first_url_is_checked_too(desk: Desk) -> None:
    failure = await desk.failure("http://10.0.0.1/clip.mp4")
    assert failure.reason == reason_pb2.REASON_ADDRESS_FORBIDDEN


async def test_a_cookie_of_a_redirect_is_sent_to_its_target(desk: Desk) -> None:
    async with running_origin() as origin:
        base = origin.base.replace("127.0.0.1", "localhost")
        cookie = {"Set-Cookie": "pass=1; Path=/"}
        origin.serve("/a", Page(redirect=base + "/b", headers=cookie))
        origin.serve("/b", Page(CLIP))
        await desk.take(base + "/a")
        assert origin.log[1].headers["Cookie"] == "pass=1"


# Broken transfers


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("ranges", [False, True])
@pytest.mark.parametrize("etag", ["", '"v1"', 'W/"v1"'])
@pytest.mark.parametrize("last_modified", ["", "Fri, 20 Nov 2026 10:00:00 GMT"])
async def test_a_broken_transfer_is_taken_up_again(
    origin: Origin, desk: Desk, chunked: bool, ranges: bool, etag: str, last_modified: str
) -> None:
    offsets = random.Random(f"{chunked}{ranges}{etag}{last_modified}")
    breaks = sorted(offsets.sample(range(1, len(CLIP) // 2), 2))
    page = Page(
        CLIP,
        chunked=chunked,
        ranges=ranges,
        etag=etag,
        last_modified=last_modified,
        breaks=list(breaks),
    )
    await desk.take(origin.serve("/clip.mp4", page))
    first, second, *_ = origin.log
    assert first.headers.get("Range") is None
    assert second.headers["Range"] == f"bytes={breaks[0]}-"
    assert second.headers.get("If-Range", "") == (etag if etag == '"v1"' else last_modified)
    if ranges:
        assert origin.bytes_sent("/clip.mp4") == len(CLIP)


async def test_a_follower_does_not_notice_a_break(origin: Origin, desk: Desk) -> None:
    page = Page(CLIP, ranges=False, breaks=[300_000, 500_000])
    url = origin.serve("/clip.mp4", page)
    async with desk.file() as file:
        with file.follow() as follower:
            reading = asyncio.create_task(asyncio.to_thread(follower.read))
            await desk.into(file, url)
            assert await reading == CLIP


async def test_a_break_before_the_first_byte_is_taken_up_again(origin: Origin, desk: Desk) -> None:
    await desk.take(origin.serve("/clip.mp4", Page(CLIP, breaks=[0, 0])))


async def test_a_break_behind_a_redirect_is_taken_up_at_its_target_then_anew(
    origin: Origin, desk: Desk
) -> None:
    origin.serve("/start", Page(redirect="/clip.mp4?signature=1"))
    origin.serve("/clip.mp4", Page(CLIP, breaks=[100_000, 100_000]))
    await desk.take(origin.url("/start"))
    assert [asked.path for asked in origin.log] == [
        "/start",
        "/clip.mp4?signature=1",
        "/clip.mp4?signature=1",
        "/start",
        "/clip.mp4?signature=1",
    ]


def _grow(page: Page) -> None:
    page.content += b"more"


def _replace(page: Page) -> None:
    page.content = CLIP[::-1]


def _replace_and_say_so(page: Page) -> None:
    page.content, page.etag = CLIP[::-1], '"v2"'


CHANGES: dict[str, tuple[Callable[[Page], None], bool]] = {
    "grown": (_grow, True),
    "grown, no ranges": (_grow, False),
    "another tag": (_replace_and_say_so, True),
    "another tag, no ranges": (_replace_and_say_so, False),
    "other bytes, no ranges": (_replace, False),
}


@pytest.mark.parametrize(("change", "ranges"), CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("followed", [False, True])
async def test_a_file_that_changes_under_way_is_begun_anew_unless_it_was_read(
    origin: Origin, desk: Desk, change: Callable[[Page], None], ranges: bool, followed: bool
) -> None:
    gate = asyncio.Event()
    page = Page(CLIP, ranges=ranges, etag='"v1"', breaks=[400_000], gate=gate)
    if change is not _replace_and_say_so:
        page.etag = ""
    url = origin.serve("/clip.mp4", page)
    async with desk.file() as file:
        downloading = asyncio.create_task(desk.into(file, url))
        await origin.arrived()
        with file.follow() as follower:
            taking = 1000 if followed else 1 << 30
            reading = asyncio.create_task(asyncio.to_thread(follower.read, taking))
            gate.set()
            await origin.log[0].ended.wait()
            change(page)
            if followed:
                with pytest.raises(Failure) as caught:
                    await downloading
                assert caught.value.reason == reason_pb2.REASON_SOURCE_FAILED
                assert caught.value.transient
                assert await reading == CLIP[:1000]
            else:
                downloaded = await downloading
                assert downloaded is not None
                assert await reading == page.content == file.path.read_bytes()
                assert downloaded.sha256 == hashlib.sha256(page.content).hexdigest()


async def test_a_range_that_is_not_the_asked_one_is_not_appended(
    origin: Origin, desk: Desk
) -> None:
    wrong = {"Content-Range": f"bytes 5-{len(CLIP) - 1}/{len(CLIP)}"}
    page = Page(CLIP, breaks=[400_000], headers=wrong)
    await desk.take(origin.serve("/clip.mp4", page))
    assert len(origin.log) == 3


@pytest.mark.parametrize("ranges", [False, True])
async def test_fewer_bytes_than_announced_are_truncated(
    origin: Origin, desk: Desk, ranges: bool
) -> None:
    page = Page(CLIP, announce=len(CLIP) + 5000, ranges=ranges)
    failure = await desk.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_TRUNCATED
    assert str(len(CLIP)) in failure.message


@pytest.mark.parametrize("surplus", [b"x", CLIP])
async def test_what_follows_the_announced_length_is_no_part_of_the_file(
    origin: Origin, desk: Desk, surplus: bytes
) -> None:
    # RFC 9112, section 6.3. Whether the announced bytes are a whole media, the probe tells.
    await desk.take(origin.serve("/clip.mp4", Page(CLIP, surplus=surplus)))


async def test_a_range_longer_than_announced_is_truncated(origin: Origin, desk: Desk) -> None:
    total = len(CLIP) - 100
    honest = {"Content-Range": f"bytes 400000-{total - 1}/{total}"}
    page = Page(CLIP, chunked=True, breaks=[400_000], headers=honest)
    failure = await desk.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_TRUNCATED


async def test_a_transfer_that_always_breaks_at_one_place_is_given_up(
    origin: Origin, desk: Desk
) -> None:
    page = Page(CLIP, ranges=False, breaks_always=50_000)
    failure = await desk.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_TRUNCATED
    assert len(origin.log) < 6


async def test_a_chunked_transfer_that_always_breaks_is_given_up(
    origin: Origin, desk: Desk
) -> None:
    page = Page(CLIP, ranges=False, chunked=True, breaks_always=50_000)
    failure = await desk.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE


# Slow and unreachable sources


async def test_a_source_that_never_answers_has_stalled(origin: Origin, desk: Desk) -> None:
    begin = time.monotonic()
    failure = await desk.failure(origin.serve("/clip.mp4", Page(CLIP, silent_after=-1)))
    assert failure.reason == reason_pb2.REASON_STALLED
    assert 0.4 < time.monotonic() - begin < 5


@pytest.mark.parametrize(
    "page", [Page(CLIP, silent_after=0), Page(CLIP, silent_after=300_000), Page(CLIP, rate=20)]
)
async def test_a_source_below_the_rate_has_stalled(origin: Origin, desk: Desk, page: Page) -> None:
    failure = await desk.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_STALLED
    await origin.idle()
    assert len(origin.log) == 1


async def test_a_slow_source_above_the_rate_is_waited_for(origin: Origin, desk: Desk) -> None:
    content = CLIP[:5000]
    await desk.take(origin.serve("/clip.mp4", Page(content, rate=5000)), content)


async def test_a_download_ends_at_its_time_limit(origin: Origin, desk: Desk) -> None:
    desk.settings = desk.settings.replace(download_timeout=SECOND / 4)
    failure = await desk.failure(origin.serve("/clip.mp4", Page(CLIP, rate=50_000)))
    assert failure.reason == reason_pb2.REASON_STAGE_TIMEOUT
    assert failure.metadata == {"stage": "DOWNLOADING"}


async def test_a_closed_port_is_unreachable(desk: Desk) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        failure = await desk.failure(f"http://127.0.0.1:{port}/clip.mp4")
        assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE
        failure = await desk.failure(f"https://127.0.0.1:{port}/clip.mp4")
        assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE


async def test_what_is_no_http_or_no_tls_is_told_as_such(origin: Origin, desk: Desk) -> None:
    url = origin.serve("/clip.mp4", Page(raw=b"SSH-2.0-OpenSSH_9.2\r\n\r\n"))
    failure = await desk.failure(url)
    assert failure.reason in {
        reason_pb2.REASON_SOURCE_UNREACHABLE,
        reason_pb2.REASON_SOURCE_FAILED,
    }
    failure = await desk.failure(url.replace("http:", "https:"))
    assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE


async def test_an_unknown_host_is_not_found(settings: Settings) -> None:
    async def resolve(host: str) -> list[IPv4Address]:
        raise OSError(f"{host} is unknown")

    scratch, proxy = Scratch(settings), EgressProxy(settings, resolve=resolve)
    await scratch.start()
    await proxy.start()
    desk = Desk(settings, scratch, proxy)
    for scheme in ("http", "https"):
        failure = await desk.failure(f"{scheme}://clip.invalid/clip.mp4")
        assert failure.reason == reason_pb2.REASON_HOST_NOT_FOUND
    await proxy.close()
    await scratch.close()


async def test_a_cancelled_download_closes_its_connection_at_once(
    origin: Origin, desk: Desk
) -> None:
    url = origin.serve("/clip.mp4", Page(CLIP, rate=100_000))
    async with desk.file() as file:
        downloading = asyncio.create_task(desk.into(file, url))
        await desk.moving.wait()
        begin = time.monotonic()
        downloading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await downloading
        await origin.idle()
        assert time.monotonic() - begin < 4  # of the seven that the rest would take
        with file.follow() as follower, pytest.raises(Abandoned):
            follower.read(1)
    assert not file.path.exists()


# Conditional requests

ETAG = Freshness(http_etag='"v1"')
DATE = Freshness(http_last_modified="Fri, 20 Nov 2026 10:00:00 GMT")


@pytest.mark.parametrize("freshness", [ETAG, DATE])
async def test_an_unchanged_file_is_not_received(
    origin: Origin, desk: Desk, freshness: Freshness
) -> None:
    page = Page(CLIP, etag=freshness.http_etag, last_modified=freshness.http_last_modified)
    url = origin.serve("/clip.mp4", page)
    async with desk.file() as file:
        assert await desk.into(file, url, freshness) is None
        assert origin.bytes_sent("/clip.mp4") == 0
        page.etag, page.last_modified = '"v2"', "Sat, 21 Nov 2026 10:00:00 GMT"
        downloaded = await desk.into(file, url, freshness)
        assert downloaded is not None
        assert (downloaded.http_etag, file.size) == ('"v2"', len(CLIP))


# TLS


async def test_a_certificate_of_the_given_authority_is_trusted_and_no_other(
    desk: Desk, tmp_path: Path
) -> None:
    context, authority = server_context(tmp_path)
    async with running_origin(context) as origin:
        url = origin.serve("/clip.mp4", Page(CLIP, breaks=[300_000]))
        failure = await desk.failure(url)
        assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE
        assert "INGOT_EGRESS_CA_FILE" in failure.message
        assert origin.log == []
        desk.settings = desk.settings.replace(egress_ca_file=str(authority))
        await desk.take(url)
        assert [asked.headers.get("Range") for asked in origin.log] == [None, "bytes=300000-"]


async def test_an_authority_that_cannot_be_read_is_named(desk: Desk, tmp_path: Path) -> None:
    desk.settings = desk.settings.replace(egress_ca_file=str(tmp_path / "none.pem"))
    async with desk.file() as file:
        with pytest.raises(SettingError, match="INGOT_EGRESS_CA_FILE"):
            await desk.into(file, "https://127.0.0.1/clip.mp4")


async def test_over_tls_a_cancelled_or_stalled_download_closes_its_connection_at_once(
    desk: Desk, tmp_path: Path
) -> None:
    context, authority = server_context(tmp_path)
    desk.settings = desk.settings.replace(egress_ca_file=str(authority))
    async with running_origin(context) as origin:
        silent = origin.serve("/silent.mp4", Page(CLIP, silent_after=-1))
        assert (await desk.failure(silent)).reason == reason_pb2.REASON_STALLED
        url = origin.serve("/clip.mp4", Page(CLIP, rate=100_000))
        async with desk.file() as file:
            downloading = asyncio.create_task(desk.into(file, url))
            await origin.arrived(2)
            begin = time.monotonic()
            downloading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await downloading
            await origin.idle()
            assert time.monotonic() - begin < 4  # of the seven that the rest would take
