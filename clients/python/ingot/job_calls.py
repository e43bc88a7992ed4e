"""The client's methods for jobs: read, list, watch, cancel, retry."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Final

from ingot.base_client import PAGE_SIZE, BaseClient
from ingot.connection import ConnectionCallback
from ingot.job import IngestJob, RemovedJob, version
from ingot.v1.job_pb2 import Job, JobKind, JobState
from ingot.v1.job_service_pb2 import (
    CancelJobRequest,
    GetJobRequest,
    ListJobsRequest,
    RetryJobRequest,
    SnapshotEnd,
    WatchJobsRequest,
)

# How many jobs watch_jobs remembers, so that it does not repeat updates after a lost connection.
_REMEMBERED_JOBS: Final = 10_000


class JobCalls(BaseClient):
    """The methods of the client for jobs."""

    async def job(self, job_id: str) -> IngestJob:
        """Return a handle of the job with this id. Raises JobNotFound."""
        connection = self._connection
        response = await connection.call(connection.jobs.GetJob, GetJobRequest(job_id=job_id))
        return IngestJob(connection, response.job)

    async def jobs(
        self,
        *,
        states: Iterable[JobState.ValueType] = (),
        kinds: Iterable[JobKind.ValueType] = (),
        source: str = "",
        parent_job_id: str = "",
        media_id: str = "",
        labels: Mapping[str, str] | None = None,
        text: str = "",
    ) -> AsyncGenerator[Job, None]:
        """Yield the jobs on record that match every argument, latest first.

        They are in one of `states`, of one of `kinds`, of the source with this name, children of
        this parent, about this media item, with all `labels`, and with `text` in their title,
        uploader or URL. An empty argument matches every job.
        """
        request = ListJobsRequest(
            page_size=PAGE_SIZE,
            states=states,
            kinds=kinds,
            source=source,
            parent_job_id=parent_job_id,
            media_id=media_id,
            labels=labels,
            text=text,
        )
        async for page in self._connection.pages(self._connection.jobs.ListJobs, request):
            for job in page.jobs:
                yield job

    async def watch_jobs(
        self,
        *,
        states: Iterable[JobState.ValueType] = (),
        kinds: Iterable[JobKind.ValueType] = (),
        source: str = "",
        parent_job_id: str = "",
        media_id: str = "",
        labels: Mapping[str, str] | None = None,
        text: str = "",
        snapshot_size: int = 0,
        connection_changed: ConnectionCallback | None = None,
    ) -> AsyncGenerator[Job | RemovedJob | SnapshotEnd, None]:
        """Yield all jobs that match every argument, then every change and removal, without end.

        The arguments are those of `jobs`. First come at most `snapshot_size` jobs that are on
        record, latest first, and SnapshotEnd; 0 means 1000. A job that stops matching is yielded
        one last time, and a RemovedJob when its record has expired. After a lost connection, what
        happened meanwhile is yielded; if that was too long, everything from the beginning, with
        another SnapshotEnd. `connection_changed` is called with False when the connection is lost,
        from when on what was yielded may be out of date, and with True when it is back.
        """
        request = WatchJobsRequest(
            states=states,
            kinds=kinds,
            source=source,
            parent_job_id=parent_job_id,
            media_id=media_id,
            labels=labels,
            text=text,
            snapshot_size=snapshot_size,
        )
        seen: OrderedDict[str, tuple[int, int]] = OrderedDict()
        watch = self._connection.watch(self._connection.jobs.WatchJobs, request, connection_changed)
        async with aclosing(watch):
            async for response in watch:
                if response.HasField("snapshot_end"):
                    yield response.snapshot_end
                    continue
                if response.removed_job_id:
                    seen.pop(response.removed_job_id, None)
                    yield RemovedJob(response.removed_job_id)
                    continue
                job = response.job
                if version(job) <= seen.get(job.id, (0, 0)):
                    continue
                seen[job.id] = version(job)
                seen.move_to_end(job.id)
                if len(seen) > _REMEMBERED_JOBS:
                    seen.popitem(last=False)
                yield job

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job, and return how it ended.

        A job that ended before it could be cancelled is returned as it ended. One that another
        caller wants goes on, and is returned as it is.
        """
        response = await self._connection.call(
            self._connection.jobs.CancelJob, CancelJobRequest(job_id=job_id)
        )
        return response.job

    async def retry(self, job_id: str, *, webhook_url: str = "") -> IngestJob:
        """Return a job like one that failed or was cancelled. Raises an error for any other job.

        `webhook_url` gets a signed request when the new job ends. That of the first job is not used
        again.
        """
        request = RetryJobRequest(
            job_id=job_id, request_id=str(uuid.uuid4()), webhook_url=webhook_url
        )
        response = await self._connection.call(self._connection.jobs.RetryJob, request)
        return IngestJob(self._connection, response.job)
