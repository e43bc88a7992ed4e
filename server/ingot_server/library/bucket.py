"""A bucket that is only read: sizes, bytes and signed links. It may be another than Ingot's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from functools import partial
from typing import Final, Protocol
from urllib.parse import quote, urlsplit

from minio.error import S3Error
from urllib3.response import BaseHTTPResponse

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.library.interruptible import use_connection_of
from ingot_server.library.multipart import StoredBlob, stat
from ingot_server.library.s3 import ABSENT, S3


class Hash(Protocol):
    """A hash of hashlib."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


CHUNK_BYTES: Final = 256 << 10
_CHUNKS_A_HOP: Final = 4


class Bucket:
    """The bucket that `s3` names, or what is under its prefix. No method writes to it.

    Every method that uses the server raises Failure STORAGE_UNAVAILABLE when the server refuses or
    cannot be reached, and can be repeated.
    """

    def __init__(self, s3: S3) -> None:
        self.bucket = s3.bucket
        self._s3 = s3

    async def close(self) -> None:
        """End running calls and close all connections."""
        await self._s3.close()

    @property
    def s3(self) -> S3:
        """The connection, for what is done with two buckets at once (server_side_copy.py)."""
        return self._s3

    async def stat(self, key: str) -> StoredBlob | None:
        """Return the size and ETag of an object; None if it does not exist."""
        return await self._s3.small.run(partial(stat, self._s3, self._s3.small, key))

    async def read_object(
        self, key: str, *, offset: int, limit: int, digest: Hash | None = None
    ) -> AsyncIterator[bytes]:
        """Yield `limit` bytes from `offset` on, or all if `limit` is 0, in chunks of 256 KiB.

        There are fewer at the end of the object. `digest` is updated with them. While the caller
        uses a MiB, the next one is read. Raises Failure MEDIA_NOT_FOUND if the object is missing.
        """
        reads = self._s3.reads
        response = await reads.run(partial(self._open, key, offset, limit), discard=_release_opened)
        if response is None:
            return

        def read_ahead() -> asyncio.Task[list[bytes]]:
            reading = asyncio.create_task(reads.run(partial(_next_chunks, response, digest)))
            # Retrieve the exception, or asyncio logs it if the caller is gone.
            reading.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            return reading

        reading = read_ahead()
        try:
            while chunks := await reading:
                reading = read_ahead()
                for chunk in chunks:
                    yield chunk
        finally:
            reading.cancel()
            # In a thread, because a read that was cancelled may not have ended yet.
            reads.submit(partial(release, response))

    def chunks(self, key: str) -> Iterator[bytes]:
        """Yield all bytes of an object, for a thread that may wait.

        A connection that breaks is replaced by another one, which goes on at the same byte. Raises
        Failure MEDIA_NOT_FOUND if the object is missing.
        """
        position, opened_at = 0, -1
        while position > opened_at:
            opened_at = position
            response = self._s3.guarded(partial(self._open, key, position, 0))
            if response is None:
                return
            try:
                while chunks := self._s3.guarded(partial(_next_chunks, response, None)):
                    for chunk in chunks:
                        position += len(chunk)
                        yield chunk
            except Failure:
                if position == opened_at:
                    raise
            else:
                return
            finally:
                release(response)

    def _open(self, key: str, offset: int, limit: int) -> BaseHTTPResponse | None:
        try:
            response = self._s3.reads.client.get_object(
                self.bucket, self._s3.object_name(key), offset, limit
            )
        except S3Error as exc:
            if exc.code == ABSENT:
                raise Failure(
                    reason_pb2.REASON_MEDIA_NOT_FOUND,
                    "The media item was deleted or replaced meanwhile. Request it again.",
                ) from exc
            if exc.code == "InvalidRange":
                return None
            raise
        if offset and response.status != 206:
            release(response)
            raise Failure(
                reason_pb2.REASON_STORAGE_UNAVAILABLE,
                f"The S3 server at {self._s3.endpoint} does not support ranges. Use one that does.",
            )
        return response

    async def download_url(
        self, key: str, *, lifetime: timedelta, filename: str, content_type: str
    ) -> str:
        """Return a signed link for GET, with or without ranges, at the public endpoint.

        `lifetime` is at most 7 days; a browser saves the file as `filename`.
        """
        headers = {"response-content-disposition": _disposition(filename)}
        if content_type:
            headers["response-content-type"] = content_type
        return self._s3.public.get_presigned_url(
            "GET",
            self.bucket,
            self._s3.object_name(key),
            lifetime,
            extra_query_params={**headers},
        )

    def link_origin(self) -> str:
        """Return the origin of signed links to this bucket, such as `https://s3.example.com`.

        It may have the bucket in the name of its host, as on AWS.
        """
        link = urlsplit(self._s3.public.get_presigned_url("GET", self.bucket, "key"))
        return f"{link.scheme}://{link.netloc}"


def _next_chunks(response: BaseHTTPResponse, digest: Hash | None) -> list[bytes]:
    """Return about a MiB in chunks, to use a thread less often; empty at the end."""
    use_connection_of(response)
    chunks: list[bytes] = []
    while len(chunks) < _CHUNKS_A_HOP and (chunk := response.read(CHUNK_BYTES)):
        chunks.append(chunk)
        if digest is not None:
            digest.update(chunk)
    return chunks


def _release_opened(response: BaseHTTPResponse | None) -> None:
    if response is not None:
        release(response)


def release(response: BaseHTTPResponse) -> None:
    """Return the connection to its pool; if the response has unread bytes, close it."""
    response.close()
    response.release_conn()


def _disposition(filename: str) -> str:
    """Return a Content-Disposition that saves as `filename` (RFC 6266, RFC 8187)."""
    name = "".join("_" if c in "/\\" or not c.isprintable() else c for c in filename).strip()
    if not name:
        return "attachment"
    plain = "".join(c if c.isascii() and c not in '"%' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
