"""The handle of a job: iterate over it to watch the job, await it to get the media."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import grpc
from google.rpc.status_pb2 import Status

from ingot.connection import Connection
from ingot.enums import name_of
from ingot.errors import IngotError, JobCancelled, JobNotFound, from_status
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

    If the server has lost the job, which it never should, the handle of an ingest or a conversion
    sends the request again, once, and goes on with the job that it gets.
    """

    def __init__(
        self,
        connection: Connection,
        job: Job,
        request_again: Callable[[], Awaitable[Job]] | None = None,
    ) -> None:
        self._connection = connection
        self._request_again = request_again
        self._requesting = asyncio.Lock()
        self._replaced = 0
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
        while True:
            replaced, last = self._replaced, self.latest
            yield last
            if last.state in ENDED:
                return
            try:
                async with aclosing(self._watch(last)) as updates:
                    async for update in updates:
                        self._update_latest(update)
                        yield update
                        if update.state in ENDED:
                            return
            except JobNotFound:
                await self._replace(replaced)
                if self._replaced == replaced:
                    raise

    async def _watch(self, last: Job) -> AsyncGenerator[Job, None]:
        """Yield the states of a job that come after `last`."""
        request = WatchJobRequest(job_id=last.id)
        watch = self._connection.watch(self._connection.jobs.WatchJob, request)
        async with aclosing(watch):
            async for response in watch:
                if version(response.job) > version(last):
                    last = response.job
                    yield last

    async def _replace(self, replaced: int) -> None:
        """Request the job again, unless another task has done so since `replaced`."""
        async with self._requesting:
            if self._replaced == replaced and self._request_again is not None:
                request_again, self._request_again = self._request_again, None
                self.latest = await request_again()
                self._replaced += 1

    def __await__(self) -> Generator[object, None, Media]:
        return self._wait_for_media().__await__()

    async def cancel(self) -> Job:
        """Cancel the job, and return how it ended.

        A job that ended before it could be cancelled is returned as it ended. One that another
        caller wants goes on, and is returned as it is.
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
        if job.id == self.latest.id and version(job) > version(self.latest):
            self.latest = job


def version(job: Job) -> tuple[int, int]:
    """Return what grows with every change of a job."""
    return job.epoch, job.revision
