"""Uploads by plain HTTP: a Connect stream, as Node has it, and JSON, as a page has it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from google.rpc.error_details_pb2 import ErrorInfo

from ingot import Client
from ingot.v1.ingest_service_pb2 import (
    UploadResponse,
)
from ingot_server.app import running
from ingot_server.library.uploads import PART_BYTES
from tests.integration.uploads.browser import put
from tests.integration.uploads.upload_servers import (
    UploadServers,
    clip,
    requests,
)

CONNECT = {"Content-Type": "application/connect+proto", "Connect-Protocol-Version": "1"}


@pytest.fixture
async def http(servers: UploadServers) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of an API server's HTTP address."""
    settings = servers.settings.replace(http_address="127.0.0.1:0")
    async with (
        running(settings) as server,
        aiohttp.ClientSession(f"http://{server.http}") as http,
    ):
        yield http


async def envelopes(content: bytes, **header: Any) -> AsyncIterator[bytes]:
    """The body of a Connect stream."""
    async for request in requests(content, **header):
        data = request.SerializeToString()
        yield struct.pack(">BI", 0, len(data)) + data


async def answer(response: aiohttp.ClientResponse) -> tuple[bytes, str]:
    """The message of a Connect stream's answer, and the reason of its error."""
    message, reason = b"", ""
    body = await response.read()
    while body:
        flags, size = struct.unpack(">BI", body[:5])
        if flags & 2:
            for detail in json.loads(body[5 : 5 + size]).get("error", {}).get("details", ()):
                if detail["type"] == "google.rpc.ErrorInfo":
                    value = base64.b64decode(detail["value"] + "==")
                    reason = ErrorInfo.FromString(value).reason
        else:
            message = body[5 : 5 + size]
        body = body[5 + size :]
    return message, reason


UPLOAD = "/ingot.v1.IngestService/Upload"


async def test_a_connect_stream_uploads_too(
    servers: UploadServers, http: aiohttp.ClientSession
) -> None:
    content = clip(PART_BYTES + 1000)
    body = envelopes(content, filename="by connect.mp4")
    async with http.post(UPLOAD, data=body, headers=CONNECT) as response:
        assert response.status == 200
        message, reason = await answer(response)
    assert not reason
    ended = await servers.ended(UploadResponse.FromString(message).job)
    assert ended.media.title == "by connect"
    assert await servers.content(ended.media) == content


async def test_a_connect_stream_that_is_cut_makes_no_job(
    servers: UploadServers, http: aiohttp.ClientSession
) -> None:
    content = clip(PART_BYTES)
    cut = asyncio.Event()

    async def broken() -> AsyncIterator[bytes]:
        async for envelope in envelopes(content, upload_id="cut"):
            yield envelope
        await cut.wait()
        raise ConnectionError

    async def post() -> None:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            await http.post(UPLOAD, data=broken(), headers=CONNECT)

    posting = asyncio.create_task(post())
    await servers.has("cut", PART_BYTES)
    cut.set()
    await posting
    query = "/ingot.v1.IngestService/QueryUpload"
    async with http.post(query, json={"upload_id": "cut"}) as response:
        assert (await response.json())["committedSize"] == str(PART_BYTES)
    async with Client(servers.targets[0]) as client:
        assert not [job async for job in client.jobs()]
    # The rest, which is none, makes it whole.
    body = envelopes(content, upload_id="cut", offset=PART_BYTES)
    async with http.post(UPLOAD, data=body, headers=CONNECT) as response:
        message, _ = await answer(response)
    ended = await servers.ended(UploadResponse.FromString(message).job)
    assert await servers.content(ended.media) == content


async def test_a_connect_stream_that_is_malformed_is_refused(
    servers: UploadServers, http: aiohttp.ClientSession
) -> None:
    for body, wanted in (
        (b"\0\0\0\0\x02\xff\xff", "INVALID_REQUEST"),
        (b"", "INVALID_REQUEST"),
        (b"".join([part async for part in envelopes(b"", sha256="x")]), "INVALID_REQUEST"),
        (b"".join([part async for part in envelopes(b"")]), "NOT_MEDIA"),
    ):
        async with http.post(UPLOAD, data=body, headers=CONNECT) as response:
            assert (await answer(response))[1] == wanted
    # A stream is not a single JSON message.
    async with http.post(UPLOAD, json={}) as response:
        assert response.status == 415
    assert not await servers.left()


async def test_a_page_uploads_with_json_and_signed_links_alone(
    servers: UploadServers, http: aiohttp.ClientSession
) -> None:
    content = clip()

    async def call(method: str, **fields: Any) -> Any:
        async with http.post(f"/ingot.v1.IngestService/{method}", json=fields) as response:
            return response.status, await response.json()

    file = {"sizeBytes": len(content), "contentType": "video/mp4", "filename": "page.mp4"}
    status, begun = await call("CreateUploadUrl", **file, recipes=[{"wav": {}}])
    assert status == 200
    assert begun["partSizeBytes"] == str(len(content))
    assert await put(begun["url"], content) == 200
    status, found = await call("QueryUpload", uploadId=begun["uploadId"])
    assert found["ranges"] == [{"sizeBytes": str(len(content))}]
    status, refused = await call(
        "CompleteUpload", uploadId=begun["uploadId"], options={"thumbnail": True}
    )
    assert status == 400
    assert "options.thumbnail" in refused["message"]
    status, completed = await call("CompleteUpload", uploadId=begun["uploadId"])
    assert completed["job"]["kind"] == "JOB_KIND_INGEST_AND_CONVERT"
    assert completed["job"]["displayName"] == "page.mp4"
