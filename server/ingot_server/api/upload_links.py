"""Signed links for the parts of an upload, which browsers send to the S3 server themselves."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final

from ingot.v1.ingest_service_pb2 import (
    CreateUploadUrlRequest,
    CreateUploadUrlResponse,
    UploadHeader,
)
from ingot.v1.job_pb2 import Job
from ingot_server.api.caller import CALLER
from ingot_server.api.received_uploads import require_bytes
from ingot_server.api.status import invalid
from ingot_server.api.upload_jobs import UploadJobs
from ingot_server.api.upload_request import check_continues, check_size, first_header, part_size
from ingot_server.config import Settings
from ingot_server.jobs.daily_bytes import DailyBytes
from ingot_server.jobs.open_links import OpenLinks
from ingot_server.jobs.records import request_id_reused
from ingot_server.jobs.stored_bytes import StoredBytes
from ingot_server.library.upload_ids import sent_upload_id
from ingot_server.library.uploads import Uploads, upload_not_found

DEFAULT_LIFETIME: Final = timedelta(hours=1)


class UploadLinks:
    """Begins and continues uploads by signed links."""

    def __init__(
        self,
        uploads: Uploads,
        jobs: UploadJobs,
        open_links: OpenLinks,
        daily_bytes: DailyBytes,
        stored_bytes: StoredBytes,
        settings: Settings,
    ) -> None:
        self._uploads = uploads
        self._open_links = open_links
        self._daily_bytes = daily_bytes
        self._stored_bytes = stored_bytes
        self._jobs = jobs
        self._settings = settings

    async def create(self, request: CreateUploadUrlRequest) -> CreateUploadUrlResponse:
        """Return a link for one part, or the job of an upload that needs no more bytes."""
        if request.upload_id:
            return await self._continue(request, CALLER.get().own_upload_id(request.upload_id))
        return await self._begin(request, _new_upload_id(request))

    async def _begin(
        self, request: CreateUploadUrlRequest, upload_id: str
    ) -> CreateUploadUrlResponse:
        header = first_header(request, upload_id)
        check_size(header.size_bytes, self._settings)
        part_size(request, header.size_bytes)
        job = await self._jobs.earlier(request)
        if job is None and request.request_id:
            job = await self._jobs.of_upload(upload_id)
        if job is not None:
            return _complete(upload_id, job)
        existing = await self._uploads.create(upload_id, header)
        if existing != header:
            raise request_id_reused(request.request_id)
        return await self._signed(request, header)

    async def _continue(
        self, request: CreateUploadUrlRequest, upload_id: str
    ) -> CreateUploadUrlResponse:
        check_continues(request)
        if (job := await self._jobs.of_upload(upload_id)) is not None:
            return _complete(upload_id, job)
        header = await self._uploads.header(upload_id)
        if header is None:
            raise upload_not_found(upload_id)
        if not header.size_bytes:
            raise invalid(
                {"upload_id": "names an upload that began without a size; continue it by Upload"}
            )
        return await self._signed(request, header)

    async def _signed(
        self, request: CreateUploadUrlRequest, header: UploadHeader
    ) -> CreateUploadUrlResponse:
        await require_bytes(self._daily_bytes, self._stored_bytes)
        size = part_size(request, header.size_bytes)
        lifetime = (
            request.lifetime.ToTimedelta() if request.HasField("lifetime") else DEFAULT_LIFETIME
        )
        # The upload itself expires after upload_ttl.
        lifetime = min(lifetime, self._settings.upload_ttl)
        caller = CALLER.get()
        await self._open_links.add(
            caller.key,
            header.upload_id,
            request.offset,
            size,
            lifetime=lifetime,
            most=caller.limits.upload_links,
        )
        response = CreateUploadUrlResponse(
            upload_id=sent_upload_id(header.upload_id),
            offset=request.offset,
            part_size_bytes=size,
        )
        response.url = await self._uploads.part_url(
            header.upload_id, request.offset, size, lifetime=lifetime
        )
        response.expire_time.FromDatetime(datetime.now(UTC) + lifetime)
        return response


def _complete(upload_id: str, job: Job) -> CreateUploadUrlResponse:
    return CreateUploadUrlResponse(upload_id=sent_upload_id(upload_id), job=job)


def _new_upload_id(request: CreateUploadUrlRequest) -> str:
    """Return the stored id of a new upload: the same for one request_id, so that it is found."""
    caller = CALLER.get()
    if not request.request_id:
        return caller.own_upload_id(secrets.token_hex(16))
    request_id = caller.own_request_id(request.request_id)
    digest = hashlib.sha256(f"CreateUploadUrl\n{request_id}".encode()).hexdigest()
    return caller.own_upload_id(digest[:32])
