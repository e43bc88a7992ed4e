"""A job that a measurement runs in place of a worker, so that it changes when that wants it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media, Selection
from ingot_server.config import Settings
from ingot_server.jobs.lifecycle import copy_of
from ingot_server.jobs.records import Records
from ingot_server.library.identity import media_id
from ingot_server.redis import connect


class HeldJob:
    """A job that is RUNNING, and downloads."""

    def __init__(self, records: Records, job: Job, token: str) -> None:
        self.job = job
        self._records = records
        self._token = token

    async def receive(self, count: int) -> None:
        """Write that `count` more bytes have arrived."""
        job = copy_of(self.job)
        job.stage = job_pb2.JOB_STAGE_DOWNLOADING
        job.progress.stage.bytes_done += count
        self.job = await self._records.write(job, self._token)

    async def succeed(self) -> None:
        """Write that the job has ended."""
        job = copy_of(self.job)
        job.state = job_pb2.JOB_STATE_SUCCEEDED
        self.job = await self._records.write(job, self._token)


@asynccontextmanager
async def held_job(redis_url: str, name: str) -> AsyncIterator[HeldJob]:
    """Make a job and claim it, before any worker does; cancel it at the end if it runs."""
    settings = Settings(redis_url=redis_url, lease=timedelta(minutes=5))
    async with connect(settings) as redis:
        records = Records(redis, settings)
        url = f"https://example.com/{name}.mp4"
        media = Media(id=media_id(f"http:{url}", Selection()), url=url, title=name)
        draft = Job(kind=job_pb2.JOB_KIND_INGEST, url=url, display_name=name, media=media)
        claim = await records.claim((await records.create(draft)).job.id)
        if claim is None:
            raise AssertionError("a worker has claimed the job first")
        held = HeldJob(records, claim.job, claim.token)
        yield held
        await records.cancel(held.job.id)
