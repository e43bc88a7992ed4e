"""Broken transfers are resumed if that gives the same file; otherwise the download fails."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable

import pytest

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from tests.integration.download.download_harness import CLIP, DownloadHarness
from tests.origin import Origin, Page


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("ranges", [False, True])
@pytest.mark.parametrize("etag", ["", '"v1"', 'W/"v1"'])
@pytest.mark.parametrize("last_modified", ["", "Fri, 20 Nov 2026 10:00:00 GMT"])
async def test_a_broken_transfer_is_taken_up_again(
    origin: Origin,
    harness: DownloadHarness,
    chunked: bool,
    ranges: bool,
    etag: str,
    last_modified: str,
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
    await harness.take(origin.serve("/clip.mp4", page))
    first, second, *_ = origin.log
    assert first.headers.get("Range") is None
    assert second.headers["Range"] == f"bytes={breaks[0]}-"
    assert second.headers.get("If-Range", "") == (etag if etag == '"v1"' else last_modified)
    if ranges:
        assert origin.bytes_sent("/clip.mp4") == len(CLIP)


async def test_a_tail_reader_does_not_notice_a_break(
    origin: Origin, harness: DownloadHarness
) -> None:
    page = Page(CLIP, ranges=False, breaks=[300_000, 500_000])
    url = origin.serve("/clip.mp4", page)
    async with harness.file() as file:
        with file.tail() as tail_reader:
            reading = asyncio.create_task(asyncio.to_thread(tail_reader.read))
            await harness.into(file, url)
            assert await reading == CLIP


async def test_a_break_before_the_first_byte_is_taken_up_again(
    origin: Origin, harness: DownloadHarness
) -> None:
    await harness.take(origin.serve("/clip.mp4", Page(CLIP, breaks=[0, 0])))


async def test_a_break_behind_a_redirect_is_resumed_at_its_target_then_restarted(
    origin: Origin, harness: DownloadHarness
) -> None:
    origin.serve("/start", Page(redirect="/clip.mp4?signature=1"))
    origin.serve("/clip.mp4", Page(CLIP, breaks=[100_000, 100_000]))
    await harness.take(origin.url("/start"))
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
async def test_a_file_that_changes_during_the_download_is_restarted_unless_it_was_read(
    origin: Origin,
    harness: DownloadHarness,
    change: Callable[[Page], None],
    ranges: bool,
    followed: bool,
) -> None:
    gate = asyncio.Event()
    page = Page(CLIP, ranges=ranges, etag='"v1"', breaks=[400_000], gate=gate)
    if change is not _replace_and_say_so:
        page.etag = ""
    url = origin.serve("/clip.mp4", page)
    async with harness.file() as file:
        downloading = asyncio.create_task(harness.into(file, url))
        await origin.arrived()
        second = asyncio.Event()
        page.doors.append(second)
        with file.tail() as tail_reader:
            taking = 1000 if followed else 1 << 30
            reading = asyncio.create_task(asyncio.to_thread(tail_reader.read, taking))
            gate.set()
            await origin.log[0].ended.wait()
            change(page)
            if followed:
                assert await reading == CLIP[:1000]
            second.set()
            if followed:
                with pytest.raises(Failure) as caught:
                    await downloading
                assert caught.value.reason == reason_pb2.REASON_SOURCE_FAILED
                assert caught.value.transient
            else:
                downloaded = await downloading
                assert downloaded is not None
                assert await reading == page.content == file.path.read_bytes()
                assert downloaded.sha256 == hashlib.sha256(page.content).hexdigest()


async def test_a_range_that_is_not_the_asked_one_is_not_appended(
    origin: Origin, harness: DownloadHarness
) -> None:
    wrong = {"Content-Range": f"bytes 5-{len(CLIP) - 1}/{len(CLIP)}"}
    page = Page(CLIP, breaks=[400_000], headers=wrong)
    await harness.take(origin.serve("/clip.mp4", page))
    assert len(origin.log) == 3


@pytest.mark.parametrize("ranges", [False, True])
async def test_fewer_bytes_than_announced_are_truncated(
    origin: Origin, harness: DownloadHarness, ranges: bool
) -> None:
    page = Page(CLIP, announce=len(CLIP) + 5000, ranges=ranges)
    failure = await harness.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_TRUNCATED
    assert str(len(CLIP)) in failure.message


@pytest.mark.parametrize("surplus", [b"x", CLIP])
async def test_bytes_after_the_announced_length_are_not_part_of_the_file(
    origin: Origin, harness: DownloadHarness, surplus: bytes
) -> None:
    # RFC 9112, section 6.3. Whether the announced bytes are a whole media, the probe tells.
    await harness.take(origin.serve("/clip.mp4", Page(CLIP, surplus=surplus)))


async def test_a_range_longer_than_announced_is_truncated(
    origin: Origin, harness: DownloadHarness
) -> None:
    total = len(CLIP) - 100
    honest = {"Content-Range": f"bytes 400000-{total - 1}/{total}"}
    page = Page(CLIP, chunked=True, breaks=[400_000], headers=honest)
    failure = await harness.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_TRUNCATED


async def test_a_transfer_that_always_breaks_at_one_place_is_given_up(
    origin: Origin, harness: DownloadHarness
) -> None:
    page = Page(CLIP, ranges=False, breaks_always=50_000)
    failure = await harness.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_TRUNCATED
    assert len(origin.log) < 6


async def test_a_chunked_transfer_that_always_breaks_is_given_up(
    origin: Origin, harness: DownloadHarness
) -> None:
    page = Page(CLIP, ranges=False, chunked=True, breaks_always=50_000)
    failure = await harness.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE
