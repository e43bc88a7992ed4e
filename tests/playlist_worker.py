"""A worker as it is, but for what a list is: a text with a URL a line, at a URL ending in `.list`.

This stands in for what yt-dlp answers about a playlist; all that happens to the entries is real.
The first attempt of one that ends in `.deadly.list` kills the worker midway.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import urllib.request
from collections.abc import Sequence

from ingot.v1.job_pb2 import Job
from ingot_server import worker_process
from ingot_server.config import Settings
from ingot_server.jobs.lease import Lease
from ingot_server.jobs.placement import Work
from ingot_server.pipeline.attempt import Expanded, Previewed, Stored
from ingot_server.pipeline.ingest import Pipeline
from ingot_server.pipeline.playlist import Playlists
from ingot_server.worker import Worker
from tests.prepared_programs import use_prepared_programs

LIVES_FOR = 20


class PlaylistWorker(Worker):
    def __init__(self, settings: Settings, works: Sequence[Work] = (Work.FETCH,)) -> None:
        super().__init__(settings, works)
        self._pipeline = PlaylistPipeline(self._pipeline, self._playlists)


class PlaylistPipeline(Pipeline):
    """The pipeline, but for lists."""

    def __init__(self, pipeline: Pipeline, playlists: Playlists) -> None:
        super().__init__(pipeline._context)
        self._playlists = playlists

    async def run(self, job: Job, lease: Lease) -> Stored | Expanded | Previewed:
        if not job.url.endswith(".list"):
            return await super().run(job, lease)
        if job.url.endswith(".deadly.list") and job.attempt == 1:
            _kill_later(lease)
        urls = await asyncio.to_thread(_lines, job.url)
        await self._playlists.ingest_entries(urls, job, lease, title="A list")
        return Expanded()


def _kill_later(lease: Lease) -> None:
    add_child = lease.add_child
    added = 0

    async def add(child: Job, *, entry: str, order: int, single_flight_key: str = "") -> Job:
        nonlocal added
        added += 1
        if added == LIVES_FOR:
            os.kill(os.getpid(), signal.SIGKILL)
        return await add_child(child, entry=entry, order=order, single_flight_key=single_flight_key)

    lease.add_child = add  # type: ignore[method-assign] # of this one lease alone


def _lines(url: str) -> list[str]:
    with urllib.request.urlopen(url) as answer:
        text: bytes = answer.read()
    return text.decode().split()


if __name__ == "__main__":
    use_prepared_programs()
    worker_process.Worker = PlaylistWorker  # type: ignore[attr-defined] # `main` makes it
    works = [Work.CONVERT if "--convert" in sys.argv else Work.FETCH]
    worker_process.main(Settings.from_environment(os.environ), works)
