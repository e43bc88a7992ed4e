"""The web page over HTTP, from a whole server."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest

from ingot_server.config import Settings
from tests.integration.gateway.running_gateway import Api

pytestmark = pytest.mark.any_stores


async def test_the_address_of_the_server_opens_the_page_and_all_that_it_loads(api: Api) -> None:
    async with api.http.get("/") as response:
        assert response.status == 200
        assert response.content_type == "text/html"
        markup = await response.text()
    assert "<title>Ingot" in markup
    async with api.http.get("/?url=https://example.com/clip.mp4") as response:
        assert await response.text() == markup
    for path in re.findall(r'(?:src|href)="([^"]+)"', markup):
        async with api.http.get(urljoin("/", path)) as response:
            assert response.status == 200, path
            assert await response.read()


async def test_the_page_may_reach_the_bucket_of_the_signed_links(
    api: Api, settings: Settings
) -> None:
    async with api.http.get("/") as response:
        policy = response.headers["Content-Security-Policy"]
    scheme = "https" if settings.s3_secure else "http"
    assert f"media-src 'self' {scheme}://{settings.s3_endpoint};" in policy


async def test_the_page_is_asked_for_like_any_file(api: Api) -> None:
    async with api.http.get("/", headers={"Accept-Encoding": "gzip"}) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        etag, length = response.headers["ETag"], response.headers["Content-Length"]
    asked = {"Accept-Encoding": "gzip", "If-None-Match": etag}
    async with api.http.get("/", headers=asked) as response:
        assert response.status == 304
        assert not await response.read()
    async with api.http.head("/", headers={"Accept-Encoding": "gzip"}) as response:
        assert (response.status, response.headers["Content-Length"]) == (200, length)
        assert not await response.read()
    async with api.http.post("/", data=b"x") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/nothing", "/ingot.v1.JobService/Nothing", "/assets/gone-1.js"])
async def test_a_path_that_is_neither_of_the_page_nor_a_call_is_refused(
    api: Api, path: str
) -> None:
    async with api.http.get(path) as response:
        assert response.status == 404
        assert (await response.json())["details"][0]["debug"]["reason"] == "UNSUPPORTED_CALL"
