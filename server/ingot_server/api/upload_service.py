"""The upload methods of IngestService: bytes go into the bucket, then a job makes media of them.

An API server holds only the parts of an upload that are on their way, so any server can continue an
upload. `library/uploads.py` says where the bytes are.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from itertools import islice
from typing import Final

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import (
    CompleteUploadRequest,
    CompleteUploadResponse,
    CreateUploadUrlRequest,
    CreateUploadUrlResponse,
    QueryUploadRequest,
    QueryUploadResponse,
    UploadRequest,
    UploadResponse,
)
from ingot_server.api.admission import Admission
from ingot_server.api.caller import CALLER
from ingot_server.api.received_uploads import count_daily_bytes, require_bytes
from ingot_server.api.status import invalid
from ingot_server.api.upload_jobs import UploadJobs
from ingot_server.api.upload_links import UploadLinks
from ingot_server.api.upload_request import (
    check_size,
    checked,
    last_header,
    merged,
)
from ingot_server.api.webhook_requests import check_webhook
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.intake import Intake
from ingot_server.jobs.daily_bytes import DailyBytes
from ingot_server.jobs.open_links import OpenLinks
from ingot_server.jobs.stored_bytes import StoredBytes
from ingot_server.library.catalog import Catalog
from ingot_server.library.upload_ids import sent_upload_id
from ingot_server.library.upload_parts import linked_bytes, stored_ranges
from ingot_server.library.uploads import (
    Uploads,
    UploadStatus,
    UploadWriter,
    offset_mismatch,
    upload_not_found,
)
from ingot_server.metrics.definitions import RECEIVED_BYTES

_MOST_RANGES: Final = 10_000

_flushing: Final[set[asyncio.Task[None]]] = set()


class UploadMethods:
    """What IngestService does with uploads."""

    def __init__(
        self,
        catalog: Catalog,
        uploads: Uploads,
        intake: Intake,
        admission: Admission,
        open_links: OpenLinks,
        daily_bytes: DailyBytes,
        stored_bytes: StoredBytes,
        settings: Settings,
    ) -> None:
        self._uploads = uploads
        self._open_links = open_links
        self._jobs = UploadJobs(catalog, uploads, intake, admission)
        self._daily_bytes = daily_bytes
        self._stored_bytes = stored_bytes
        self._links = UploadLinks(
            uploads, self._jobs, open_links, daily_bytes, stored_bytes, settings
        )
        self._settings = settings

    async def upload(self, requests: AsyncIterator[UploadRequest]) -> UploadResponse:
        first = await anext(requests, None)
        if first is None or not first.HasField("header"):
            raise invalid({"header": "must be the first message of an upload"})
        check_webhook(first.header, self._settings)
        header = checked(first.header, at="header.")
        header.upload_id = CALLER.get().own_upload_id(header.upload_id)
        check_size(header.size_bytes, self._settings)
        if (job := await self._jobs.that_serves(header, first.header)) is not None:
            return UploadResponse(job=job)
        await require_bytes(self._daily_bytes, self._stored_bytes)
        header.upload_id = header.upload_id or CALLER.get().own_upload_id(secrets.token_hex(16))
        status = await self._uploads.begin(header.upload_id, header)
        header = merged(status.header, header)
        size = await self._receive(requests, header.upload_id, status, header.size_bytes)
        if not size:
            await self._uploads.remove(header.upload_id)
            raise _empty()
        if size < header.size_bytes:
            raise Failure(
                reason_pb2.REASON_TRUNCATED,
                f"Only {size} of the announced {header.size_bytes} bytes arrived. Continue the "
                f"upload {sent_upload_id(header.upload_id)} at byte {size}.",
                metadata={"committed_size": str(size)},
            )
        header.size_bytes = size
        job = await self._jobs.of_complete(header, first.header, stored=status.header)
        await count_daily_bytes(self._daily_bytes, linked_bytes(status.parts))
        return UploadResponse(job=job)

    async def query_upload(self, request: QueryUploadRequest) -> QueryUploadResponse:
        caller = CALLER.get()
        upload_id = caller.stored_upload_id(request.upload_id, request.owner or caller.name)
        job = await self._jobs.of_upload(upload_id)
        status = await self._uploads.status(upload_id)
        if job is None and status is None:
            raise upload_not_found(upload_id)
        response = QueryUploadResponse(job=job)
        if status is not None:
            response.committed_size = status.committed_size
            response.expire_time.FromDatetime(status.expire_time)
            for each in islice(stored_ranges(status.parts), _MOST_RANGES):
                response.ranges.add(offset=each.start, size_bytes=len(each))
        if job is not None and job.state == job_pb2.JOB_STATE_SUCCEEDED:
            response.committed_size = job.media.blob.size_bytes
        return response

    async def create_upload_url(self, request: CreateUploadUrlRequest) -> CreateUploadUrlResponse:
        return await self._links.create(request)

    async def complete_upload(self, request: CompleteUploadRequest) -> CompleteUploadResponse:
        check_webhook(request, self._settings)
        upload_id = CALLER.get().own_upload_id(request.upload_id)
        later = last_header(request, upload_id)
        if (earlier := await self._jobs.earlier(request)) is not None:
            return CompleteUploadResponse(job=earlier)
        if (job := await self._jobs.of_upload(upload_id)) is not None:
            return CompleteUploadResponse(job=job)
        status = await self._uploads.status(upload_id)
        if status is None:
            raise upload_not_found(upload_id)
        header = merged(status.header, later)
        size = status.committed_size
        if status.misfits:
            # A server without keys takes any size.
            await self._uploads.remove_misfits(upload_id, status)
        if size < header.size_bytes:
            raise offset_mismatch(upload_id, size)
        if not size:
            raise _empty()
        header.size_bytes = size
        job = await self._jobs.of_complete(header, request, stored=status.header)
        await self._open_links.close(CALLER.get().key, upload_id)
        await count_daily_bytes(self._daily_bytes, linked_bytes(status.parts))
        return CompleteUploadResponse(job=job)

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
                data = chunk.data  # each access copies it
                if (size := writer.offset + len(data)) > limit:
                    await writer.discard()
                    await self._uploads.remove(upload_id)
                    check_size(size, self._settings)
                    raise Failure(
                        reason_pb2.REASON_CHECKSUM_MISMATCH,
                        f"More than the announced {announced} bytes arrived. Upload the file "
                        "again under another upload id.",
                    )
                if data:
                    await writer.write(data)
        except asyncio.CancelledError:
            # The bytes that arrived before the connection broke need not be sent again.
            _flush_later(writer)
            raise
        except Failure as failure:
            if failure.reason == reason_pb2.REASON_TRUNCATED:
                _flush_later(writer)
            raise
        finally:
            received = writer.offset - status.committed_size
            RECEIVED_BYTES.add("upload", amount=received)
            await count_daily_bytes(self._daily_bytes, received)
        await writer.flush()
        return writer.offset


def _flush_later(writer: UploadWriter) -> None:
    task = asyncio.create_task(writer.flush())
    _flushing.add(task)
    task.add_done_callback(_flushing.discard)
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())


def _empty() -> Failure:
    return Failure(reason_pb2.REASON_NOT_MEDIA, "The upload is empty. Send the bytes of the file.")
