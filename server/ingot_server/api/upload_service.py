"""The upload methods of IngestService: bytes go into the bucket, then a job makes media of them.

An API server holds only the parts of an upload that are on their way, so any server can continue an
upload. `library/uploads.py` says where the bytes are.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import (
    CompleteUploadRequest,
    CompleteUploadResponse,
    CreateUploadUrlRequest,
    CreateUploadUrlResponse,
    IngestRequest,
    QueryUploadRequest,
    QueryUploadResponse,
    UploadHeader,
    UploadRequest,
    UploadResponse,
)
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Selection
from ingot_server.api.admission import Admission
from ingot_server.api.status import check, invalid
from ingot_server.config import Settings
from ingot_server.errors import Failure, too_large
from ingot_server.intake import already_stored
from ingot_server.jobs.display_name import shortened
from ingot_server.library.catalog import Catalog
from ingot_server.library.identity import canonical_selection, media_id
from ingot_server.library.uploads import (
    Uploads,
    UploadStatus,
    UploadWriter,
    offset_mismatch,
    upload_not_found,
)
from ingot_server.sources.upload import UploadSource, content_key, upload_key, upload_url

DEFAULT_LIFETIME: Final = timedelta(hours=1)

_ANY_SELECTION: Final = canonical_selection(Selection())

_flushing: Final[set[asyncio.Task[None]]] = set()


class UploadMethods:
    """What IngestService does with uploads."""

    def __init__(
        self, catalog: Catalog, uploads: Uploads, admission: Admission, settings: Settings
    ) -> None:
        self._catalog = catalog
        self._uploads = uploads
        self._admission = admission
        self._settings = settings

    async def upload(self, requests: AsyncIterator[UploadRequest]) -> UploadResponse:
        first = await anext(requests, None)
        if first is None or not first.HasField("header"):
            raise invalid({"header": "must be the first message of an upload"})
        header = first.header
        self._check_size(header.size_bytes)
        if (cached := await self._cached(header)) is not None:
            return UploadResponse(job=cached)
        header.upload_id = header.upload_id or secrets.token_hex(16)
        status = await self._uploads.begin(header.upload_id, header)
        announced = header.size_bytes or status.header.size_bytes
        size = await self._receive(requests, header.upload_id, status, announced)
        if not size:
            await self._uploads.remove(header.upload_id)
            raise _empty()
        if size < announced:
            raise Failure(
                reason_pb2.REASON_TRUNCATED,
                f"Only {size} of the announced {announced} bytes arrived. Continue the upload "
                f"{header.upload_id} at byte {size}.",
                metadata={"committed_size": str(size)},
            )
        header.sha256 = header.sha256 or status.header.sha256
        return UploadResponse(job=await self._ingest(header))

    async def query_upload(self, request: QueryUploadRequest) -> QueryUploadResponse:
        status = await self._status(request.upload_id)
        response = QueryUploadResponse(committed_size=status.committed_size)
        response.expire_time.FromDatetime(status.expire_time)
        return response

    async def create_upload_url(self, request: CreateUploadUrlRequest) -> CreateUploadUrlResponse:
        lifetime = (
            request.lifetime.ToTimedelta() if request.HasField("lifetime") else DEFAULT_LIFETIME
        )
        # The upload itself expires after upload_ttl.
        lifetime = min(lifetime, self._settings.upload_ttl)
        upload_id = secrets.token_hex(16)
        await self._uploads.begin(
            upload_id, UploadHeader(upload_id=upload_id, filename=request.filename)
        )
        response = CreateUploadUrlResponse(upload_id=upload_id)
        response.url = await self._uploads.signed_put_url(upload_id, lifetime)
        response.expire_time.FromDatetime(datetime.now(UTC) + lifetime)
        return response

    async def complete_upload(self, request: CompleteUploadRequest) -> CompleteUploadResponse:
        status = await self._status(request.upload_id)
        size = status.committed_size
        if not size:
            raise _empty()
        header = status.header
        if size < header.size_bytes:
            raise offset_mismatch(request.upload_id, size)
        try:
            self._check_size(size)
        except Failure:
            await self._uploads.remove(request.upload_id)
            raise
        header.sha256 = request.sha256 or header.sha256
        header.labels.update(request.labels)
        check(header)
        await self._uploads.replace_header(request.upload_id, header)
        return CompleteUploadResponse(job=await self._ingest(header))

    async def _receive(
        self,
        requests: AsyncIterator[UploadRequest],
        upload_id: str,
        status: UploadStatus,
        announced: int,
    ) -> int:
        """Store the chunks until the stream ends. Return how many bytes are stored then."""
        writer = UploadWriter(self._uploads, upload_id, status.committed_size)
        limit = announced or self._settings.max_media_size
        try:
            async for request in requests:
                if not request.HasField("chunk"):
                    raise invalid({"header": "must be in the first message only"})
                chunk = request.chunk
                if chunk.offset != writer.offset:
                    await writer.flush()
                    raise offset_mismatch(upload_id, writer.offset)
                if (size := writer.offset + len(chunk.data)) > limit:
                    await writer.discard()
                    await self._uploads.remove(upload_id)
                    self._check_size(size)
                    raise Failure(
                        reason_pb2.REASON_CHECKSUM_MISMATCH,
                        f"More than the announced {announced} bytes arrived. Upload the file "
                        "again under another upload id.",
                    )
                if chunk.data:
                    await writer.write(chunk.data)
        except asyncio.CancelledError:
            # The bytes that arrived before the connection broke need not be sent again.
            _flush_later(writer)
            raise
        except Failure as failure:
            if failure.reason == reason_pb2.REASON_TRUNCATED:
                _flush_later(writer)
            raise
        await writer.flush()
        return writer.offset

    async def _status(self, upload_id: str) -> UploadStatus:
        status = await self._uploads.status(upload_id)
        if status is None:
            raise upload_not_found(upload_id)
        return status

    async def _cached(self, header: UploadHeader) -> Job | None:
        """Return an ended job if the caller announced content that is already stored."""
        if not header.sha256:
            return None
        job = _job(header)
        stored = await self._catalog.get(job.media.id)
        if stored is None:
            return None
        return await self._admission.record(already_stored(job, stored.media).job, IngestRequest())

    async def _ingest(self, header: UploadHeader) -> Job:
        return await self._admission.admit(_job(header), IngestRequest())

    def _check_size(self, size: int) -> None:
        limit = int(self._settings.max_media_size)
        if size > limit:
            raise too_large(limit, size)


def _flush_later(writer: UploadWriter) -> None:
    task = asyncio.create_task(writer.flush())
    _flushing.add(task)
    task.add_done_callback(_flushing.discard)
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())


def _job(header: UploadHeader) -> Job:
    """Return the job of an upload. Until its SHA-256 is known, the upload's id names its media."""
    key = content_key(header.sha256) if header.sha256 else upload_key(header.upload_id)
    job = Job(
        kind=job_pb2.JOB_KIND_INGEST,
        priority=job_pb2.JOB_PRIORITY_NORMAL,
        url=upload_url(header.upload_id),
        display_name=shortened(header.filename) or upload_url(header.upload_id),
        labels=header.labels,
        selection=_ANY_SELECTION,
    )
    job.media.id = media_id(key, _ANY_SELECTION)
    job.media.source.name = UploadSource.name
    if header.sha256:
        job.media.url = job.media.source.page_url = job.media.source.key = key
    job.media.selection.CopyFrom(_ANY_SELECTION)
    return job


def _empty() -> Failure:
    return Failure(reason_pb2.REASON_NOT_MEDIA, "The upload is empty. Send the bytes of the file.")
