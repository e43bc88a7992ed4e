"""Upload of a file, which is resumed after an interruption and skipped if the file is stored."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import BinaryIO, Final

import grpc

from ingot.connection import Connection, Outage, is_interrupted
from ingot.download import ProgressCallback
from ingot.errors import IngotError, from_call
from ingot.v1.ingest_service_pb2 import (
    QueryUploadRequest,
    UploadChunk,
    UploadHeader,
    UploadRequest,
    UploadResponse,
)
from ingot.v1.job_pb2 import Job
from ingot.v1.recipe_pb2 import Recipe

_CHUNK_BYTES: Final = 256 << 10
_HASH_BLOCK_BYTES: Final = 4 << 20
# The reasons for bytes that differ from what the header announced.
_CONTENT_DIFFERS: Final = ("CHECKSUM_MISMATCH", "TRUNCATED")


async def upload(
    connection: Connection,
    path: Path,
    progress: ProgressCallback | None,
    wanted: UploadHeader,
) -> Job:
    """Upload the file at `path`, and return the job that stores it.

    `wanted` is a header that says what to do with the file, but not which file it is. An
    interrupted upload is resumed until the connection is gone for longer than
    `connection.reconnect_seconds`. Raises OSError if the file cannot be read, or changes meanwhile.
    """
    with await asyncio.to_thread(_open_regular_file, path) as file:
        before = os.fstat(file.fileno())
        size, sha256 = await asyncio.to_thread(_measure, file)
        header = UploadHeader(
            filename=os.fsencode(path.name).decode(errors="replace")[:255],
            size_bytes=size,
            sha256=sha256,
            upload_id=_upload_id(sha256, wanted.recipes),
        )
        header.MergeFrom(wanted)
        resumable = _ResumableUpload(connection, file, header, progress)
        outage = Outage(connection.reconnect_seconds)
        furthest_offset = -1
        while True:
            try:
                return await resumable.send()
            except IngotError as error:
                if error.reason in _CONTENT_DIFFERS and _has_changed(file, before, size):
                    message = "The file changed while it was uploaded"
                    raise OSError(errno.EBUSY, message, os.fspath(path)) from error
                if not resumable.can_resume(error):
                    raise
                if resumable.furthest_offset > furthest_offset:
                    furthest_offset = resumable.furthest_offset
                    outage.end()
                await outage.wait(error)


class _ResumableUpload:
    """The calls that send one file.

    `_offset` is where the next call begins; None means that the server has to be asked.
    """

    def __init__(
        self,
        connection: Connection,
        file: BinaryIO,
        header: UploadHeader,
        progress: ProgressCallback | None,
    ) -> None:
        self._connection = connection
        self._file = file
        self._header = header
        self._progress = progress
        self._offset: int | None = 0
        self.furthest_offset = 0

    async def send(self) -> Job:
        """Send the rest of the file, and return the job. Raises IngotError."""
        if self._offset is None:
            self._offset = await self._committed_size()
        try:
            response: UploadResponse = await self._connection.ingest.Upload(
                self._requests(self._offset), metadata=self._connection.metadata
            )
        except grpc.aio.AioRpcError as error:
            raise from_call(error) from error
        self._report(self._header.size_bytes)
        return response.job

    def can_resume(self, error: IngotError) -> bool:
        """Return whether another call can continue after `error`, and set where it begins."""
        if error.reason == "UPLOAD_OFFSET_MISMATCH":
            self._offset = int(error.metadata.get("committed_size", 0))
        elif error.reason == "TRUNCATED" and "committed_size" in error.metadata:
            self._offset = int(error.metadata["committed_size"])
        elif is_interrupted(error):
            self._offset = None
        else:
            return False
        return True

    async def _requests(self, offset: int) -> AsyncIterator[UploadRequest]:
        yield UploadRequest(header=self._header)
        await asyncio.to_thread(self._file.seek, offset)
        while data := await asyncio.to_thread(self._file.read, _CHUNK_BYTES):
            yield UploadRequest(chunk=UploadChunk(offset=offset, data=data))
            offset += len(data)
            self.furthest_offset = max(self.furthest_offset, offset)
            self._report(offset)

    async def _committed_size(self) -> int:
        request = QueryUploadRequest(upload_id=self._header.upload_id)
        try:
            response = await self._connection.call(self._connection.ingest.QueryUpload, request)
        except IngotError as error:
            if error.reason == "UPLOAD_NOT_FOUND":
                return 0  # never begun; or complete, in which case the header is enough
            raise
        return response.committed_size

    def _report(self, bytes_done: int) -> None:
        if self._progress is not None:
            self._progress(bytes_done, self._header.size_bytes)


def _upload_id(sha256: str, recipes: Iterable[Recipe]) -> str:
    """Return the id that another process finds too, which resumes the upload.

    An upload has one job, so other recipes make another upload.
    """
    digest = hashlib.sha256(sha256.encode())
    for recipe in recipes:
        digest.update(hashlib.sha256(recipe.SerializeToString(deterministic=True)).digest())
    return digest.hexdigest()[:32]


def _open_regular_file(path: Path) -> BinaryIO:
    """Open the file at `path`. Opening a pipe would block, and a device may have no end."""
    if not path.is_dir() and path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return path.open("rb")


def _has_changed(file: BinaryIO, before: os.stat_result, size: int) -> bool:
    """Return whether a file of `size` bytes was written to since, or never had that size."""
    now = os.fstat(file.fileno())
    return now.st_size != size or now.st_mtime_ns != before.st_mtime_ns


def _measure(file: BinaryIO) -> tuple[int, str]:
    """Return the size and the SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    while block := file.read(_HASH_BLOCK_BYTES):
        digest.update(block)
        size += len(block)
    return size, digest.hexdigest()
