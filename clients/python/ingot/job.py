"""A job in hand: iterate over it to watch, await it for its media."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing
from typing import Final

import grpc
from google.rpc.status_pb2 import Status

from ingot.connection import Connection
from ingot.errors import IngotError, JobCancelled, from_status
from ingot.v1.job_pb2 import Job, JobState
from ingot.v1.job_service_pb2 import CancelJobRequest, WatchJobRequest
from ingot.v1.media_pb2 import Media

ENDED: Final = frozenset(
    {JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED}
)


class IngestJob:
    """A job as it was last seen.

    `async for update in job` yields the job as it stands, then every later state, ending with the
    last one. A lost connection is taken up again after the revision that was seen last.
    `media = await job` waits for the end the same way. A job that has ended is answered without a
    call. Both may be done as often, and by as many tasks, as wanted.
    """

    def __init__(self, connection: Connection, job: Job) -> None:
        self._connection = connection
        self.latest = job

    def __repr__(self) -> str:
        return f"IngestJob({self.id}, {JobState.Name(self.latest.state)})"

    @property
    def id(self) -> str:
        return self.latest.id

    @property
    def done(self) -> bool:
        """Whether the job has ended, well or not, as far as is known here."""
        return self.latest.state in ENDED

    @property
    def conversions(self) -> Sequence[Media]:
        """What an ingest with recipes made, as `latest.recipes` are ordered; empty before the end.

        A recipe that was given twice is there once. Empty also for a conversion, whose media is
        what was made.
        """
        return self.latest.conversions

    async def __aiter__(self) -> AsyncGenerator[Job, None]:
        seen = self.latest
        yield seen
        if seen.state in ENDED:
            return

        def request() -> WatchJobRequest:
            return WatchJobRequest(job_id=self.id, after_revision=seen.revision)

        stream = self._connection.stream(self._connection.jobs.WatchJob, request)
        async with aclosing(stream):
            async for response in stream:
                if response.job.revision <= seen.revision:
                    continue
                seen = response.job
                self._see(seen)
                yield seen
                if seen.state in ENDED:
                    return

    def __await__(self) -> Generator[object, None, Media]:
        return self._result().__await__()

    async def cancel(self) -> Job:
        """Stops the job for all its callers; answers with it as it ended, perhaps not CANCELLED."""
        response = await self._connection.call(
            self._connection.jobs.CancelJob, CancelJobRequest(job_id=self.id)
        )
        self._see(response.job)
        return response.job

    def error(self) -> IngotError | None:
        """Why the job ended without a media; None when it did not."""
        if self.latest.state == JobState.JOB_STATE_FAILED:
            return from_status(self.latest.error)
        if self.latest.state == JobState.JOB_STATE_CANCELLED:
            message = self.latest.error.message or "The job was cancelled."
            code = grpc.StatusCode.CANCELLED.value[0]
            status = self.latest.error if self.latest.HasField("error") else None
            return JobCancelled(
                message, reason="CANCELLED", status=status or Status(code=code, message=message)
            )
        return None

    async def _result(self) -> Media:
        async with aclosing(self.__aiter__()) as updates:
            async for _ in updates:
                pass
        error = self.error()
        if error is not None:
            raise error
        return self.latest.media

    def _see(self, job: Job) -> None:
        # Two tasks may watch at different speeds.
        if job.revision > self.latest.revision:
            self.latest = job
