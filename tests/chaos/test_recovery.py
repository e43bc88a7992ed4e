"""Kill any process at any time: every accepted job still ends, once.

Most tests disturb the same Ingot, which has to recover from each of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio

from ingot import Client, IngotError
from ingot.v1 import job_pb2
from tests.installation import Installation, installation, kill_tree
from tests.origin import Origin, Page
from tests.waiting import JOB_SECONDS, until

PATH = "/clip.mp4"
ONE_WORKER = {"workers": "1", "convert_workers": "0"}
WORKER_LOSSES = 3


@pytest.fixture(scope="module")
def ingot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The Ingot that most tests disturb."""
    settings = {
        **ONE_WORKER,
        "worker_losses": str(WORKER_LOSSES),
        "stall_timeout": "5m",
        "retry_backoff": "2s",
    }
    with installation(tmp_path_factory.mktemp("ingot"), **settings) as running:
        yield running


@pytest.fixture
async def client(ingot: Installation) -> AsyncIterator[Client]:
    async with Client(ingot.grpc_address) as connected:
        yield connected


async def downloading(job_url: str, client: Client) -> str:
    """Starts an ingest and waits until its bytes flow; the job's id."""
    job = await client.ingest_video(job_url)
    async for update in job:
        if update.progress.stage.bytes_done > 0:
            return job.id
    raise AssertionError("the job ended before it could be disturbed")


async def test_a_killed_worker_s_job_runs_again_and_succeeds_once(
    ingot: Installation, client: Client, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(PATH, Page(clip, rate=len(clip) / 3, etag='"one"'))
    job_id = await downloading(url, client)
    [worker] = ingot.children("worker")

    kill_tree(worker)
    job = await client.job(job_id)
    async with asyncio.timeout(JOB_SECONDS):
        async for update in job:
            if update.attempt == 2:
                break
    media = await job

    assert media.blob.size_bytes == len(clip)
    assert job.latest.attempt == 2
    assert len(media_keys(ingot, media.id)) == 2


async def test_a_job_that_loses_every_worker_fails_and_does_not_loop(
    ingot: Installation, client: Client, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(PATH, Page(clip, rate=len(clip) / 60))
    job = await client.ingest_video(url)
    killed = 0
    async for update in job:
        if update.attempt > killed and update.progress.stage.bytes_done > 0:
            kill_tree(ingot.children("worker")[0])
            killed = update.attempt
    with pytest.raises(IngotError) as failed:
        await job

    assert failed.value.reason == "WORKER_LOST"
    assert killed == WORKER_LOSSES


async def test_a_killed_server_s_watchers_resume(
    ingot: Installation, client: Client, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(PATH, Page(clip, rate=len(clip) / 4))
    job = await client.ingest_video(url)
    revisions = []
    killed = False
    async for update in job:
        revisions.append(update.revision)
        if update.progress.stage.bytes_done > 0 and not killed:
            killed = True
            kill_tree(ingot.children("serve")[0])

    assert killed
    assert revisions == sorted(set(revisions))
    assert job.latest.state == job_pb2.JOB_STATE_SUCCEEDED
    assert len(origin.gets(PATH)) == 1


async def test_a_wiped_redis_loses_no_media_and_tears_no_job(
    ingot: Installation, client: Client, tmp_path: Path, origin: Origin, clip: bytes
) -> None:
    stored_url = origin.serve("/stored.mp4", Page(clip))
    url = origin.serve(PATH, Page(clip, rate=len(clip) / 2))
    stored = await (await client.ingest_video(stored_url))
    await downloading(url, client)

    async with redis.asyncio.Redis.from_url(ingot.redis_url) as connection:
        await connection.flushall()

    assert await client.media(stored_url) == stored
    await client.download(stored.id, tmp_path / "copy.mp4")
    assert (tmp_path / "copy.mp4").read_bytes() == clip

    media = await (await client.ingest_video(url))
    assert media.blob.size_bytes == len(clip)
    # Longer than a lease: who lost it has taken back what it stored.
    await asyncio.sleep(4)
    assert (await client.media(url)).blob.url == media.blob.url
    await until(lambda: len(media_keys(ingot, stored.id, media.id)) == 4)


def media_keys(ingot: Installation, *media_ids: str) -> list[str]:
    return [key for each in media_ids for key in ingot.bucket_keys(f"media/{each}/")]


async def test_a_killed_redis_comes_back_with_its_jobs(
    ingot: Installation, client: Client, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(PATH, Page(clip, rate=len(clip) / 4))
    job_id = await downloading(url, client)

    os.kill(ingot.children("valkey-server")[0], signal.SIGKILL)

    media = await (await client.job(job_id))
    assert media.blob.size_bytes == len(clip)


async def test_a_killed_s3_comes_back_and_the_job_is_tried_again(
    ingot: Installation, client: Client, tmp_path: Path, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(PATH, Page(clip, rate=len(clip) / 2))
    job_id = await downloading(url, client)

    os.kill(ingot.children("weed")[0], signal.SIGKILL)

    media = await (await client.job(job_id))
    await client.download(media.id, tmp_path / "copy.mp4")
    assert (tmp_path / "copy.mp4").read_bytes() == clip


async def test_everything_killed_at_once_loses_nothing_that_was_stored(
    tmp_path: Path, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(PATH, Page(clip))
    with installation(tmp_path, **ONE_WORKER) as running:
        async with Client(running.grpc_address) as client:
            media = await (await client.ingest_video(url))
        kill_tree(running.process.pid)
        running.process.wait()

    with installation(tmp_path, **ONE_WORKER) as running:
        async with Client(running.grpc_address) as client:
            assert await client.media(url) == media
            await client.download(url, tmp_path / "copy.mp4")
    assert (tmp_path / "copy.mp4").read_bytes() == clip
    assert len(origin.gets(PATH)) == 1


async def test_a_full_disk_is_reported_and_passes(
    tmp_path: Path, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(PATH, Page(clip))
    with installation(tmp_path / "data", scratch_reserve="100TiB", **ONE_WORKER) as running:
        async with Client(running.grpc_address) as client:
            with pytest.raises(IngotError) as failed:
                await (await client.ingest_video(url))

    assert failed.value.reason == "SCRATCH_FULL"
    with installation(tmp_path / "data", **ONE_WORKER) as running:
        async with Client(running.grpc_address) as client:
            assert (await (await client.ingest_video(url))).blob.size_bytes == len(clip)
