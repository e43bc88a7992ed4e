"""The handle of a job for code without asyncio: iterate over it, or wait for its result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ingot.errors import IngotError
from ingot.job import IngestJob
from ingot.loop_thread import LoopThread
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media


class SyncIngestJob:
    """The handle of a job, as `SyncClient` returns it.

    `for update in job` yields the current state of the job and then every change; `job.result()`
    waits for the end and returns the media. Otherwise it is like IngestJob.
    """

    def __init__(self, thread: LoopThread, job: IngestJob) -> None:
        self._thread = thread
        self._job = job

    def __repr__(self) -> str:
        return f"Sync{self._job!r}"

    def _repr_html_(self) -> str:
        from ingot.notebook import job_html  # only notebooks need it

        return job_html(self.latest, self.error())

    @property
    def id(self) -> str:
        return self._job.id

    @property
    def latest(self) -> Job:
        """The last state of the job that was received."""
        return self._job.latest

    @property
    def done(self) -> bool:
        """Whether the job has ended in any way, according to `latest`."""
        return self._job.done

    @property
    def conversions(self) -> Sequence[Media]:
        """The results of the recipes of an ingest, in their order; empty until the job ends."""
        return self._job.conversions

    def __iter__(self) -> Iterator[Job]:
        return self._thread.iterate(aiter(self._job))

    def result(self) -> Media:
        """Wait for the end of the job and return its media, or raise why it failed."""
        return self._thread.run(self._job)

    def cancel(self) -> Job:
        """Cancel the job, and return how it ended, or as it is if another caller wants it."""
        return self._thread.run(self._job.cancel())

    def error(self) -> IngotError | None:
        """Return why the job failed or was cancelled; None if it was not."""
        return self._job.error()
