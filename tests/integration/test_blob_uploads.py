"""Files of any size go into the bucket in parts; what is cut, lost or changed leaves nothing."""

from __future__ import annotations

import asyncio
import io
import os
import re
import threading
import tracemalloc
from typing import Any, BinaryIO, cast

import pytest

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.checksums import CRC32_HEADER
from ingot_server.library.multipart import PART_OF_UNKNOWN, part_size
from ingot_server.library.multipart import SMALLEST_PART as PART
from ingot_server.transfer.growing_file import Abandoned
from ingot_server.transfer.part_reader import PartReader
from tests.bucket_proxy import bucket_behind_proxy
from tests.s3 import TYPE, S3Proxy, read
from tests.waiting import TIMEOUT_SECONDS
from tests.web_server import web_server

MEBIBYTE = 1 << 20


async def uploads(blobs: Blobs) -> list[str | None]:
    listed = await asyncio.to_thread(blobs._s3.calls.client._list_multipart_uploads, blobs.bucket)
    return [upload.object_name for upload in listed.uploads]


class Source:
    """Has `content`, and then raises `error` if there is one."""

    def __init__(
        self,
        content: bytes,
        error: BaseException | None = None,
        *,
        expected_bytes: int | None = None,
    ) -> None:
        self.closed = False
        self.expected_bytes = expected_bytes
        self._content = content
        self._error = error

    def wait(self, end: int) -> int:
        if end > len(self._content) and self._error is not None:
            raise self._error
        return min(end, len(self._content))

    def part(self, begin: int, end: int) -> BinaryIO:
        return io.BytesIO(self._content[begin:end])

    def close(self) -> None:
        self.closed = True


class Pending(Source):
    """Has some bytes; the others never come."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._ended = threading.Event()

    def wait(self, end: int) -> int:
        if end > len(self._content):
            self._ended.wait()
            raise Abandoned("The source was closed.")
        return end

    def close(self) -> None:
        super().close()
        self._ended.set()


@pytest.mark.parametrize(
    "size", [0, 1, 100_000, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 7], ids=str
)
@pytest.mark.parametrize("expected_bytes", [None, 1])
async def test_an_upload_arrives_whole(blobs: Blobs, size: int, expected_bytes: int | None) -> None:
    content, seen = os.urandom(size), bytearray()
    source = Source(content, expected_bytes=expected_bytes)
    stored = await blobs.upload(
        "m/1.mp4", source, content_type=TYPE, size_bytes=None, seen=seen.extend
    )
    assert seen == content
    assert source.closed
    assert stored.size_bytes == size
    assert stored == await blobs.stat("m/1.mp4")
    assert await read(blobs, "m/1.mp4") == content


async def test_the_server_s_checksums_are_compared(blobs: Blobs) -> None:
    assert blobs._etag_is_md5
    assert blobs._checks_crc32


@pytest.mark.parametrize("size", [0, 100_000, 2 * PART + 7], ids=str)
@pytest.mark.parametrize("error", [Failure(reason_pb2.REASON_STALLED, "too slow"), OSError("disk")])
async def test_what_the_content_raises_leaves_nothing(
    blobs: Blobs, size: int, error: Exception
) -> None:
    source = Source(bytes(size), error)
    with pytest.raises(type(error)) as raised:
        await blobs.upload("m/1.mp4", source, content_type=TYPE, size_bytes=None)
    assert raised.value is error
    assert await blobs.stat("m/1.mp4") is None
    assert await uploads(blobs) == []
    assert source.closed


async def test_a_cancelled_upload_leaves_nothing(blobs: Blobs) -> None:
    content = Pending(bytes(PART_OF_UNKNOWN + 2))
    uploading = asyncio.create_task(
        blobs.upload("m/1.mp4", content, content_type=TYPE, size_bytes=None)
    )
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not await uploads(blobs):  # noqa: ASYNC110 - only the server knows
            await asyncio.sleep(0.01)
    uploading.cancel()
    await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await uploading
    assert await blobs.stat("m/1.mp4") is None
    assert await uploads(blobs) == []


@pytest.mark.parametrize("announced", [999, 1001])
async def test_another_size_than_announced_leaves_nothing(blobs: Blobs, announced: int) -> None:
    with pytest.raises(Failure) as raised:
        await blobs.upload("m/1", Source(bytes(1000)), content_type=TYPE, size_bytes=announced)
    assert raised.value.reason == reason_pb2.REASON_TRUNCATED
    assert await blobs.stat("m/1") is None


@pytest.mark.parametrize("size", [1000, PART + 1000], ids=str)
@pytest.mark.parametrize("lost_header", ["", CRC32_HEADER], ids=["crc32", "md5"])
async def test_what_arrives_changed_is_refused(
    settings: Settings, size: int, lost_header: str
) -> None:
    def flip(method: str, body: bytes) -> bytes:
        return body[:-1] + b"!" if method == "PUT" and len(body) == 1000 else body

    proxy = S3Proxy(settings.s3_endpoint, strip=(lost_header,), change=flip)
    async with web_server(proxy.forward) as endpoint:
        blobs = Blobs(settings.replace(s3_endpoint=endpoint))
        await blobs.prepare()
        assert blobs._checks_crc32 is not bool(lost_header)
        source = Source(bytes(size), expected_bytes=size)
        with pytest.raises(Failure, match=r"BadDigest|XAmzContentChecksumMismatch"):
            await blobs.upload("m/1", source, content_type=TYPE, size_bytes=size)
        assert await blobs.stat("m/1") is None
        assert await uploads(blobs) == []
        await blobs.close()


async def test_a_part_that_fails_ends_the_wait_for_the_next(settings: Settings) -> None:
    def flip(method: str, body: bytes) -> bytes:
        return body[:-1] + b"!" if method == "PUT" and len(body) == PART_OF_UNKNOWN else body

    proxy = S3Proxy(settings.s3_endpoint, change=flip)
    async with web_server(proxy.forward) as endpoint:
        blobs = Blobs(settings.replace(s3_endpoint=endpoint))
        await blobs.prepare()
        content = Pending(bytes(PART_OF_UNKNOWN + 2))
        with pytest.raises(Failure, match=r"BadDigest|XAmzContentChecksumMismatch"):
            await blobs.upload("m/1", content, content_type=TYPE, size_bytes=None)
        assert await uploads(blobs) == []
        await blobs.close()


async def test_a_part_that_is_lost_is_noticed(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = blobs._s3.calls.client._execute

    def lose_a_part(*arguments: Any, **options: Any) -> object:
        if body := options.get("body"):
            options["body"] = re.sub(rb"<Part>.*?</Part>", b"", body, count=1)
        return execute(*arguments, **options)

    monkeypatch.setattr(blobs._s3.calls.client, "_execute", lose_a_part)
    source = Source(bytes(PART + 9), expected_bytes=PART + 9)
    with pytest.raises(Failure) as raised:
        await blobs.upload("m/1", source, content_type=TYPE, size_bytes=None)
    assert raised.value.reason == reason_pb2.REASON_STORAGE_UNAVAILABLE
    assert await blobs.stat("m/1") is None
    assert await uploads(blobs) == []


class Zeros(Source):
    """So many bytes, of which none is kept."""

    def __init__(self, size: int) -> None:
        super().__init__(b"")
        self._size = size

    def wait(self, end: int) -> int:
        return min(end, self._size)

    def part(self, begin: int, end: int) -> BinaryIO:
        return cast("BinaryIO", PartReader(lambda size, _: bytes(size), begin, end))


async def test_uploads_take_little_memory(blobs: Blobs) -> None:
    tracemalloc.start()
    try:
        await asyncio.gather(
            *(
                blobs.upload(
                    f"m/{number}",
                    Zeros(2 * PART_OF_UNKNOWN + 1),
                    content_type=TYPE,
                    size_bytes=None,
                )
                for number in range(6)
            )
        )
        assert tracemalloc.get_traced_memory()[1] < 6 * (2 << 20)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("expected", "limit", "size"),
    [
        (0, 20 << 30, PART),
        (50 * PART, 20 << 30, PART),
        (50 * PART + 1, 20 << 30, PART + MEBIBYTE),
        (10**9, 20 << 30, 20 << 20),
        (20 << 30, 20 << 30, 64 << 20),
        (1 << 40, 1 << 40, 105 << 20),
        # What is announced may not be true.
        (1, 10_000 * 80 * MEBIBYTE, 80 << 20),
        (None, 20 << 30, 16 << 20),
        (None, 10_000 * 20 * MEBIBYTE, 20 << 20),
    ],
)
def test_parts_are_few_and_as_small_as_that_allows(
    expected: int | None, limit: int, size: int
) -> None:
    assert part_size(expected, limit) == size


async def test_a_part_is_sent_again_from_its_beginning(settings: Settings) -> None:
    async with bucket_behind_proxy(settings) as (proxy, leading_through_it):
        blobs = Blobs(leading_through_it)
        await blobs.prepare()
        content, answered = os.urandom(300_000), asyncio.Event()

        async def answer() -> None:
            answered.set()

        proxy.before_repetition = answer
        await blobs.upload("m/1", Source(content), content_type=TYPE, size_bytes=None)
        assert answered.is_set()
        assert await read(blobs, "m/1") == content
        await blobs.close()


async def test_unfinished_uploads_are_removed_by_prefix(blobs: Blobs) -> None:
    client = blobs._s3.calls.client
    for key in ("m/a/1", "m/a/2", "m/b/1"):
        upload = client._create_multipart_upload(blobs.bucket, key, {})
        client._upload_part(blobs.bucket, key, b"x", None, upload, 1)
    await blobs.abort_uploads("m/a/")
    assert await uploads(blobs) == ["m/b/1"]
    await blobs.abort_uploads("")
    assert await uploads(blobs) == []
