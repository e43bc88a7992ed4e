"""The files that are in a bucket already: uploads, and objects that are adopted.

    upload    parts -> scratch, hashed -> the id of its content -> stored already?
              -> landing -> the parts are removed
    object    copied into scratch, only to probe it -> landing; the object stays where it is

The name of an upload is its content, so a job that was not told the SHA-256 gets its identity only
when all bytes were read. Of several uploads with the same content, the bucket lets one manifest
stand.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import UploadHeader
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.intake import entity_tag, is_made_of
from ingot_server.jobs.changes import entered, identified_as
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.identity import media_id
from ingot_server.library.uploads import Uploads, upload_not_found
from ingot_server.log_events import Event
from ingot_server.pipeline.attempt import Attempt, NotAList, Stored, blob_stem
from ingot_server.pipeline.description import name_extension
from ingot_server.pipeline.landing import Landing
from ingot_server.pipeline.progress import Meter, downloading
from ingot_server.pipeline.received import Received
from ingot_server.pipeline.validation import check_size
from ingot_server.resolve import is_media_file
from ingot_server.sources.internal import parse
from ingot_server.sources.upload import content_identity, upload_id_of
from ingot_server.transfer.scratch import Scratch, ScratchFile
from ingot_server.transfer.streaming_upload import StreamingUpload

logger = EventLogger(__name__)


class BucketFetcher:
    """Ingests uploads and adopts objects. One object for each worker."""

    def __init__(
        self,
        landing: Landing,
        catalog: Catalog,
        blobs: Blobs,
        scratch: Scratch,
        settings: Settings,
    ) -> None:
        self._landing = landing
        self._catalog = catalog
        self._blobs = blobs
        self._scratch = scratch
        self._settings = settings
        self._uploads = Uploads(blobs, settings)

    async def ingest_upload(self, attempt: Attempt) -> Stored | NotAList:
        """Ingest the upload that the job's URL names.

        Raises Failure with the reason why not. Safe to repeat.
        """
        if attempt.lists_only:
            return NotAList()
        upload_id = upload_id_of(attempt.job.url)
        await attempt.lease.update(entered(job_pb2.JOB_STAGE_RESOLVING))
        try:
            result = await self._ingest_upload(attempt, upload_id)
        except Failure as failure:
            if failure.final or not failure.transient:
                # No other attempt, and no other call, can make a media item of these bytes.
                await self._remove_upload(upload_id)
            raise
        await self._remove_upload(upload_id)
        return result

    async def _ingest_upload(self, attempt: Attempt, upload_id: str) -> Stored:
        job = attempt.job
        status = await self._uploads.status(upload_id)
        if status is None:
            # A worker that was lost after its commit may have removed it.
            stored = await self._catalog.get(job.media.id)
            if stored is not None:
                return Stored(stored.media, cached=True)
            raise upload_not_found(upload_id)
        header = status.header
        if status.sha256:
            known_id = media_id(content_identity(status.sha256).key, job.selection)
            if (stored := await self._catalog.get(known_id)) is not None:
                return Stored(stored.media, cached=True)
        async with (
            self._scratch.open(job.id, job.attempt) as file,
            downloading(attempt.lease) as meter,
        ):
            content = self._uploads.read_content(upload_id, status)
            await self._copy(content, status.committed_size, file, meter)
            _check_content(header, file)
            if not status.sha256:
                # A call that is repeated from now on asks for the media item, and so joins this
                # job, which loses the identity of the upload in the next step.
                await self._uploads.prove(upload_id, file.sha256)
            return await self._land(attempt, file, header)

    async def _land(self, attempt: Attempt, file: ScratchFile, header: UploadHeader) -> Stored:
        """Give the job the identity of its content, and store that if it is not stored yet."""
        job = attempt.job
        identity = content_identity(file.sha256)
        target = media_id(identity.key, job.selection)
        if target != job.media.id:
            # If another job has it, both go on, and the second commit finds the first's manifest.
            await attempt.lease.adopt(identified_as(identity.media(target)))
        if (stored := await self._catalog.get(target)) is not None:
            return Stored(stored.media, cached=True)
        received = Received(
            path=file.path,
            media_id=target,
            identity=identity,
            filename=header.filename,
            delivered=True,
        )
        blob_key = blob_stem(attempt.lease, target) + name_extension(header.filename)
        async with StreamingUpload(self._blobs, blob_key, file) as upload:
            winner = await self._landing.land(attempt, received, upload)
            return Stored(winner, cached=winner.blob.url != self._blobs.url(blob_key))

    async def adopt_object(self, attempt: Attempt) -> Stored | NotAList:
        """Adopt the object that the job's URL names.

        Raises Failure with the reason why not. Safe to repeat.
        """
        if attempt.lists_only:
            return NotAList()
        job, lease = attempt.job, attempt.lease
        address = parse(job.url)
        assert address is not None
        place = self._blobs.find(*address)
        if place is None:
            raise address.forbidden()
        bucket, key = place
        if bucket is self._blobs:
            address.check_own(key)
        await lease.update(entered(job_pb2.JOB_STAGE_RESOLVING))
        stored = await self._catalog.get(job.media.id)
        found = await bucket.stat(key)
        if found is None or is_media_file(place, self._blobs):
            raise Failure(
                reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
                f"The bucket {address.bucket} has no object {address.key} to adopt.",
            )
        if stored is not None and is_made_of(stored, found.etag):
            return Stored(stored.media, cached=True)
        check_size(found.size_bytes, self._settings)

        async def check_unchanged() -> None:
            if await bucket.stat(key) != found:
                raise Failure(
                    reason_pb2.REASON_TRUNCATED,
                    f"The object {job.url} was replaced while it was read. Ingest it again.",
                )

        async with self._scratch.open(job.id, job.attempt) as file, downloading(lease) as meter:
            chunks = bucket.read_object(key, offset=0, limit=0)
            await self._copy(chunks, found.size_bytes, file, meter)
            received = Received(
                path=file.path,
                media_id=job.media.id,
                identity=attempt.identity,
                filename=key.rpartition("/")[2],
                etag=entity_tag(found.etag),
                mutable=True,
            )
            media = await self._landing.adopt(
                replace(attempt, stored=stored), received, file, check_unchanged
            )
            return Stored(media, cached=False)

    async def _copy(
        self, chunks: AsyncIterator[bytes], size: int, file: ScratchFile, meter: Meter
    ) -> None:
        """Copy `size` bytes into the scratch file. Raises Failure for any other number of them."""
        if not size:
            raise Failure(reason_pb2.REASON_NOT_MEDIA, "The file is empty.")
        check_size(size, self._settings)
        file.reserve(size)
        received = 0
        async with aclosing(cast("AsyncGenerator[bytes, None]", chunks)):
            async for chunk in chunks:
                await file.write(chunk)
                received += len(chunk)
                meter.advance(received, size)
        if received != size:
            raise Failure(
                reason_pb2.REASON_TRUNCATED,
                f"The bucket sent {received} of the {size} bytes of the file.",
            )
        await file.complete()

    async def _remove_upload(self, upload_id: str) -> None:
        try:
            await self._uploads.remove(upload_id)
        except Failure as failure:
            # The sweep removes it later.
            logger.warning(
                Event.OBJECTS_LEFT,
                "an upload was left in the bucket: %s",
                failure.message,
                reason=failure.reason,
            )


def _check_content(header: UploadHeader, file: ScratchFile) -> None:
    if header.size_bytes and header.size_bytes != file.size:
        problem = f"{file.size} bytes arrived, and {header.size_bytes} were announced"
    elif header.sha256 and header.sha256 != file.sha256:
        problem = f"the SHA-256 of what arrived is {file.sha256}, not {header.sha256}"
    else:
        return
    raise Failure(
        reason_pb2.REASON_CHECKSUM_MISMATCH,
        f"The upload is not what was announced: {problem}. Upload the file again.",
    )
