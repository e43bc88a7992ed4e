"""INGOT_S3_ADDRESS: signed links lead to another address than the one that Ingot itself uses."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from ingot_server.local.ports import Ports
from ingot_server.local.s3_relay import S3Relay, public_endpoint
from tests.certificates import Authority
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores

CONTENT = bytes(range(256)) * (8 << 10)
TYPE = "video/mp4"


@asynccontextmanager
async def relaying(settings: Settings) -> AsyncIterator[Blobs]:
    """The bucket behind a relay on another address of this machine, with an object `a`."""
    with Ports() as ports:
        settings = settings.replace(s3_address=f"127.0.0.2:{ports.reserve('127.0.0.2')}")
        settings = settings.replace(s3_public_endpoint=public_endpoint(settings))
        relay = S3Relay(settings)
        await relay.start()
        blobs = Blobs(settings)
        try:
            await blobs.prepare()
            await blobs.put("a", CONTENT, content_type=TYPE)
            yield blobs
        finally:
            await blobs.close()
            await relay.close()


async def link_to(blobs: Blobs) -> str:
    return await blobs.download_url(
        "a", lifetime=timedelta(minutes=1), filename="a.mp4", content_type=TYPE
    )


async def test_a_link_leads_to_the_file_and_to_parts_of_it(settings: Settings) -> None:
    async with relaying(settings) as blobs, aiohttp.ClientSession() as http:
        link = await link_to(blobs)
        assert link.startswith("http://127.0.0.2:")
        async with http.get(link) as whole:
            assert await whole.read() == CONTENT
        async with http.get(link, headers={"Range": "bytes=1000-1003"}) as part:
            assert (part.status, await part.read()) == (206, CONTENT[1000:1004])


async def test_nothing_is_answered_without_a_signature(settings: Settings) -> None:
    async with relaying(settings) as blobs, aiohttp.ClientSession() as http:
        address = (await link_to(blobs)).partition("?")[0]
        for path in (address, address.rpartition("/")[0], address.rpartition("/")[0] + "/?acl"):
            async with http.get(path) as refused:
                assert refused.status == 403
        async with http.put(address, data=b"x") as refused:
            assert refused.status == 403


async def test_with_a_certificate_links_are_of_https(settings: Settings, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    tls = ssl.create_default_context(cafile=str(authority.file))
    secured = settings.replace(
        tls_certificate_file=str(pair.certificate), tls_key_file=str(pair.key)
    )
    async with relaying(secured) as blobs, aiohttp.ClientSession() as http:
        link = await link_to(blobs)
        assert link.startswith("https://127.0.0.2:")
        async with http.get(link, ssl=tls, server_hostname="localhost") as whole:
            assert await whole.read() == CONTENT


async def test_a_reader_that_stops_reading_holds_up_no_other_and_is_closed_at_the_end(
    settings: Settings,
) -> None:
    async with relaying(settings) as blobs, aiohttp.ClientSession() as http:
        link = await link_to(blobs)
        path, _, host = link.partition("://")[2].partition("/")[::-1]
        reader, writer = await asyncio.open_connection(*host.split(":"), limit=1)
        writer.write(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert await reader.readexactly(8) == b"HTTP/1.1"
        async with http.get(link) as whole:
            assert await whole.read() == CONTENT
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert len(await reader.read(-1)) < len(CONTENT) * 2
    writer.close()
