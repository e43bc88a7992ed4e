"""Content codings and ranges that a server sends although they were not requested."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest

from ingot.v1 import reason_pb2
from ingot_server.setting_values import ByteSize
from tests.integration.download.download_harness import CLIP, DownloadHarness
from tests.origin import Origin, Page


def _raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "X-GZip": lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]) + bytes(512),
    "deflate": zlib.compress,
    "Deflate": _raw_deflate,
    "br": lambda data: brotli.compress(data, quality=1),
    "gzip, br": lambda data: brotli.compress(gzip.compress(data), quality=1),
    "identity, gzip": gzip.compress,
}


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("coding", CODINGS)
async def test_a_coded_file_is_decoded(
    origin: Origin, harness: DownloadHarness, coding: str, chunked: bool
) -> None:
    coded = CODINGS[coding](CLIP)
    page = Page(coded, headers={"Content-Encoding": coding}, chunked=chunked, etag='"1"')
    downloaded = await harness.take(origin.serve("/clip.mp4", page))
    assert downloaded.delivered
    assert harness.seen[0] == (0, None)
    assert len(origin.log) == 1


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
async def test_a_coded_transfer_that_breaks_off_is_requested_again_without_a_range(
    origin: Origin, harness: DownloadHarness, coding: str
) -> None:
    coded = CODINGS[coding](CLIP)
    page = Page(coded, headers={"Content-Encoding": coding}, breaks=[400_000], etag='"1"')
    await harness.take(origin.serve("/clip.mp4", page))
    assert [asked.headers.get("Range") for asked in origin.log] == [None, None]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
async def test_a_coded_file_without_its_end_is_not_whole(
    origin: Origin, harness: DownloadHarness, coding: str
) -> None:
    coded = CODINGS[coding](CLIP)[:-20]
    page = Page(coded, headers={"Content-Encoding": coding})
    failure = await harness.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
async def test_a_coding_that_was_not_applied_is_ignored(
    origin: Origin, harness: DownloadHarness, coding: str
) -> None:
    content = b"\0\0\0\x18ftypisom" + CLIP
    page = Page(content, headers={"Content-Encoding": coding}, breaks=[300_000], etag='"1"')
    await harness.take(origin.serve("/clip.mp4", page), content)
    assert harness.seen[-1] == (len(content), len(content))
    assert origin.log[1].headers["Range"].startswith("bytes=")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, gzip"])
async def test_what_a_small_body_decodes_to_has_the_limit_of_every_file(
    origin: Origin, harness: DownloadHarness, coding: str
) -> None:
    harness.settings = harness.settings.replace(max_media_size=ByteSize(1 << 20))
    content = b"OggS" + bytes(64 << 20)
    for name in coding.split(", "):
        content = CODINGS[name](content)
    assert len(content) < 1 << 18
    page = Page(content, headers={"Content-Encoding": coding})
    failure = await harness.failure(origin.serve("/bomb.ogg", page))
    assert failure.reason == reason_pb2.REASON_TOO_LARGE


SIZE = len(CLIP)
FIRST = f"bytes 0-{SIZE - 1}"


@pytest.mark.parametrize("content_range", [f"{FIRST}/{SIZE}", f"{FIRST}/*"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_whole_range_that_was_not_requested_is_the_file(
    origin: Origin, harness: DownloadHarness, content_range: str, chunked: bool
) -> None:
    page = Page(CLIP, status=206, headers={"Content-Range": content_range}, chunked=chunked)
    url = origin.serve("/clip.mp4", page)
    if content_range.endswith("*"):
        # Whether that was all, only the next request tells.
        page.after_first = Page(CLIP, etag='"1"')
    assert (await harness.take(url)).delivered
    assert len(origin.log) == (2 if content_range.endswith("*") else 1)


async def test_the_rest_of_a_part_that_was_not_requested_is_requested(
    origin: Origin, harness: DownloadHarness
) -> None:
    part = CLIP[:300_000]
    page = Page(part, status=206, headers={"Content-Range": f"bytes 0-299999/{SIZE}"})
    page.after_first = Page(CLIP)
    await harness.take(origin.serve("/clip.mp4", page))
    assert origin.log[1].headers["Range"] == "bytes=300000-"


@pytest.mark.parametrize("content_range", ["bytes 5-9/10", "bytes */10", "items 0-9/10", ""])
async def test_a_range_that_does_not_begin_with_the_file_is_not_taken(
    origin: Origin, harness: DownloadHarness, content_range: str
) -> None:
    page = Page(b"x" * 10, status=206, headers={"Content-Range": content_range})
    failure = await harness.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_SOURCE_FAILED
