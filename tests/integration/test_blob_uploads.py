"""Files of any size go into the bucket in parts; what is cut, lost or changed leaves nothing."""

from __future__ import annotations

import asyncio
import io
import os
import tracemalloc

import pytest

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.multipart import SMALLEST_PART as PART
from ingot_server.library.multipart import part_size
from tests.s3 import TYPE, S3Proxy, read
from tests.waiting import TIMEOUT_SECONDS
from tests.web_server import web_server


async def uploads(blobs: Blobs) -> list[str | None]:
    listed = await asyncio.to_thread(blobs._s3.calls.client._list_multipart_uploads, blobs.bucket)
    return [upload.object_name for upload in listed.uploads]


class Source(io.BytesIO):
    """Gives `content` in short reads, then raises `error` if there is one."""

    def __init__(self, content: bytes, error: BaseException | None = None) -> None:
        super().__init__(content)
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        data = super().read(min(size, 1 << 20))
        if not data and self._error is not None:
            raise self._error
        return data


@pytest.mark.parametrize(
    "size", [0, 1, 100_000, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 7], ids=str
)
async def test_an_upload_arrives_whole(blobs: Blobs, size: int) -> None:
    content = os.urandom(size)
    stored = await blobs.upload("m/1.mp4", Source(content), content_type=TYPE, size_bytes=None)
    assert stored.size_bytes == size
    assert stored == await blobs.stat("m/1.mp4")
    assert await read(blobs, "m/1.mp4") == content


async def test_the_server_s_etag_is_compared(blobs: Blobs) -> None:
    assert blobs._etag_is_md5


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
    end, start = os.pipe()
    os.set_blocking(start, True)
    content = os.fdopen(end, "rb", buffering=0)
    uploading = asyncio.create_task(
        blobs.upload("m/1.mp4", content, content_type=TYPE, size_bytes=None)
    )
    with os.fdopen(start, "wb", buffering=0) as pipe:
        await asyncio.to_thread(pipe.write, bytes(PART + 2))
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
async def test_what_arrives_changed_is_refused(settings: Settings, size: int) -> None:
    def flip(method: str, body: bytes) -> bytes:
        return body[:-1] + b"!" if method == "PUT" and len(body) == 1000 else body

    proxy = S3Proxy(settings.s3_endpoint, change=flip)
    async with web_server(proxy.forward) as endpoint:
        blobs = Blobs(settings.replace(s3_endpoint=endpoint))
        await blobs.prepare()
        with pytest.raises(Failure, match="BadDigest"):
            await blobs.upload("m/1", Source(bytes(size)), content_type=TYPE, size_bytes=size)
        assert await blobs.stat("m/1") is None
        assert await uploads(blobs) == []
        await blobs.close()


async def test_a_part_that_is_lost_is_noticed(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = blobs._s3.calls.client._complete_multipart_upload
    monkeypatch.setattr(
        blobs._s3.calls.client,
        "_complete_multipart_upload",
        lambda bucket, key, upload, parts: complete(bucket, key, upload, parts[1:]),
    )
    with pytest.raises(Failure) as raised:
        await blobs.upload("m/1", Source(bytes(PART + 9)), content_type=TYPE, size_bytes=None)
    assert raised.value.reason == reason_pb2.REASON_STORAGE_UNAVAILABLE
    assert await blobs.stat("m/1") is None
    assert await uploads(blobs) == []


async def test_uploads_take_little_memory(blobs: Blobs) -> None:
    class Endless(io.BytesIO):
        left = 2 * PART + 1

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            data = bytes(min(size, self.left))
            self.left -= len(data)
            return data

    tracemalloc.start()
    try:
        await asyncio.gather(
            *(
                blobs.upload(f"m/{number}", Endless(), content_type=TYPE, size_bytes=None)
                for number in range(6)
            )
        )
        assert tracemalloc.get_traced_memory()[1] < 6 * 1.5 * PART
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1, PART), (20 << 30, PART), (10_000 * PART, PART), (10_000 * PART + 1, PART + (1 << 20))],
)
def test_parts_are_as_small_as_ten_thousand_allow(limit: int, expected: int) -> None:
    assert part_size(limit) == expected


async def test_unfinished_uploads_are_removed_by_prefix(blobs: Blobs) -> None:
    client = blobs._s3.calls.client
    for key in ("m/a/1", "m/a/2", "m/b/1"):
        upload = client._create_multipart_upload(blobs.bucket, key, {})
        client._upload_part(blobs.bucket, key, b"x", None, upload, 1)
    await blobs.abort_uploads("m/a/")
    assert await uploads(blobs) == ["m/b/1"]
    await blobs.abort_uploads("")
    assert await uploads(blobs) == []
