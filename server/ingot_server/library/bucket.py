"""One bucket as far as it is read: sizes, bytes and signed links. It need not be Ingot's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Final
from urllib.parse import quote

from minio.error import S3Error
from urllib3.response import BaseHTTPResponse

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.library.multipart import StoredBlob, stat
from ingot_server.library.s3 import ABSENT, S3

CHUNK_BYTES: Final = 256 << 10
_CHUNKS_A_HOP: Final = 4


class Bucket:
    """The bucket that `s3` names. Nothing here writes.

    Every method that asks the server raises Failure STORAGE_UNAVAILABLE when it cannot be reached
    or refuses, and can be repeated.
    """

    def __init__(self, s3: S3) -> None:
        self.bucket = s3.bucket
        self._s3 = s3
        self._client = s3.client

    async def close(self) -> None:
        """Ends running calls and closes all connections."""
        await self._s3.close()

    async def stat(self, key: str) -> StoredBlob | None:
        """Size and ETag of an object; None when there is none."""
        return await self._s3.call(partial(stat, self._s3, key))

    async def read_object(self, key: str, *, offset: int, limit: int) -> AsyncIterator[bytes]:
        """The bytes from `offset` on, `limit` of them or, when it is 0, all; in chunks of 256 KiB.

        Fewer at the end of the object. Raises Failure MEDIA_NOT_FOUND when there is none.
        """
        opening = asyncio.get_running_loop().run_in_executor(
            self._s3.calls, self._s3.guarded, partial(self._open, key, offset, limit)
        )
        try:
            response = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_release_opened)
            raise
        if response is None:
            return
        try:
            while chunks := await self._s3.call(partial(_next_chunks, response)):
                for chunk in chunks:
                    yield chunk
        finally:
            # In a thread: it waits for a read that was cancelled but still runs.
            self._s3.calls.submit(release, response)

    def _open(self, key: str, offset: int, limit: int) -> BaseHTTPResponse | None:
        try:
            response = self._client.get_object(self.bucket, key, offset, limit)
        except S3Error as exc:
            if exc.code == ABSENT:
                raise Failure(
                    reason_pb2.REASON_MEDIA_NOT_FOUND,
                    "The media was deleted or replaced meanwhile. Ask for it again.",
                ) from exc
            if exc.code == "InvalidRange":
                return None
            raise
        if offset and response.status != 206:
            release(response)
            raise Failure(
                reason_pb2.REASON_STORAGE_UNAVAILABLE,
                f"The S3 server at {self._s3.endpoint} does not answer ranges. Use one that does.",
            )
        return response

    async def download_url(
        self, key: str, *, lifetime: timedelta, filename: str, content_type: str
    ) -> str:
        """A signed link for GET and ranges, as the world outside names the server.

        `lifetime` is at most 7 days; a browser saves the file as `filename`.
        """
        answer = {"response-content-disposition": _disposition(filename)}
        if content_type:
            answer["response-content-type"] = content_type
        return self._s3.public.get_presigned_url(
            "GET", self.bucket, key, lifetime, extra_query_params={**answer}
        )


def _next_chunks(response: BaseHTTPResponse) -> list[bytes]:
    """About a MiB in chunks, so that a thread is not asked for each; empty at the end."""
    chunks: list[bytes] = []
    while len(chunks) < _CHUNKS_A_HOP and (chunk := response.read(CHUNK_BYTES)):
        chunks.append(chunk)
    return chunks


def _release_opened(opening: asyncio.Future[BaseHTTPResponse | None]) -> None:
    if not opening.cancelled() and opening.exception() is None and (found := opening.result()):
        release(found)


def release(response: BaseHTTPResponse) -> None:
    """Gives the connection back; one that was not read to its end is closed."""
    response.close()
    response.release_conn()


def _disposition(filename: str) -> str:
    """Content-Disposition that saves under `filename` (RFC 6266, RFC 8187)."""
    name = "".join("_" if c in "/\\" or not c.isprintable() else c for c in filename).strip()
    if not name:
        return "attachment"
    plain = "".join(c if c.isascii() and c not in '"%' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
