"""Objects of the bucket are written once, read in ranges, linked to, listed and removed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import cast
from urllib.request import Request, urlopen

import pytest

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library import s3
from ingot_server.library.blobs import Blobs
from ingot_server.setting_values import Secret
from tests.s3 import TYPE, read


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


@pytest.fixture
async def patient_blobs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Blobs]:
    """The test's bucket, whose small requests may take a minute: none of them is sent again."""
    monkeypatch.setattr(s3, "_SMALL_SECONDS", 60.0)
    opened = Blobs(settings)
    await opened.prepare()
    yield opened
    await opened.close()


async def test_of_sixteen_writers_one_wins(patient_blobs: Blobs) -> None:
    blobs = patient_blobs

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


@pytest.mark.parametrize(
    ("offset", "limit"),
    [(0, 0), (0, 1), (1, 0), (700_000, 300_000), (2_499_999, 9), (2_500_000, 0), (10, 1 << 40)],
)
async def test_any_range_is_read(blobs: Blobs, offset: int, limit: int) -> None:
    content = os.urandom(2_500_000)
    await blobs.put("a", content, content_type=TYPE)
    sizes = [len(chunk) async for chunk in blobs.read_object("a", offset=offset, limit=limit)]
    assert max(sizes, default=0) <= 256 << 10
    expected = content[offset : offset + limit if limit else None]
    assert await read(blobs, "a", offset, limit) == expected


async def test_a_reader_that_stops_early_gives_its_connection_back(blobs: Blobs) -> None:
    await blobs.put("a", bytes(20 << 20), content_type=TYPE)
    for _ in range(40):
        async with aclosing(
            cast("AsyncGenerator[bytes]", blobs.read_object("a", offset=0, limit=0))
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


async def test_folders_are_listed_page_by_page(blobs: Blobs) -> None:
    names = ["a", "ab", "b", "b2", "c"]
    for name in names:
        await blobs.put(f"m/{name}/media.json", b"1", content_type=TYPE)
        await blobs.put(f"m/{name}/x/1.mp4", b"1", content_type=TYPE)
    await blobs.put("m/file", b"1", content_type=TYPE)
    assert await blobs.list_folders("m/", after="", limit=100) == names
    found: list[str] = []
    while page := await blobs.list_folders("m/", after=found[-1] if found else "", limit=2):
        found += page
    assert found == names
    assert await blobs.list_folders("n/", after="", limit=2) == []


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
        with pytest.raises(ValueError, match="is not in s3:"):
            blobs.key(url)
