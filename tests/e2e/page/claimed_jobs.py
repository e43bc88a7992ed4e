"""Jobs that run without a worker: a test claims them, and reports their progress."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.config import Settings
from ingot_server.jobs.changes import entered
from ingot_server.jobs.records import Records
from ingot_server.redis import connect
from tests.installation import Installation

SIZE_BYTES = 1_000_000
AT_ONCE = 50


class ClaimedJobs:
    """Jobs of an installation that run as long as the test wants; made by `claimed_jobs`."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._held: list[tuple[Job, str]] = []

    async def start(self, count: int, title: str) -> None:
        """Create jobs, whose titles begin with `title`, and claim them."""
        ids = [await self._create(f"{title} {number}") for number in range(count)]
        for first in range(0, count, AT_ONCE):
            claims = map(self._records.claim, ids[first : first + AT_ONCE])
            for claim in await asyncio.gather(*claims):
                assert claim is not None
                entered(job_pb2.JOB_STAGE_DOWNLOADING)(claim.job)
                self._held.append((claim.job, claim.token))

    async def _create(self, title: str) -> str:
        media = Media(id=uuid.uuid4().hex, title=title)
        media.source.name = "http"
        job = Job(kind=job_pb2.JOB_KIND_INGEST, media=media, display_name=title)
        return (await self._records.create(job)).job.id

    async def advance(self, done_bytes: int) -> None:
        """Report of all jobs that so much of SIZE_BYTES is done."""
        for first in range(0, len(self._held), AT_ONCE):
            held = self._held[first : first + AT_ONCE]
            await asyncio.gather(*(self._report(*each, done_bytes) for each in held))

    async def _report(self, job: Job, token: str, done_bytes: int) -> None:
        measured = job.progress.stage
        measured.bytes_done = done_bytes
        measured.bytes_total = SIZE_BYTES
        measured.bytes_per_second = 1000
        await self._records.write(job, token)

    async def cancel(self) -> None:
        for first in range(0, len(self._held), AT_ONCE):
            held = self._held[first : first + AT_ONCE]
            await asyncio.gather(*(self._records.cancel(job.id) for job, _ in held))


@asynccontextmanager
async def claimed_jobs(ingot: Installation) -> AsyncIterator[ClaimedJobs]:
    # They report when the test wants, not four times within each lease.
    settings = Settings(redis_url=ingot.redis_url, lease=timedelta(minutes=10))
    redis = connect(settings)
    jobs = ClaimedJobs(Records(redis, settings))
    try:
        yield jobs
        await jobs.cancel()
    finally:
        await redis.aclose()
