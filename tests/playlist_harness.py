"""What tests of playlists share: the stores, the entries, and workers (playlist_worker.py)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from typing import Any

import pytest

from ingot.v1.job_pb2 import Job
from ingot_server.config import Settings
from ingot_server.intake import Intake
from ingot_server.jobs.dispatch import Dispatcher
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lease import hold
from ingot_server.jobs.lifecycle import ingest_kind
from ingot_server.jobs.queue import Queue, celery_app
from ingot_server.jobs.records import Records
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.identity import canonical_selection, media_id
from ingot_server.pipeline.playlist import Playlists
from ingot_server.process.launch import launch_command
from ingot_server.redis import Redis, connect
from ingot_server.sources import pick
from tests.media import media
from tests.origin import Origin, Page, running_origin
from tests.waiting import JOB_SECONDS

QUICK = timedelta(seconds=2)


class PlaylistHarness:
    """The stores, and what a test does with them."""

    def __init__(self, settings: Settings, origin: Origin, redis: Redis) -> None:
        self.settings = settings
        self.origin = origin
        self.redis = redis
        self.records = Records(redis, settings)
        self.feed = Feed(redis, self.records, settings)
        self.queue = Queue(celery_app(settings))
        blobs = Blobs(settings)
        self.catalog = Catalog(blobs, redis, settings)
        self.playlists = Playlists(
            Intake(self.catalog, blobs, settings), self.records, self.queue, settings
        )
        self.tiny = media("tiny.mp4").read_bytes()

    def entries(self, count: int, *, folder: str = "entry") -> list[str]:
        return [
            self.origin.serve(f"/{folder}-{number}.mp4", Page(self.tiny)) for number in range(count)
        ]

    def serve_list(self, name: str, urls: Sequence[str]) -> str:
        return self.origin.serve(f"/{name}", Page("\n".join(urls).encode()))

    async def make(self, url: str, *, send: bool = True, **fields: Any) -> Job:
        job = Job(kind=ingest_kind(fields.get("recipes", ())), url=url, **fields)
        job.selection.CopyFrom(canonical_selection(job.selection))
        job.options.playlist = url.endswith((".list", ".xml"))
        job.media.id = identity(url)
        creation = await self.records.create(job)
        if creation.is_new and send:
            await Dispatcher(self.records.dispatch, self.queue).run()
        return creation.job

    async def expand(self, parent: Job, urls: Sequence[str]) -> None:
        """What a worker does to the list `parent`."""
        claim = await self.records.claim(parent.id)
        assert claim is not None
        async with hold(self.records, self.feed, claim) as lease:
            await self.playlists.ingest_entries(urls, claim.job, lease)

    async def read(self, job_id: str) -> Job:
        job = await self.records.get(job_id)
        assert job is not None
        return job

    async def ended(self, job_id: str) -> list[Job]:
        """Wait for the job's end and return all its updates, none of them long after another."""
        seen = []
        async with asyncio.timeout(JOB_SECONDS) as limit:
            async with aclosing(self.feed.watch(job_id)) as updates:
                async for update in updates:
                    seen.append(update)
                    limit.reschedule(asyncio.get_running_loop().time() + JOB_SECONDS)
        return seen

    async def children(self, parent: Job) -> list[Job]:
        return [await self.read(child_id) for child_id in parent.child_job_ids]


@pytest.fixture
async def ingot(settings: Settings) -> AsyncIterator[PlaylistHarness]:
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(running_origin())
        redis = connect(settings)
        stack.push_async_callback(redis.aclose)
        ingot = PlaylistHarness(
            settings.replace(resend_interval=QUICK, playlist_jobs=12), origin, redis
        )
        await Blobs(settings).prepare()
        await ingot.catalog.start()
        stack.push_async_callback(ingot.catalog.close)
        await ingot.feed.start()
        stack.push_async_callback(ingot.feed.close)
        stack.push_async_callback(ingot.queue.close)
        yield ingot


@contextlib.contextmanager
def worker(
    ingot: PlaylistHarness, *arguments: str, **changes: object
) -> Iterator[subprocess.Popen[bytes]]:
    settings = ingot.settings.replace(extractor_prewarm=True, **changes)
    environment = {name: text for name, text in os.environ.items() if name[:6] != "INGOT_"}
    process = subprocess.Popen(
        launch_command(sys.executable, "-m", "tests.playlist_worker", *arguments),
        env=environment | settings.environment(),
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def identity(url: str) -> str:
    return media_id(pick(url)[1].key, canonical_selection(Job().selection))
