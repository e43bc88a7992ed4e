"""Where the jobs of IngestService begin: one record each, and a message to the workers."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TypeAlias

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import ConvertRequest, IngestRequest
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.errors import Failure
from ingot_server.jobs.lifecycle import is_conversion
from ingot_server.jobs.outcomes import Creation
from ingot_server.jobs.queue import Queue
from ingot_server.jobs.records import Records
from ingot_server.library.recipes import single_flight_key

Request: TypeAlias = IngestRequest | ConvertRequest
"""Either has labels, a priority, a request_id, and a URL to ingest."""


class Admission:
    """Makes jobs, at most one for each `request_id`.

    Each method that takes a request answers with the earlier job of its `request_id`, and raises
    Failure with REQUEST_ID_REUSED where that was asked for by another request.
    """

    def __init__(self, records: Records, queue: Queue) -> None:
        self._records = records
        self._queue = queue
        self._admitting: set[asyncio.Task[Job]] = set()

    async def close(self) -> None:
        """Waits for the jobs that are being made, also for callers who hung up."""
        if self._admitting:
            await asyncio.wait(self._admitting)

    async def earlier(self, request: Request) -> Job | None:
        """The job that an earlier call with the same request_id got, however it ended."""
        if not request.request_id:
            return None
        return await self._records.requested(request.request_id, _fingerprint(request))

    async def admit(self, job: Job, request: Request) -> Job:
        """Makes the job and hands it to the workers, also when its first caller hangs up midway.

        What is returned is the job that is under way for the same media, where there is one.
        """
        job.state = job_pb2.JOB_STATE_QUEUED
        admitting = asyncio.create_task(self._enqueue(job, request))
        self._admitting.add(admitting)
        admitting.add_done_callback(self._admitted)
        return await asyncio.shield(admitting)

    async def end_cached(self, job: Job, stored: Media, request: Request) -> Job:
        """A job that has ended with what is stored."""
        job.state = job_pb2.JOB_STATE_SUCCEEDED
        job.cached = True
        job.media.CopyFrom(stored)
        return (await self._create(job, request)).job

    async def _create(self, job: Job, request: Request) -> Creation:
        return await self._records.create(
            job,
            request_id=request.request_id,
            fingerprint=_fingerprint(request) if request.request_id else "",
            single_flight_key=single_flight_key(job),
        )

    async def _enqueue(self, job: Job, request: Request) -> Job:
        creation = await self._create(job, request)
        job = creation.job
        if creation.is_new:
            try:
                await self._queue.send(job.id, request.priority, conversion=is_conversion(job))
            except Failure as failure:
                await self._records.fail_unqueued(job.id, failure)
                raise
        return job

    def _admitted(self, admitting: asyncio.Task[Job]) -> None:
        self._admitting.discard(admitting)
        # Looked at, or asyncio complains when the caller is gone; the job's record has it too.
        _ = admitting.cancelled() or admitting.exception()


def _fingerprint(request: Request) -> str:
    """What makes two requests the same: all of them but the request_id."""
    compared = type(request)()
    compared.MergeFrom(request)  # type: ignore[arg-type]
    compared.ClearField("request_id")
    kind = compared.DESCRIPTOR.name.encode()
    return hashlib.sha256(kind + compared.SerializeToString(deterministic=True)).hexdigest()
