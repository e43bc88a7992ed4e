"""Two installations on one Redis server do not see each other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator

import pytest

from ingot import Client, Job
from ingot.v1.job_service_pb2 import SnapshotEnd
from ingot_server.config import Settings
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.records import Records
from ingot_server.process.launch import launch_command
from ingot_server.redis import Redis, connect
from tests.media import media
from tests.origin import Page, running_origin
from tests.recipes import make_recipe
from tests.records import new_job
from tests.running_service import running_service
from tests.waiting import JOB_SECONDS, TIMEOUT_SECONDS

# Redis sends the names of changed keys here, to each client those that it asked for.
INVALIDATION = "__redis__:invalidate"
PREFIXES = ("one:", "two.")


@contextlib.asynccontextmanager
async def user(redis: Redis, prefix: str) -> AsyncIterator[str]:
    """A user of Redis that may use the keys and channels with this prefix, and no others."""
    name = prefix[:-1]
    await redis.acl_setuser(
        name,
        enabled=True,
        nopass=True,
        categories=["+@all"],
        keys=[f"{prefix}*"],
        channels=[f"{prefix}*", INVALIDATION],
    )
    try:
        yield name
    finally:
        await redis.acl_deluser(name)


@contextlib.asynccontextmanager
async def celery_worker(settings: Settings) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *launch_command(sys.executable, "-m", "ingot_server.cli", "worker"),
        env={**os.environ, **settings.environment()},
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def use(client: Client, url: str) -> None:
    """Have every part of an installation use Redis."""
    stored = await (await client.ingest_video(url))
    await (await client.convert(stored.id, make_recipe("mp3")))
    assert stored.id in [each.id async for each in client.list_media(source="http")]


async def urls_watched(client: Client) -> set[str]:
    """The URLs of all jobs that WatchJobs shows, until two have ended."""
    urls, ended = set(), set()
    async for job in client.watch_jobs():
        if isinstance(job, Job):
            urls.add(job.url)
            ended.update([job.id] if job.HasField("end_time") else [])
            if len(ended) == 2:
                break
    return urls


@pytest.mark.any_stores
async def test_all_keys_and_channels_begin_with_the_prefix_of_their_installation(
    settings: Settings, redis: Redis
) -> None:
    await redis.acl_log_reset()
    async with running_origin() as origin, contextlib.AsyncExitStack() as stack:
        page, clients, urls = Page(media("plain.mp4").read_bytes()), [], []
        for prefix in PREFIXES:
            name = await stack.enter_async_context(user(redis, prefix))
            own = settings.replace(
                redis_prefix=prefix,
                redis_url=settings.redis_url.replace("unix://", f"unix://{name}@"),
                scratch_dir=settings.scratch_dir / name,
            )
            address = await stack.enter_async_context(running_service(own))
            clients.append(await stack.enter_async_context(Client(address)))
            urls.append(origin.serve(f"/{name}.mp4", page))
        await stack.enter_async_context(celery_worker(own))
        watches = [asyncio.create_task(urls_watched(client)) for client in clients]
        async with asyncio.timeout(JOB_SECONDS):
            await asyncio.gather(*map(use, clients, urls))
            assert [await watch for watch in watches] == [{url} for url in urls]
            # Only Celery brings the job of a preview to a worker.
            await clients[-1].resolve(origin.serve("/previewed.mp4", page))
        assert set(await redis.pubsub_channels()) == {
            INVALIDATION.encode(),
            *(f"{prefix}{name}".encode() for prefix in PREFIXES for name in ("jobs", "watched")),
        }
        # Redis has refused nothing, neither in a script nor to Celery.
        assert await redis.acl_log() == []
    keys = [bytes(key).decode() async for key in redis.scan_iter()]
    assert [key for key in keys if not key.startswith(PREFIXES)] == []


async def test_two_databases_of_one_server_have_channels_of_their_own(
    settings: Settings, redis: Redis
) -> None:
    other = settings.replace(redis_url=f"{settings.redis_url}?db=1")
    async with connect(other) as connection, asyncio.timeout(TIMEOUT_SECONDS):
        ours, theirs = Records(redis, settings), Records(connection, other)
        feed = Feed(connection, theirs, other)
        await feed.start()
        async with contextlib.aclosing(feed.watch_all(lambda _: True, 10)) as updates:
            assert isinstance((await anext(updates)).event, SnapshotEnd)
            await ours.create(new_job("ours"))
            created = (await theirs.create(new_job("theirs"))).job
            assert (await anext(updates)).event == created
        await feed.close()
