from __future__ import annotations

import asyncio
import io
import os
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import cast
from urllib.request import Request, urlopen

import aiohttp
import pytest
from aiohttp import web

from ingot.v1 import reason_pb2
from ingot_server.config import Secret, SettingError, Settings
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.outgoing import SMALLEST_PART as PART
from ingot_server.library.outgoing import part_size

TYPE = "video/mp4"


async def read(blobs: Blobs, key: str, offset: int = 0, limit: int = 0) -> bytes:
    async with aclosing(
        cast("AsyncGenerator[bytes]", blobs.read(key, offset=offset, limit=limit))
    ) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def uploads(blobs: Blobs) -> list[str | None]:
    listed = await asyncio.to_thread(blobs._client._list_multipart_uploads, blobs.bucket)
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


# What is written ---------------------------------------------------------------------------------


async def test_an_object_is_written_read_and_removed(blobs: Blobs) -> None:
    etag = await blobs.put("a/b", "häßlich".encode(), content_type="text/plain")
    assert await blobs.get("a/b") == ("häßlich".encode(), etag)
    stored = await blobs.stat("a/b")
    assert stored is not None
    assert (stored.size_bytes, stored.etag) == (9, etag)
    await blobs.remove("a/b")
    await blobs.remove("a/b")
    assert await blobs.get("a/b") is None
    assert await blobs.stat("a/b") is None


async def test_of_sixteen_writers_one_wins(blobs: Blobs) -> None:
    async def write(number: int, if_match: str = "") -> str | None:
        return await blobs.put(
            "a",
            str(number).encode(),
            content_type="text/plain",
            if_none_match=not if_match,
            if_match=if_match,
        )

    etags = await asyncio.gather(*(write(number) for number in range(16)))
    winners = [number for number, etag in enumerate(etags) if etag]
    assert len(winners) == 1
    found = await blobs.get("a")
    assert found == (str(winners[0]).encode(), etags[winners[0]])

    etags = await asyncio.gather(*(write(number, if_match=found[1]) for number in range(16, 32)))
    assert len([etag for etag in etags if etag]) == 1
    assert await write(99, if_match=found[1]) is None


async def test_nothing_is_replaced_where_nothing_is(blobs: Blobs) -> None:
    assert await blobs.put("a", b"1", content_type=TYPE, if_match="0" * 32) is None
    assert await blobs.get("a") is None


# Uploads -----------------------------------------------------------------------------------------


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
        async with asyncio.timeout(5):
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

    proxy = Proxy(settings.s3_endpoint, change=flip)
    async with serving(proxy) as endpoint:
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
    complete = blobs._client._complete_multipart_upload
    monkeypatch.setattr(
        blobs._client,
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
    client = blobs._client
    for key in ("m/a/1", "m/a/2", "m/b/1"):
        upload = client._create_multipart_upload(blobs.bucket, key, {})
        client._upload_part(blobs.bucket, key, b"x", None, upload, 1)
    await blobs.abort_uploads("m/a/")
    assert await uploads(blobs) == ["m/b/1"]
    await blobs.abort_uploads("")
    assert await uploads(blobs) == []


# Reads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "limit"),
    [(0, 0), (0, 1), (1, 0), (700_000, 300_000), (2_499_999, 9), (2_500_000, 0), (10, 1 << 40)],
)
async def test_any_range_is_read(blobs: Blobs, offset: int, limit: int) -> None:
    content = os.urandom(2_500_000)
    await blobs.put("a", content, content_type=TYPE)
    sizes = [len(chunk) async for chunk in blobs.read("a", offset=offset, limit=limit)]
    assert max(sizes, default=0) <= 256 << 10
    expected = content[offset : offset + limit if limit else None]
    assert await read(blobs, "a", offset, limit) == expected


async def test_a_reader_that_stops_early_gives_its_connection_back(blobs: Blobs) -> None:
    await blobs.put("a", bytes(20 << 20), content_type=TYPE)
    for _ in range(40):
        async with aclosing(
            cast("AsyncGenerator[bytes]", blobs.read("a", offset=0, limit=0))
        ) as chunks:
            assert await anext(chunks)
    assert await blobs.stat("a") is not None


async def test_what_is_gone_is_not_read(blobs: Blobs) -> None:
    with pytest.raises(Failure) as raised:
        await read(blobs, "a")
    assert raised.value.reason == reason_pb2.REASON_MEDIA_NOT_FOUND


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("clip.mp4", "attachment; filename=\"clip.mp4\"; filename*=UTF-8''clip.mp4"),
        ('a"b\\c/d\r\nX: y', "attachment; filename=\"a_b_c_d__X: y\"; filename*=UTF-8''"),
        ("Füße 🎬 100%.mp4", "attachment; filename=\"F__e _ 100_.mp4\"; filename*=UTF-8''F%C3%BC"),
        (" \x00\ud800 ", 'attachment; filename="__"'),
        ("", "attachment"),
    ],
)
async def test_a_signed_link_serves_the_file_under_its_name(
    blobs: Blobs, filename: str, expected: str
) -> None:
    await blobs.put("a", b"0123456789", content_type="application/octet-stream")
    url = await blobs.download_url(
        "a", lifetime=timedelta(minutes=1), filename=filename, content_type="video/mp4"
    )

    def fetch() -> tuple[int, bytes, str, str]:
        with urlopen(Request(url, headers={"Range": "bytes=2-4"})) as answer:
            headers = answer.headers
            return (
                answer.status,
                answer.read(),
                headers["Content-Disposition"],
                headers["Content-Type"],
            )

    status, data, disposition, content_type = await asyncio.to_thread(fetch)
    assert (status, data, content_type) == (206, b"234", "video/mp4")
    assert disposition.startswith(expected)


@pytest.mark.parametrize(
    ("public", "secure", "expected"),
    [
        ("media.example.com", False, "http://media.example.com/"),
        ("media.example.com:9000", True, "https://media.example.com:9000/"),
        ("https://media.example.com/", False, "https://media.example.com/"),
        ("http://media.example.com", True, "http://media.example.com/"),
    ],
)
async def test_links_name_the_public_endpoint(public: str, secure: bool, expected: str) -> None:
    settings = Settings(
        s3_public_endpoint=public, s3_secure=secure, s3_access_key="k", s3_secret_key=Secret("s")
    )
    blobs = Blobs(settings)
    url = await blobs.download_url("a", lifetime=timedelta(1), filename="a", content_type="")
    assert url.startswith(expected)
    await blobs.close()


# Listing and removing ----------------------------------------------------------------------------


async def test_folders_are_listed_page_by_page(blobs: Blobs) -> None:
    names = ["a", "ab", "b", "b2", "c"]
    for name in names:
        await blobs.put(f"m/{name}/media.json", b"1", content_type=TYPE)
        await blobs.put(f"m/{name}/x/1.mp4", b"1", content_type=TYPE)
    await blobs.put("m/file", b"1", content_type=TYPE)
    assert await blobs.children("m/", after="", limit=100) == names
    found: list[str] = []
    while page := await blobs.children("m/", after=found[-1] if found else "", limit=2):
        found += page
    assert found == names
    assert await blobs.children("n/", after="", limit=2) == []


async def test_a_tree_is_removed_but_for_what_is_kept(blobs: Blobs) -> None:
    for key in ("m/a/1", "m/a/2/3", "m/a/4", "m/ab/1"):
        await blobs.put(key, b"1", content_type=TYPE)
    await blobs.remove_tree("m/a/", keep=("m/a/4",))
    left = [key for key in ("m/a/1", "m/a/2/3", "m/a/4", "m/ab/1") if await blobs.stat(key)]
    assert left == ["m/a/4", "m/ab/1"]
    await blobs.remove_tree("nothing/")


async def test_internal_addresses_name_keys_of_this_bucket(blobs: Blobs) -> None:
    assert blobs.key(blobs.url("m/a/1.mp4")) == "m/a/1.mp4"
    for url in ("s3://other/m", "http://example.com", f"s3://{blobs.bucket}2/m"):
        with pytest.raises(ValueError, match="is not in the bucket"):
            blobs.key(url)


# Servers -----------------------------------------------------------------------------------------


async def test_many_processes_prepare_at_once(settings: Settings) -> None:
    many = [Blobs(settings) for _ in range(4)]
    await asyncio.gather(*(each.prepare() for each in many))
    assert await many[0].children("", after="", limit=10) in ([], ["probe"])
    for each in many:
        await each.close()


@dataclass
class Proxy:
    """Stands before the real server and changes requests or answers with 503 while `down`."""

    target: str
    strip: tuple[str, ...] = ()
    down: int = 0
    change: Callable[[str, bytes], bytes] = lambda _, body: body

    async def forward(self, request: web.Request) -> web.StreamResponse:
        if self.down:
            self.down -= 1
            return web.Response(status=503)
        headers = {name: value for name, value in request.headers.items() if name not in self.strip}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                f"http://{self.target}{request.raw_path}",
                headers=headers,
                data=io.BytesIO(self.change(request.method, await request.read())),
                allow_redirects=False,
            ) as answer,
        ):
            kept = [
                name
                for name in ("ETag", "Content-Type")
                if name in answer.headers and name not in self.strip
            ]
            return web.Response(
                status=answer.status,
                headers={name: answer.headers[name] for name in kept},
                body=await answer.read(),
            )


@asynccontextmanager
async def serving(proxy: Proxy) -> AsyncIterator[str]:
    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", proxy.forward)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match", "ETag"])
async def test_a_server_that_ignores_conditions_is_refused(settings: Settings, header: str) -> None:
    proxy = Proxy(settings.s3_endpoint, strip=(header,))
    async with serving(proxy) as endpoint:
        # The signature names the host, which the proxy passes on as it came.
        blobs = Blobs(settings.replace(s3_endpoint=endpoint))
        with pytest.raises(Failure) as raised:
            await blobs.prepare()
        assert raised.value.reason == reason_pb2.REASON_STORAGE_UNAVAILABLE
        assert "conditional writes" in raised.value.message
        await blobs.close()


async def test_a_server_that_comes_late_is_waited_for(settings: Settings) -> None:
    proxy = Proxy(settings.s3_endpoint, down=6)
    async with serving(proxy) as endpoint:
        blobs = Blobs(settings.replace(s3_endpoint=endpoint))
        await blobs.prepare(patience=timedelta(seconds=20))
        assert await blobs.put("a", b"1", content_type=TYPE)
        await blobs.close()


async def test_a_server_that_is_not_there_is_named(settings: Settings) -> None:
    blobs = Blobs(settings.replace(s3_endpoint="127.0.0.1:1"))
    with pytest.raises(Failure) as raised:
        await blobs.prepare(patience=timedelta(0))
    assert raised.value.reason == reason_pb2.REASON_STORAGE_UNAVAILABLE
    assert "127.0.0.1:1 cannot be reached" in raised.value.message
    assert "Connection refused" in raised.value.message
    with pytest.raises(Failure) as raised:
        await blobs.put("secret-name", b"1", content_type=TYPE)
    assert "Signature" not in raised.value.message
    await blobs.close()


async def test_wrong_keys_are_told_at_once(settings: Settings) -> None:
    blobs = Blobs(settings.replace(s3_secret_key=Secret("wrong-wrong-wrong")))
    with pytest.raises(Failure, match=r"INGOT_S3_SECRET_KEY|Let these keys"):
        await asyncio.wait_for(blobs.prepare(), 5)
    await blobs.close()


@pytest.mark.parametrize(
    "changes",
    [{"s3_bucket": "No Bucket"}, {"s3_endpoint": "a/b/c"}, {"s3_public_endpoint": "https://a/b"}],
)
def test_a_setting_no_server_can_have_is_named(changes: dict[str, str]) -> None:
    with pytest.raises(SettingError, match=f"INGOT_{next(iter(changes)).upper()}="):
        Blobs(Settings().replace(**changes))
