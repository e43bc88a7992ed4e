"""What lies in the bucket already becomes a media: uploads, and objects that others put there.

    upload    parts -> scratch, hashed on the way -> the content's own id -> stored already?
              -> up to media/<id>/ while it is probed -> commit -> the parts go
    object    read into scratch -> probed -> commit; it stays where it is

An upload's name is its content, so a job that was not told the SHA-256 moves to its media only when
all was read. Of several with the same content one manifest stands; the bucket sees to that.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import UploadHeader
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.errors import Failure
from ingot_server.intake import entity_tag, is_made_of
from ingot_server.jobs.changes import entered, identified_as
from ingot_server.jobs.lease import Lease
from ingot_server.jobs.lifecycle import copy_of
from ingot_server.library.identity import media_id
from ingot_server.library.uploads import Uploads, upload_not_found
from ingot_server.pipeline.attempt import Attempt, NotAList, Stored
from ingot_server.pipeline.commit import commit, reporting
from ingot_server.pipeline.describe import check_selection, check_stored, describe, name_extension
from ingot_server.pipeline.progress import Meter
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.sources.internal import parse
from ingot_server.sources.source import Identity
from ingot_server.sources.upload import SCHEME, content_key
from ingot_server.transfer.download import Downloaded
from ingot_server.transfer.scratch import ScratchFile
from ingot_server.transfer.streaming_upload import StreamingUpload

logger = logging.getLogger(__name__)


async def ingest_upload(context: WorkerContext, attempt: Attempt) -> Stored | NotAList:
    """Takes in the upload that the job's URL names.

    Raises Failure with the reason why not. Safe to repeat.
    """
    if attempt.lists_only:
        return NotAList()
    job, lease = attempt.job, attempt.lease
    upload_id = job.url.removeprefix(SCHEME)
    uploads = Uploads(context.blobs, context.settings)
    await lease.update(entered(job_pb2.JOB_STAGE_RESOLVING))
    try:
        result = await _take_in(context, uploads, upload_id, copy_of(job), lease)
    except Failure as failure:
        if failure.final or not failure.transient:
            # No other attempt, and no other call, can make a media of these bytes.
            await _remove(uploads, upload_id)
        raise
    await _remove(uploads, upload_id)
    return result


async def _take_in(
    context: WorkerContext, uploads: Uploads, upload_id: str, job: Job, lease: Lease
) -> Stored:
    status = await uploads.status(upload_id)
    if status is None:
        # A worker that died after its commit may have removed it.
        stored = await context.catalog.get(job.media.id)
        if stored is not None:
            return Stored(stored, cached=True)
        raise upload_not_found(upload_id)
    header = status.header
    if header.sha256:
        stored = await context.catalog.get(_media_id(_identity(header.sha256), job))
        if stored is not None:
            return Stored(stored, cached=True)
    meter = Meter()
    async with context.scratch.open(job.id, job.attempt) as file, reporting(lease, meter):
        await lease.update(entered(job_pb2.JOB_STAGE_DOWNLOADING))
        await _read(
            uploads.read_content(upload_id, status), status.committed_size, file, meter, context
        )
        _check_content(header, file)
        identity = _identity(file.sha256)
        if not header.sha256:
            # Whoever repeats the call from here on asks for the media and joins this job, which
            # leaves the upload's own name with the next step.
            header.sha256 = file.sha256
            await uploads.replace_header(upload_id, header)
        await _move(job, identity, lease)
        stored = await context.catalog.get(job.media.id)
        if stored is not None:
            return Stored(stored, cached=True)
        key = f"media/{job.media.id}/{job.id}-{job.attempt}{name_extension(header.filename)}"
        async with StreamingUpload(context.blobs, key, file) as upload:
            await lease.update(entered(job_pb2.JOB_STAGE_PROBING))
            media = await upload.run_alongside(_probe(context, file))
            await lease.update(entered(job_pb2.JOB_STAGE_STORING))
            taken = _taken(file, header.filename, header.content_type)
            check_stored(await upload.finish(), taken)
            describe(media, job, identity, taken, blob_url=context.blobs.url(key))
            media.ClearField("freshness")
            await lease.update(entered(job_pb2.JOB_STAGE_COMMITTING))
            winner = await commit(context, media, None, upload, superseding=job.attempt > 1)
            return Stored(winner, cached=winner.blob.url != media.blob.url)


async def ingest_object(context: WorkerContext, attempt: Attempt) -> Stored | NotAList:
    """Adopts the object that the job's URL names.

    Raises Failure with the reason why not. Safe to repeat.
    """
    if attempt.lists_only:
        return NotAList()
    job, lease = attempt.job, attempt.lease
    address = parse(job.url)
    assert address is not None
    bucket = context.blobs.bucket_named(address.scheme, address.bucket)
    if bucket is None:
        raise address.forbidden()
    is_own = bucket is context.blobs
    if is_own:
        address.check_key()
    await lease.update(entered(job_pb2.JOB_STAGE_RESOLVING))
    stored = await context.catalog.get(job.media.id)
    found = await bucket.stat(address.key)
    if found is None or (is_own and address.media_id is not None):
        raise Failure(
            reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
            f"The bucket {address.bucket} has no object {address.key} to adopt.",
        )
    if stored is not None and is_made_of(stored, found.etag):
        return Stored(stored, cached=True)
    _check_limit(found.size_bytes, context)
    meter = Meter()
    async with context.scratch.open(job.id, job.attempt) as file, reporting(lease, meter):
        await lease.update(entered(job_pb2.JOB_STAGE_DOWNLOADING))
        chunks = bucket.read_object(address.key, offset=0, limit=0)
        await _read(chunks, found.size_bytes, file, meter, context)
        await lease.update(entered(job_pb2.JOB_STAGE_PROBING))
        media = await context.prober.probe(file.path)
        check_selection(media, job.selection)
        if await bucket.stat(address.key) != found:
            raise Failure(
                reason_pb2.REASON_TRUNCATED, f"The object {job.url} was replaced while it was read."
            )
        identity = Identity(job.media.source.name, job.media.source.key, job.url, job.url)
        taken = _taken(file, address.key.rpartition("/")[2], "", entity_tag(found.etag))
        describe(media, job, identity, taken, blob_url=job.url)
        await lease.update(entered(job_pb2.JOB_STAGE_COMMITTING))
        if stored is not None:
            media.create_time.CopyFrom(stored.create_time)
        replacing = stored.etag if stored is not None else ""
        committed = await context.catalog.commit(media, replacing=replacing)
        return Stored(committed, cached=False)


async def _probe(context: WorkerContext, file: ScratchFile) -> Media:
    """Probes a file of which every byte is there."""
    try:
        return await context.prober.probe(file.path)
    except Failure as failure:
        # Nobody could send what is missing in it.
        failure.final = failure.reason == reason_pb2.REASON_TRUNCATED
        raise


async def _read(
    chunks: AsyncIterator[bytes], size: int, file: ScratchFile, meter: Meter, context: WorkerContext
) -> None:
    """Brings `size` bytes into the scratch file. Raises Failure for any other number of them."""
    if not size:
        raise Failure(reason_pb2.REASON_NOT_MEDIA, "The file is empty.")
    _check_limit(size, context)
    file.reserve(size)
    received = 0
    async with aclosing(cast("AsyncGenerator[bytes, None]", chunks)):
        async for chunk in chunks:
            await file.write(chunk)
            received += len(chunk)
            meter.advance(received, size)
    if received != size:
        raise Failure(
            reason_pb2.REASON_TRUNCATED, f"The bucket gave {received} of {size} bytes of the file."
        )
    await file.complete()


async def _move(job: Job, identity: Identity, lease: Lease) -> None:
    """Gives the job the identity of its content, and with it that media's single flight."""
    name = _media_id(identity, job)
    change = identified_as(identity.media(name))
    if name != job.media.id:
        # If another job has it, both go on, and the second commit finds the first one's manifest.
        await lease.adopt(change)
    change(job)


def _check_content(header: UploadHeader, file: ScratchFile) -> None:
    if header.size_bytes and header.size_bytes != file.size:
        problem = f"{file.size} bytes have come, {header.size_bytes} were announced"
    elif header.sha256 and header.sha256 != file.sha256:
        problem = f"what has come has the SHA-256 {file.sha256}, not {header.sha256}"
    else:
        return
    raise Failure(reason_pb2.REASON_CHECKSUM_MISMATCH, f"{problem}. StreamingUpload the file anew.")


def _check_limit(size: int, context: WorkerContext) -> None:
    limit = context.settings.max_media_size
    if size > limit:
        raise Failure(
            reason_pb2.REASON_TOO_LARGE,
            f"The file has {size} bytes; at most {limit} are taken.",
            metadata={"limit_bytes": str(int(limit))},
        )


def _media_id(identity: Identity, job: Job) -> str:
    return media_id(identity.key, job.selection)


def _identity(sha256: str) -> Identity:
    key = content_key(sha256)
    return Identity("upload", key, key, key)


def _taken(file: ScratchFile, filename: str, content_type: str, etag: str = "") -> Downloaded:
    return Downloaded(
        final_url="",
        filename=filename,
        content_type=content_type,
        size_bytes=file.size,
        sha256=file.sha256,
        http_etag=etag,
        http_last_modified="",
    )


async def _remove(uploads: Uploads, upload_id: str) -> None:
    try:
        await uploads.remove(upload_id)
    except Failure as failure:
        # The sweep takes it away.
        logger.warning("an upload was left in the bucket: %s", failure.message)
