"""The jobs of uploads, made by the same decision as those of URLs."""

from __future__ import annotations

from ingot.v1.ingest_service_pb2 import UploadHeader
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Selection
from ingot_server.api.admission import Admission, Request
from ingot_server.api.cached_jobs import job_of
from ingot_server.api.retries import FAILED
from ingot_server.api.upload_request import draft
from ingot_server.drafts import identified
from ingot_server.intake import Intake
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.library.catalog import Catalog
from ingot_server.library.uploads import Uploads, check_same_file
from ingot_server.sources.upload import upload_url


class UploadJobs:
    """Finds and creates the jobs of uploads, which go by their stored ids (upload_ids.py)."""

    def __init__(
        self, catalog: Catalog, uploads: Uploads, intake: Intake, admission: Admission
    ) -> None:
        self._catalog = catalog
        self._uploads = uploads
        self._intake = intake
        self._admission = admission

    async def earlier(self, request: Request) -> Job | None:
        """Return the job that an earlier call with the same request_id got, however it ended."""
        return await self._admission.earlier(request)

    async def of_upload(self, upload_id: str) -> Job | None:
        """Return the last job of an upload, however it ended; None if it has no record."""
        return await self._admission.of_upload(upload_id)

    async def that_serves(self, header: UploadHeader, request: Request) -> Job | None:
        """Return the job for a file whose bytes are not needed; None if they are.

        That is the job of an earlier call, or the one that the upload has. Raises Failure
        INVALID_REQUEST if that one is about another file. Content that is stored already has to be
        sent all the same: its SHA-256 alone must neither give it to a caller nor tell of it.
        """
        job = await self.earlier(request)
        if job is not None or not header.upload_id:
            return job
        job = await self.of_upload(header.upload_id)
        if job is None or job.state in FAILED:
            return None
        stored = None if has_ended(job) else await self._uploads.header(header.upload_id)
        check_same_file(header.upload_id, header, stored or job.media.blob)
        if has_ended(job) and await self._catalog.get(job.media.id) is None:
            # The media item was deleted, so the file is wanted again.
            await self._admission.forget_upload(header.upload_id)
            return None
        return job

    async def of_complete(
        self, header: UploadHeader, request: Request, *, stored: UploadHeader
    ) -> Job:
        """Return the job of an upload whose bytes have all arrived; `header` has their number.

        `stored` is the header that the upload has now. Raises the Failure of a refusal.
        """
        upload_id = header.upload_id
        if header != stored:
            await self._uploads.replace_header(upload_id, header)
        resolved_url = self._intake.resolve(upload_url(upload_id), Selection(), header.options)
        decision = await self._intake.decide(resolved_url, identified(draft(header), resolved_url))
        job = job_of(await self._admission.carry_out(decision, request, upload_id=upload_id))
        if has_ended(job):
            await self._uploads.remove(upload_id)
        return job
