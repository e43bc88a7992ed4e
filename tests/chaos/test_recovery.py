"""Kill any process at any time: every accepted job still ends, once."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
import redis.asyncio

from ingot import Client, IngotError
from ingot.v1 import job_pb2
from tests.installation import installation, kill_tree
from tests.origin import Origin, Page
from tests.waiting import until

PATH = "/clip.mp4"


async def downloading(job_url: str, client: Client) -> str:
    """Starts an ingest and waits until its bytes flow; the job's id."""
    job = await client.ingest_video(job_url)
    async for update in job:
        if update.progress.stage.bytes_done > 0:
            return job.id
    raise AssertionError("the job ended before it could be disturbed")


async def test_a_killed_worker_s_job_runs_again_and_succeeds_once(
    tmp_path: Path, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(PATH, Page(clip, rate=len(clip) / 3, etag='"one"'))
    with installation(tmp_path, workers="1") as running:
        async with Client(running.grpc_address) as client:
            job_id = await downloading(url, client)
            [worker] = running.children("worker")

            kill_tree(worker)
            begin = time.monotonic()
            job = await client.job(job_id)
            async for update in job:
                if update.attempt == 2:
                    break
            again = time.monotonic() - begin
            media = await job

            assert again < 60, "five seconds on a machine that has the time"
            assert media.blob.size_bytes == len(clip)
            assert job.latest.attempt == 2
            assert len(running.bucket_keys("media/")) == 2


async def test_a_job_that_loses_every_worker_fails_and_does_not_loop(
    tmp_path: Path, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(PATH, Page(clip, rate=len(clip) / 60))
    with installation(tmp_path, workers="1", worker_losses="2", stall_timeout="5m") as running:
        async with Client(running.grpc_address) as client:
            job = await client.ingest_video(url)
            killed = 0
            async for update in job:
                if update.attempt > killed and update.progress.stage.bytes_done > 0:
                    kill_tree(running.children("worker")[0])
                    killed = update.attempt
            with pytest.raises(IngotError) as failed:
                await job

            assert failed.value.reason == "WORKER_LOST"
            assert killed == 2


async def test_a_killed_server_s_watchers_resume(
    tmp_path: Path, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(PATH, Page(clip, rate=len(clip) / 4))
    with installation(tmp_path) as running:
        async with Client(running.grpc_address) as client:
            job = await client.ingest_video(url)
            revisions = []
            killed = False
            async for update in job:
                revisions.append(update.revision)
                if update.progress.stage.bytes_done > 0 and not killed:
                    killed = True
                    kill_tree(running.children("serve")[0])

            assert killed
            assert revisions == sorted(set(revisions))
            assert job.latest.state == job_pb2.JOB_STATE_SUCCEEDED
            assert len(origin.gets(PATH)) == 1


async def test_a_wiped_redis_loses_no_media_and_tears_no_job(
    tmp_path: Path, origin: Origin, clip: bytes
) -> None:
    stored_url = origin.serve("/stored.mp4", Page(clip))
    url = origin.serve(PATH, Page(clip, rate=len(clip) / 2))
    with installation(tmp_path) as running:
        async with Client(running.grpc_address) as client:
            stored = await (await client.ingest_video(stored_url))
            await downloading(url, client)

            async with redis.asyncio.Redis.from_url(running.redis_url) as connection:
                await connection.flushall()

            assert await client.media(stored_url) == stored
            await client.download(stored.id, tmp_path / "copy.mp4")
            assert (tmp_path / "copy.mp4").read_bytes() == clip

            media = await (await client.ingest_video(url))
            assert media.blob.size_bytes == len(clip)
            # Longer than a lease: who lost it has taken back what it stored.
            await asyncio.sleep(4)
            assert (await client.media(url)).blob.url == media.blob.url
            await until(lambda: len(running.bucket_keys("media/")) == 4)


async def test_everything_killed_at_once_loses_nothing_that_was_stored(
    tmp_path: Path, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(PATH, Page(clip))
    with installation(tmp_path) as running:
        async with Client(running.grpc_address) as client:
            media = await (await client.ingest_video(url))
        kill_tree(running.process.pid)
        running.process.wait()

    with installation(tmp_path) as running:
        async with Client(running.grpc_address) as client:
            assert await client.media(url) == media
            await client.download(url, tmp_path / "copy.mp4")
    assert (tmp_path / "copy.mp4").read_bytes() == clip
    assert len(origin.gets(PATH)) == 1


async def test_a_killed_redis_comes_back_with_its_jobs(
    tmp_path: Path, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(PATH, Page(clip, rate=len(clip) / 4))
    with installation(tmp_path) as running:
        async with Client(running.grpc_address) as client:
            job_id = await downloading(url, client)

            os.kill(running.children("valkey-server")[0], signal.SIGKILL)

            media = await (await client.job(job_id))
            assert media.blob.size_bytes == len(clip)


async def test_a_killed_s3_comes_back_and_the_job_is_tried_again(
    tmp_path: Path, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(PATH, Page(clip, rate=len(clip) / 2))
    with installation(tmp_path, retry_backoff="2s") as running:
        async with Client(running.grpc_address) as client:
            job_id = await downloading(url, client)

            os.kill(running.children("weed")[0], signal.SIGKILL)

            media = await (await client.job(job_id))
            await client.download(media.id, tmp_path / "copy.mp4")
            assert (tmp_path / "copy.mp4").read_bytes() == clip


async def test_a_full_disk_is_reported_and_passes(
    tmp_path: Path, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(PATH, Page(clip))
    with installation(tmp_path / "data", scratch_reserve="100TiB") as running:
        async with Client(running.grpc_address) as client:
            with pytest.raises(IngotError) as failed:
                await (await client.ingest_video(url))

    assert failed.value.reason == "SCRATCH_FULL"
    with installation(tmp_path / "data") as running:
        async with Client(running.grpc_address) as client:
            assert (await (await client.ingest_video(url))).blob.size_bytes == len(clip)
