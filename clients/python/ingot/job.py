"""The handle of a job: iterate over it to watch the job, await it to get the media."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import grpc
from google.rpc.status_pb2 import Status

from ingot.connection import Connection
from ingot.enums import name_of
from ingot.errors import IngotError, JobCancelled, from_status
from ingot.v1.job_pb2 import Job, JobState
from ingot.v1.job_service_pb2 import CancelJobRequest, WatchJobRequest
from ingot.v1.media_pb2 import Media

ENDED: Final = frozenset(
    {JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED}
)


@dataclass(frozen=True, slots=True)
class RemovedJob:
    """A job whose record has expired, as `Client.watch_jobs` yields it."""

    id: str


class IngestJob:
    """The handle of a job; `latest` is the last state of the job that was received.

    `async for update in job` yields the current state of the job and then every change; the last
    update is how the job ended. After a lost connection, watching continues where it stopped.
    `media = await job` waits for the end in the same way. A job that has ended needs no call. Any
    number of tasks may iterate over and await the same handle, repeatedly.
    """

    def __init__(self, connection: Connection, job: Job) -> None:
        self._connection = connection
        self.latest = job

    def __repr__(self) -> str:
        return f"IngestJob({self.id}, {name_of(JobState, self.latest.state)})"

    def _repr_html_(self) -> str:
        from ingot.notebook import job_html  # only notebooks need it

        return job_html(self.latest, self.error())

    @property
    def id(self) -> str:
        return self.latest.id

    @property
    def done(self) -> bool:
        """Whether the job has ended in any way, according to `latest`."""
        return self.latest.state in ENDED

    @property
    def conversions(self) -> Sequence[Media]:
        """The results of the recipes of an ingest, in the order of `latest.recipes`.

        A recipe that was given twice has one result. Empty until the job ends, and for a job of
        `convert`, whose result is the media of the job itself.
        """
        return self.latest.conversions

    async def __aiter__(self) -> AsyncGenerator[Job, None]:
        last = self.latest
        yield last
        if last.state in ENDED:
            return

        request = WatchJobRequest(job_id=self.id)
        watch = self._connection.watch(self._connection.jobs.WatchJob, request)
        async with aclosing(watch):
            async for response in watch:
                if version(response.job) <= version(last):
                    continue
                last = response.job
                self._update_latest(last)
                yield last
                if last.state in ENDED:
                    return

    def __await__(self) -> Generator[object, None, Media]:
        return self._wait_for_media().__await__()

    async def cancel(self) -> Job:
        """Cancel the job for all its callers, and return how it ended.

        A job that ended before it could be cancelled is returned as it ended.
        """
        response = await self._connection.call(
            self._connection.jobs.CancelJob, CancelJobRequest(job_id=self.id)
        )
        self._update_latest(response.job)
        return response.job

    def error(self) -> IngotError | None:
        """Return why the job failed or was cancelled; None if it was not."""
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

    async def _wait_for_media(self) -> Media:
        async with aclosing(self.__aiter__()) as updates:
            async for _ in updates:
                pass
        error = self.error()
        if error is not None:
            raise error
        return self.latest.media

    def _update_latest(self, job: Job) -> None:
        # Tasks that watch the same job may be at different versions.
        if version(job) > version(self.latest):
            self.latest = job


def version(job: Job) -> tuple[int, int]:
    """Return what grows with every change of a job."""
    return job.epoch, job.revision
