"""Uploads by plain HTTP: a Connect stream, as Node has it, and the signed PUT of a browser."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import struct
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo

from ingot import Client
from ingot.v1.ingest_service_pb2 import (
    CompleteUploadRequest,
    CreateUploadUrlRequest,
    CreateUploadUrlResponse,
    QueryUploadRequest,
    UploadResponse,
)
from ingot.v1.job_pb2 import JobState
from ingot_server.app import running
from ingot_server.config import ByteSize, Settings
from ingot_server.library.uploads import PART_BYTES
from tests.integration.uploads.upload_servers import (
    SHA,
    UploadServers,
    clip,
    requests,
    running_servers,
)
from tests.refusals import Refusal, refusal

CONNECT = {"Content-Type": "application/connect+proto", "Connect-Protocol-Version": "1"}
PAGE = "https://page.example"


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


async def put(url: str, content: bytes, content_type: str = "video/mp4") -> int:
    """PUTs as a browser does, after the preflight that it makes; the status."""
    asked = {
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type",
    }
    async with aiohttp.ClientSession(headers={"Origin": PAGE}) as session:
        async with session.options(url, headers=asked) as response:
            headers = response.headers
            assert response.status in (200, 204)
            assert headers["Access-Control-Allow-Origin"] in (PAGE, "*")
            assert "PUT" in headers["Access-Control-Allow-Methods"]
            assert headers["Access-Control-Allow-Headers"].lower() in ("content-type", "*")
        typed = {"Content-Type": content_type}
        async with session.put(url, data=io.BytesIO(content), headers=typed) as response:
            assert response.headers["Access-Control-Allow-Origin"] in (PAGE, "*")
            return response.status


async def link(servers: UploadServers, **fields: Any) -> CreateUploadUrlResponse:
    request = CreateUploadUrlRequest(**fields)
    answered: CreateUploadUrlResponse = await servers.stubs[0].CreateUploadUrl(request)
    return answered


async def refused(servers: UploadServers, upload_id: str, sha256: str = "") -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await servers.stubs[0].CompleteUpload(
            CompleteUploadRequest(upload_id=upload_id, sha256=sha256)
        )
    return refusal(caught.value)


async def test_a_page_of_another_origin_puts_the_file_itself(servers: UploadServers) -> None:
    content = clip()
    put_there = await link(servers, filename="from the web.mp4")
    complete = CompleteUploadRequest(upload_id=put_there.upload_id, labels={"by": "browser"})
    assert (await refused(servers, put_there.upload_id)).reason == "NOT_MEDIA"
    assert await put(put_there.url, content) == 200
    # Whoever is not sure that it arrived calls again.
    job = (await servers.stubs[1].CompleteUpload(complete)).job
    assert (await servers.stubs[0].CompleteUpload(complete)).job.id == job.id
    ended = await servers.ended(job)
    assert await servers.content(ended.media) == content
    assert ended.media.title == "from the web"
    assert ended.media.labels == {"by": "browser"}
    assert (await refused(servers, put_there.upload_id)).reason == "UPLOAD_NOT_FOUND"
    assert not await servers.left()


async def test_what_a_page_says_of_its_file_is_checked(servers: UploadServers) -> None:
    put_there = await link(servers)
    assert await put(put_there.url, clip()) == 200
    completed = await servers.stubs[0].CompleteUpload(
        CompleteUploadRequest(upload_id=put_there.upload_id, sha256=SHA)
    )
    ended = await servers.ended(completed.job)
    assert ended.state == JobState.JOB_STATE_FAILED
    assert "SHA-256" in ended.error.message
    assert not await servers.left()
    never = await refused(servers, "never")
    assert (never.code, never.reason) == (grpc.StatusCode.NOT_FOUND, "UPLOAD_NOT_FOUND")


async def test_a_link_that_is_spoiled_or_past_its_time_takes_nothing(
    servers: UploadServers,
) -> None:
    put_there = await link(servers, lifetime=timedelta(seconds=1))
    other = await link(servers)
    spoiled = other.url.replace(
        f"X-Amz-Signature={other.url.partition('X-Amz-Signature=')[2][:8]}",
        "X-Amz-Signature=00000000",
    )
    assert await put(spoiled, clip()) == 403
    moved = other.url.replace("/uploads/", "/media/")
    assert await put(moved, clip()) == 403
    # Signatures are good to the second.
    await asyncio.sleep(2.5)
    assert await put(put_there.url, clip()) in (400, 403)
    assert (await refused(servers, put_there.upload_id)).reason == "NOT_MEDIA"


async def test_a_link_works_no_longer_than_its_upload_waits(settings: Settings) -> None:
    settings = settings.replace(upload_ttl=timedelta(minutes=5), http_address="")
    async with running_servers(settings) as servers:
        asked = time.time()
        put_there = await link(servers)
        answered = time.time()
        assert "X-Amz-Expires=300" in put_there.url
        query = QueryUploadRequest(upload_id=put_there.upload_id)
        waiting = await servers.stubs[0].QueryUpload(query)
        for each in (put_there, waiting):
            # Listings tell times in seconds.
            assert asked - 1 <= each.expire_time.seconds - 300 <= answered + 1


async def test_a_file_over_the_limit_is_refused_and_removed(settings: Settings) -> None:
    small = settings.replace(max_media_size=ByteSize(1 << 20), http_address="")
    async with running_servers(small) as servers:
        put_there = await link(servers)
        assert await put(put_there.url, bytes((1 << 20) + 1)) == 200
        too_large = await refused(servers, put_there.upload_id)
        assert too_large.reason == "TOO_LARGE"
        assert not await servers.left()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await servers.stubs[0].QueryUpload(QueryUploadRequest(upload_id=put_there.upload_id))
        assert refusal(caught.value).reason == "UPLOAD_NOT_FOUND"


async def test_however_the_same_content_comes_it_is_one_media(servers: UploadServers) -> None:
    content = clip()
    put_there = await link(servers)
    assert await put(put_there.url, content) == 200
    await servers.blobs.put("incoming/clip.mp4", content, content_type="video/mp4")
    jobs = [
        (
            await servers.stubs[0].CompleteUpload(
                CompleteUploadRequest(upload_id=put_there.upload_id)
            )
        ).job,
        await servers.send(content, upload_id="streamed"),
        await servers.send(content, server=1, upload_id="streamed-again"),
    ]
    async with Client(servers.targets[0]) as client:
        adopting = (await client.ingest_video(servers.blobs.url("incoming/clip.mp4"))).latest
        *uploaded, adopted = await asyncio.gather(*map(servers.ended, [*jobs, adopting]))
        assert len({job.media.id for job in uploaded}) == 1
        assert len({job.media.blob.url for job in uploaded}) == 1
        # What others put there and may replace is known by its address.
        assert adopted.media.id != uploaded[0].media.id
        assert adopted.media.blob.sha256 == uploaded[0].media.blob.sha256
        assert len([media async for media in client.list_media()]) == 2
    assert len(await servers.blobs.list_objects("media/")) == 3
    assert not await servers.left()
