"""Uploads through real API servers into a real bucket; a real worker makes media of them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

import ingot
from ingot import Client
from ingot.v1.ingest_service_pb2 import QueryUploadRequest, UploadChunk, UploadRequest
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.job_pb2 import Job, JobState
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.app import running
from ingot_server.library.uploads import PART_BYTES, Uploads
from tests.integration.uploads.cutting_proxy import CuttingProxy
from tests.integration.uploads.upload_servers import SHA, UploadServers, clip, requests
from tests.refusals import is_hidden, refusal

WAV = Recipe(wav=Recipe.Wav())


async def test_an_upload_broken_ten_times_is_the_same_file(
    servers: UploadServers, tmp_path: Path
) -> None:
    content = clip(24 << 20)
    path = tmp_path / "a clip.mp4"
    path.write_bytes(content)
    # Ten times 2 MiB are less than the file, so no connection is the last before the eleventh.
    offsets = random.Random(7)
    cutting = CuttingProxy(servers.targets, [offsets.randint(1, 2 << 20) for _ in range(10)])
    seen: list[tuple[int, int]] = []
    async with cutting as target, Client(target) as client:
        job = await client.upload_media(
            path, labels={"team": "news"}, progress=lambda *step: seen.append(step)
        )
        assert not cutting.cuts
        assert cutting.connections >= 11
        assert (await servers.ended(job.latest)).state == JobState.JOB_STATE_SUCCEEDED
        stored = await job
    assert seen[-1] == (len(content), len(content))
    assert stored.blob.sha256 == hashlib.sha256(content).hexdigest()
    assert await servers.content(stored) == content
    assert (stored.title, stored.source.name) == ("a clip", "upload")
    assert stored.labels == {"team": "news"}
    assert stored.url == stored.source.key == f"upload:{stored.blob.sha256}"
    assert stored.video
    assert stored.audio
    assert not await servers.left()


async def test_the_client_does_not_send_a_file_again_whose_job_it_can_ask_for(
    servers: UploadServers, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip())
    async with Client(servers.targets[0]) as client:
        first = await client.upload_media(path)
        await servers.ended(first.latest)
        stored = await first
        again = await client.upload_media(path)
        assert (again.done, again.latest.id, await again) == (True, first.latest.id, stored)
        assert await client.media(stored.url) == stored
        assert (await client.ingest_video(stored.url)).latest.cached


async def test_the_same_content_is_one_media_item_without_a_digest_in_the_request(
    servers: UploadServers,
) -> None:
    content = clip()
    jobs = [await servers.send(content, filename=f"{n}.mp4") for n in range(3)]
    assert len({job.id for job in jobs}) == 3
    ended = await asyncio.gather(*(servers.ended(job) for job in jobs))
    assert {JobState.Name(job.state) for job in ended} == {"JOB_STATE_SUCCEEDED"}
    assert len({job.media.id for job in ended}) == 1
    assert len({job.media.blob.url for job in ended}) == 1
    files = await servers.blobs.list_objects("media/")
    assert len(files) == 2
    assert not await servers.left()


async def test_another_server_goes_on_where_the_first_stopped(servers: UploadServers) -> None:
    content = clip(PART_BYTES + 1000)
    refused = await servers.refused(
        content[: PART_BYTES + 7], upload_id="u", size_bytes=len(content)
    )
    assert refused.reason == "TRUNCATED"
    assert await servers.committed("u") == PART_BYTES + 7
    job = await servers.send(content, server=1, offset=PART_BYTES + 7, upload_id="u")
    ended = await servers.ended(job)
    assert await servers.content(ended.media) == content


async def test_two_writers_of_one_upload_do_not_tear_it(servers: UploadServers) -> None:
    content = clip(3 * PART_BYTES + 99)
    header = {"upload_id": "both", "size_bytes": len(content)}

    async def persist(server: int, chunk: int) -> Job:
        offset = 0
        while True:
            try:
                response = await servers.stubs[server].Upload(
                    requests(content, offset=offset, chunk=chunk, **header)
                )
            except grpc.aio.AioRpcError as error:
                if not is_hidden(error) and refusal(error).reason != "UPLOAD_OFFSET_MISMATCH":
                    raise
                offset = await servers.committed("both")
            else:
                job: Job = response.job
                return job

    # Parts of other sizes, so that they do not begin at the same places.
    jobs = await asyncio.gather(persist(0, 300_000), persist(1, 700_000))
    assert len({job.id for job in jobs}) == 1
    assert await servers.content((await servers.ended(jobs[0])).media) == content


# Uploads a file, without its size, and never says that it was all.
HOLD = """
import asyncio, pathlib, sys, grpc
from ingot.v1.ingest_service_pb2 import UploadChunk, UploadHeader, UploadRequest
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub

async def held(content):
    yield UploadRequest(header=UploadHeader(upload_id="cut"))
    for at in range(0, len(content), 1 << 18):
        yield UploadRequest(chunk=UploadChunk(offset=at, data=content[at : at + (1 << 18)]))
    await asyncio.Event().wait()

async def main(target, path):
    async with grpc.aio.insecure_channel(target) as channel:
        await IngestServiceStub(channel).Upload(held(pathlib.Path(path).read_bytes()))

asyncio.run(main(*sys.argv[1:]))
"""


async def hold(target: str, content: bytes) -> None:
    """Does what HOLD does."""

    async def held() -> AsyncIterator[UploadRequest]:
        async for request in requests(content, upload_id="cut"):
            yield request
        await asyncio.Event().wait()

    async with grpc.aio.insecure_channel(target) as channel:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await IngestServiceStub(channel).Upload(held())


@pytest.mark.any_stores
@pytest.mark.parametrize("size", [PART_BYTES, PART_BYTES + 5000])
@pytest.mark.parametrize("how", ["closed", "reset", "cancelled", "killed"])
async def test_a_stream_that_is_cut_is_not_taken_for_whole(
    servers: UploadServers, how: str, size: int, tmp_path: Path
) -> None:
    content = clip(size)
    assert len(content) == size
    # When whole parts have come the server has nothing left to wait for but the end of the stream.
    arrived = PART_BYTES
    async with running(servers.settings) as server:
        if how == "killed":
            path = tmp_path / "clip.mp4"
            path.write_bytes(content)
            client = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", HOLD, server.grpc, str(path))
            )
            try:
                await servers.has("cut", arrived)
            finally:
                client.kill()
                await client.wait()
        else:
            cutting = CuttingProxy([server.grpc], [])
            async with cutting as target:
                holding = asyncio.create_task(hold(target, content))
                await servers.has("cut", arrived)
                if how == "cancelled":
                    holding.cancel()
                else:
                    cutting.cut(reset=how == "reset")
                await asyncio.wait([holding])
    # The server has ended all of its calls now. What it had read is kept, and the upload can go on
    # from there; what it had not read of a call that was cancelled is dropped by gRPC.
    kept = await servers.committed("cut")
    assert arrived <= kept <= size
    async with Client(servers.targets[0]) as client_:
        assert not [job async for job in client_.jobs()]
    job = await servers.send(content, upload_id="cut", offset=kept)
    assert (await servers.ended(job)).state == JobState.JOB_STATE_SUCCEEDED


async def test_what_is_wrong_is_said(servers: UploadServers) -> None:
    content = clip()
    size = len(content)
    too_large = await servers.refused(b"", size_bytes=65 << 20)
    assert (too_large.code, too_large.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TOO_LARGE")
    assert (await servers.refused(bytes(65 << 20))).reason == "TOO_LARGE"
    assert (await servers.refused(b"")).reason == "NOT_MEDIA"
    assert (await servers.refused(content, size_bytes=10)).reason == "CHECKSUM_MISMATCH"
    assert (
        await servers.refused(content, offset=1, upload_id="o")
    ).reason == "UPLOAD_OFFSET_MISMATCH"
    assert (await servers.refused(content, sha256="x")).fields == {"header.sha256"}
    assert (await servers.refused(content, upload_id="../x")).fields == {"header.upload_id"}
    assert "labels" in str((await servers.refused(content, labels={"Bad Key": "x"})).fields)
    await servers.refused(content[:9], upload_id="mine", size_bytes=size)
    other = await servers.refused(content, upload_id="mine", size_bytes=size + 1)
    assert other.fields == {"header.size_bytes"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await servers.stubs[0].QueryUpload(QueryUploadRequest(upload_id="never"))
    assert refusal(caught.value).reason == "UPLOAD_NOT_FOUND"

    async def headless() -> AsyncIterator[UploadRequest]:
        yield UploadRequest(chunk=UploadChunk(data=b"x"))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await servers.stubs[0].Upload(headless())
    assert refusal(caught.value).fields == {"header"}


@pytest.mark.parametrize(
    ("content", "header", "reason"),
    [
        (b"just text, and no media" * 100, {}, "NOT_MEDIA"),
        (clip()[:-7], {}, "TRUNCATED"),
        (None, {"sha256": SHA}, "CHECKSUM_MISMATCH"),
    ],
)
async def test_a_worker_refuses_what_is_not_as_announced(
    servers: UploadServers, content: bytes | None, header: dict[str, Any], reason: str
) -> None:
    job = await servers.ended(await servers.send(content or clip(), **header))
    assert job.state == JobState.JOB_STATE_FAILED
    assert ingot.errors.from_status(job.error).reason == reason
    assert not await servers.left()
    assert not await servers.blobs.list_objects("media/")


@pytest.mark.parametrize("recipes", [[], [WAV]], ids=["file", "workflow"])
async def test_a_wrong_upload_does_not_fail_the_right_one(
    servers: UploadServers, recipes: list[Recipe]
) -> None:
    right, wrong = clip(seed=1), clip(seed=2)
    fields: dict[str, Any] = {
        "sha256": hashlib.sha256(right).hexdigest(),
        "recipes": recipes,
    }
    first = await servers.send(wrong, upload_id="wrong", **fields)
    second = await servers.send(right, upload_id="right", **fields)
    assert first.id != second.id
    assert (await servers.ended(first)).state == JobState.JOB_STATE_FAILED
    job = await servers.finished(second)
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    assert await servers.content(job.media) == right


async def test_abandoned_uploads_expire(servers: UploadServers) -> None:
    content = clip()
    await servers.refused(content[:100], upload_id="old", size_bytes=len(content))
    between = datetime.now(UTC) + timedelta(seconds=1)
    keeping = Uploads(servers.blobs, servers.settings)
    assert await keeping.sweep() == 0
    await asyncio.sleep(4)  # listings tell times in seconds
    await servers.refused(content[:100], upload_id="new", size_bytes=len(content))
    age = datetime.now(UTC) - between
    sweeping = Uploads(servers.blobs, servers.settings.replace(upload_ttl=age))
    assert await sweeping.sweep() == 1
    assert await keeping.status("old") is None
    assert await keeping.status("new") is not None
