"""Uploads while something is down, asked for twice, or abandoned: whole at the end, or gone."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

import ingot
from ingot import Client
from ingot.errors import ServiceUnavailable
from ingot.v1.job_pb2 import Job, JobState
from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from ingot_server.library.uploads import PART_BYTES, Uploads
from ingot_server.redis import connect
from ingot_server.setting_values import ByteSize
from ingot_server.worker import UPLOAD_SWEEP, Worker
from tests.integration.uploads.cutting_proxy import CuttingProxy
from tests.integration.uploads.upload_servers import UploadServers, clip, running_servers
from tests.refusals import refusal

pytestmark = pytest.mark.slow


async def test_a_server_that_starts_again_goes_on_with_an_upload(
    servers: UploadServers, tmp_path: Path
) -> None:
    content = clip(6 * PART_BYTES)
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    settings = servers.settings.replace(shutdown_timeout=timedelta(milliseconds=100))
    cuts, targets = random.Random(11), list[str]()
    cutting = CuttingProxy(targets, [cuts.randint(1, 4 * PART_BYTES) for _ in range(3)])
    reached = [asyncio.Event() for _ in range(2)]

    def progress(done: int, total: int) -> None:
        for number, event in enumerate(reached, 1):
            if done > total * number / 3:
                event.set()

    async with cutting as target, Client(target) as client:
        async with running(settings) as server:
            targets.append(server.grpc)
            uploading = asyncio.create_task(client.upload_media(path, progress=progress))
            await reached[0].wait()
        settings = settings.replace(grpc_address=server.grpc)
        async with running(settings):
            await reached[1].wait()
        async with running(settings):
            job = await uploading
            ended = await servers.ended(job.latest)
    assert ended.media.blob.sha256 == hashlib.sha256(content).hexdigest()
    assert await servers.content(ended.media) == content
    assert not await servers.left()


async def test_nothing_arrives_after_an_upload_was_thrown_away(servers: UploadServers) -> None:
    announced = 2 * PART_BYTES
    for number in range(4):
        refused = await servers.refused(
            bytes(announced + 1), chunk=2 << 20, size_bytes=announced, upload_id=f"upload-{number}"
        )
        assert refused.reason == "CHECKSUM_MISMATCH"
    await asyncio.sleep(1)  # a part that was on its way would be there by then

    assert not await servers.left()


async def test_a_call_repeated_while_its_job_runs_gets_that_job(servers: UploadServers) -> None:
    content = clip(2 * PART_BYTES)
    job = await servers.send(content, upload_id="twice")
    # The answer was lost, so the caller asks where the upload stands and says again that it is all.
    assert await servers.committed("twice") == len(content)
    again = await servers.send(content, upload_id="twice", offset=len(content))
    assert again.id == job.id
    running_job = asyncio.create_task(servers.ended(job))
    async with Client(servers.targets[0]) as client:
        # From here on the job has its content's identity, which was unknown when it was made.
        async for update in await client.job(job.id):
            if update.media.id != job.media.id:
                break
        later: list[Job] = []
        too_late: list[str] = []
        try:
            later.append(await servers.send(content, upload_id="twice", offset=len(content)))
        except grpc.aio.AioRpcError as error:
            too_late.append(refusal(error).reason)
    ended = await running_job
    # Where the job was faster the upload is gone, and an empty one begun.
    assert later or too_late == ["NOT_MEDIA"]
    for each in later:
        ended_later = each if each.id == job.id else await servers.ended(each)
        assert ended_later.state != JobState.JOB_STATE_FAILED
        assert ended_later.media.id == ended.media.id
    assert not await servers.left()


async def test_a_job_whose_upload_is_gone_ends_with_its_media(servers: UploadServers) -> None:
    content = clip()
    sha256 = hashlib.sha256(content).hexdigest()
    uploads = Uploads(servers.blobs, servers.settings)
    # As a worker that was lost after its commit leaves it.
    await uploads.prove("named", sha256)
    first = await servers.send(content, upload_id="named", sha256=sha256)
    other = await servers.ended(await servers.send(content, upload_id="unnamed"))
    await uploads.remove("named")
    ended = await servers.ended(first)
    assert (ended.state, ended.cached) == (JobState.JOB_STATE_SUCCEEDED, True)
    assert ended.media == other.media


async def test_an_upload_has_one_job_whatever_is_known_of_it_later(servers: UploadServers) -> None:
    content = clip()
    sha256 = hashlib.sha256(content).hexdigest()
    sent: dict[str, Any] = {"upload_id": "shared", "offset": len(content)}
    job = await servers.send(content, upload_id="shared")
    assert (await servers.send(content, sha256=sha256, **sent)).id == job.id
    refused = await servers.refused(content, size_bytes=len(content) - 1, **sent)
    assert refused.fields == {"header.size_bytes"}
    ended = await servers.ended(job)
    refused = await servers.refused(content, sha256="0" * 64, **sent)
    assert refused.fields == {"header.sha256"}
    assert (await servers.send(content, **sent)) == ended


async def test_a_bucket_that_goes_down_and_comes_back_loses_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    content = clip(4 * PART_BYTES)
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    store = CuttingProxy([settings.s3_endpoint], [])
    async with (
        store as endpoint,
        running_servers(settings.replace(s3_endpoint=endpoint, http_address="")) as servers,
    ):
        halfway = asyncio.Event()

        def progress(done: int, total: int) -> None:
            if done > total / 2:
                halfway.set()

        async with Client(servers.targets[0]) as client:
            uploading = asyncio.create_task(client.upload_media(path, progress=progress))
            await halfway.wait()
            store.refuse()
            other = tmp_path / "other.mp4"
            other.write_bytes(clip(seed=3))
            timeout = timedelta(milliseconds=100)
            async with Client(servers.targets[1], reconnect_timeout=timeout) as impatient:
                with pytest.raises(ServiceUnavailable) as caught:
                    await impatient.upload_media(other)
            assert caught.value.reason == "STORAGE_UNAVAILABLE"
            assert not uploading.done()
            store.accept()
            ended = await servers.ended((await uploading).latest)
        assert await servers.content(ended.media) == content
        assert len(await servers.blobs.list_objects("media/")) == 2
        assert not await servers.left()


async def test_a_full_scratch_is_said_and_the_upload_kept(settings: Settings) -> None:
    content = clip()
    settings = settings.replace(http_address="", attempts=1)
    full = settings.replace(scratch_reserve=ByteSize(1 << 60))
    async with running_servers(full) as servers:
        job = await servers.ended(await servers.send(content, upload_id="kept"))
        assert job.state == JobState.JOB_STATE_FAILED
        assert ingot.errors.from_status(job.error).reason == "SCRATCH_FULL"
        assert not await servers.blobs.list_objects("media/")
        files = [each.name for each in settings.scratch_dir.rglob("*") if each.is_file()]
        assert not [name for name in files if "lock" not in name]
    async with running_servers(settings) as servers:
        assert await servers.committed("kept") == len(content)
        job = await servers.send(content, upload_id="kept", offset=len(content))
        ended = await servers.ended(job)
        assert await servers.content(ended.media) == content
        assert not await servers.left()


@pytest.fixture
async def idle(settings: Settings) -> AsyncIterator[tuple[Settings, Uploads, Blobs]]:
    """Uploads that no worker sweeps yet, and that expire after a second."""
    settings = settings.replace(upload_ttl=timedelta(seconds=1), http_address="")
    blobs = Blobs(settings)
    await blobs.prepare()
    yield settings, Uploads(blobs, settings), blobs
    await blobs.close()


async def test_workers_sweep_abandoned_uploads_one_at_a_time(
    idle: tuple[Settings, Uploads, Blobs],
) -> None:
    settings, uploads, blobs = idle
    await uploads.put_part("abandoned", 0, b"some bytes")
    # Also what a link was used for after its upload was gone: a part without a header.
    assert await blobs.list_objects("uploads/")
    connection = connect(settings)
    workers = [Worker(settings), Worker(settings)]
    try:
        # Another worker holds the sweep: no other one sweeps until it has finished.
        await connection.set(connection.key(UPLOAD_SWEEP), b"", px=60_000)
        for worker in workers:
            await worker.start()
        await asyncio.sleep(2.5)  # longer than the time to live and some turns
        assert await blobs.list_objects("uploads/")
        await connection.delete(connection.key(UPLOAD_SWEEP))
        async with asyncio.timeout(30):
            while await blobs.list_objects("uploads/"):  # noqa: ASYNC110 - S3 sends no event
                await asyncio.sleep(0.05)
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers))
        await connection.aclose()
