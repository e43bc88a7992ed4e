"""Uploads a file: continued where it stopped, and not at all where the server has it already."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

import grpc

from ingot.connection import Connection, is_lost, wait_seconds
from ingot.download import Progress
from ingot.errors import IngotError, from_call
from ingot.v1.ingest_service_pb2 import (
    QueryUploadRequest,
    UploadChunk,
    UploadHeader,
    UploadRequest,
    UploadResponse,
)
from ingot.v1.job_pb2 import Job

_CHUNK_BYTES: Final = 256 << 10
_HASHED_BYTES: Final = 4 << 20
# How a server says that other bytes came than were announced.
_OTHER_BYTES: Final = ("CHECKSUM_MISMATCH", "TRUNCATED")


async def upload(
    connection: Connection,
    path: Path,
    progress: Progress | None,
    labels: Mapping[str, str] | None,
) -> Job:
    """Sends the file at `path`; answers with the job that stores it.

    A lost connection is taken up again until it has been gone for as long as it may. Raises OSError
    when the file cannot be read, or is another one than when it began.
    """
    with await asyncio.to_thread(_opened, path) as file:
        began = os.fstat(file.fileno())
        size, sha256 = await asyncio.to_thread(_measured, file)
        header = UploadHeader(
            filename=os.fsencode(path.name).decode(errors="replace")[:255],
            size_bytes=size,
            sha256=sha256,
            # By content, so that another try, by another process too, goes on with this one.
            upload_id=sha256[:32],
            labels=labels,
        )
        sending = _Sending(connection, file, header, progress)
        outage_began: float | None = None
        losses, furthest = 0, -1
        while True:
            try:
                return await sending.attempt()
            except IngotError as error:
                if error.reason in _OTHER_BYTES and _changed(file, began, size):
                    what = "The file changed while it was sent"
                    raise OSError(errno.EBUSY, what, os.fspath(path)) from error
                if error.reason == "UPLOAD_OFFSET_MISMATCH":
                    sending.offset = int(error.metadata.get("committed_size", 0))
                elif error.reason == "TRUNCATED" and "committed_size" in error.metadata:
                    sending.offset = int(error.metadata["committed_size"])
                elif is_lost(error):
                    sending.offset = -1
                else:
                    raise
                now = time.monotonic()
                if outage_began is None or sending.reached > furthest:
                    outage_began, losses, furthest = now, 0, sending.reached
                wait = wait_seconds(losses)
                losses += 1
                if now + wait - outage_began > connection.reconnect_seconds:
                    raise
                await asyncio.sleep(wait)


class _Sending:
    """The attempts at one upload. `offset` is where the next begins, -1 to ask the server."""

    def __init__(
        self,
        connection: Connection,
        file: BinaryIO,
        header: UploadHeader,
        progress: Progress | None,
    ) -> None:
        self._connection = connection
        self._file = file
        self._header = header
        self._progress = progress
        self.offset = 0
        self.reached = 0

    async def attempt(self) -> Job:
        """One call of Upload. Raises IngotError."""
        if self.offset < 0:
            self.offset = await self._committed_size()
        try:
            response: UploadResponse = await self._connection.ingest.Upload(
                self._requests(), metadata=self._connection.metadata
            )
        except grpc.aio.AioRpcError as error:
            raise from_call(error) from error
        self._tell(self._header.size_bytes)
        return response.job

    async def _requests(self) -> AsyncIterator[UploadRequest]:
        yield UploadRequest(header=self._header)
        await asyncio.to_thread(self._file.seek, self.offset)
        offset = self.offset
        while data := await asyncio.to_thread(self._file.read, _CHUNK_BYTES):
            yield UploadRequest(chunk=UploadChunk(offset=offset, data=data))
            offset += len(data)
            self.reached = max(self.reached, offset)
            self._tell(offset)

    async def _committed_size(self) -> int:
        request = QueryUploadRequest(upload_id=self._header.upload_id)
        try:
            answer = await self._connection.call(self._connection.ingest.QueryUpload, request)
        except IngotError as error:
            if error.reason == "UPLOAD_NOT_FOUND":
                return 0  # not begun, or complete: then the header alone is answered
            raise
        return answer.committed_size

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, self._header.size_bytes)


def _opened(path: Path) -> BinaryIO:
    """The file at `path`. A pipe would wait to be opened, and a device may have no end."""
    if not path.is_dir() and path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return path.open("rb")


def _changed(file: BinaryIO, before: os.stat_result, size: int) -> bool:
    """Whether a file that had `size` bytes was written to since, or only looks like a file."""
    now = os.fstat(file.fileno())
    return now.st_size != size or now.st_mtime_ns != before.st_mtime_ns


def _measured(file: BinaryIO) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    while block := file.read(_HASHED_BYTES):
        digest.update(block)
        size += len(block)
    return size, digest.hexdigest()
