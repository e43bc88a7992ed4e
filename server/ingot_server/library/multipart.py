"""Multipart uploads: read a part of the content, send it, read the next. The content may grow.

The SDK's own `put_object` was measured and is not used. For 16 uploads it needs 217 MiB of memory,
this module 80. It also hashes each part with SHA-256. When the content raises, its parallel uploads
leave threads and parts behind. MinIO receives 120 MB/s in parts one after another, and 200 MB/s in
two parts at once, which needs content that is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Final

from minio.datatypes import Part
from minio.error import S3Error

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.library.call_pool import CallPool
from ingot_server.library.interruptible import Call
from ingot_server.library.s3 import ABSENT, FOREIGN, S3, error_of, etag_of

logger = logging.getLogger(__name__)

SMALLEST_PART: Final = 5 << 20
MOST_PARTS: Final = 10_000
_MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """The size and ETag that the bucket reports for an object."""

    size_bytes: int
    etag: str


class UploadAborted(Exception):
    """The caller has aborted the upload."""


class MultipartUpload:
    """One upload of `content`; `send` blocks, and belongs to one thread.

    Content that is smaller than a part is one PUT; otherwise `parts_at_once` are in memory. Setting
    `aborted`, from any thread, ends it before the next part; `close` ends a read that waits.
    """

    def __init__(
        self,
        s3: S3,
        key: str,
        content: BinaryIO,
        content_type: str,
        part_bytes: int,
        parts_at_once: int,
    ) -> None:
        self._s3 = s3
        self._key = key
        self._content = content
        self._content_type = content_type
        self._part_bytes = part_bytes
        self._parts_at_once = parts_at_once
        self._upload_id = ""
        self._parts: list[Part] = []
        self._digests: list[bytes] = []
        self._written = False
        self._size = 0
        self._calls: list[Call] = []
        self.aborted = False

    def send(self, *, announced: int | None, etag_is_md5: bool) -> StoredBlob:
        """Send everything and check that the bucket has it; leave nothing behind after an error.

        Raises Failure STORAGE_UNAVAILABLE if S3 is at fault, TRUNCATED if the size is not the
        announced one, UploadAborted, CallInterrupted, or what reading the content raises.
        """
        return self._call().run(partial(self._send, announced, etag_is_md5=etag_is_md5))

    def _send(self, announced: int | None, *, etag_is_md5: bool) -> StoredBlob:
        with contextlib.closing(self._content):
            try:
                self._send_parts()
                return self._verified(announced, etag_is_md5=etag_is_md5)
            except BaseException:
                self._discard()
                raise

    def interrupt(self) -> None:
        """End the requests that hang, from any thread; what was sent may stay in the bucket."""
        for call in list(self._calls):
            call.interrupt()

    def _call(self) -> Call:
        self._calls.append(Call())
        return self._calls[-1]

    def close(self) -> None:
        """Close the content, from any thread."""
        self._content.close()

    def _send_parts(self) -> None:
        data = self._read_part()
        if len(data) < self._part_bytes:
            self._written = True
            headers = {"Content-Type": self._content_type}
            self._s3.guarded(partial(self._put, data, self._digest(data), headers, {}))
            return
        # The SDK does not have public methods for a multipart upload.
        client, bucket, key = self._s3.calls.client, self._s3.bucket, self._key
        metadata: dict[str, str | list[str] | tuple[str]] = {"Content-Type": self._content_type}
        self._upload_id = self._s3.guarded(
            partial(client._create_multipart_upload, bucket, key, metadata)  # noqa: SLF001
        )
        sending: deque[Future[str]] = deque()
        try:
            while data:
                sending.append(self._s3.calls.submit(self._prepare_part(data), self._call()))
                if len(sending) == self._parts_at_once:
                    self._add_sent(sending.popleft())
                del data  # before the next is read
                data = self._read_part()
            while sending:
                self._add_sent(sending.popleft())
        finally:
            wait(sending)  # so that no part arrives after the upload was aborted
        self._written = True
        complete = client._complete_multipart_upload  # noqa: SLF001
        self._s3.guarded(partial(complete, bucket, key, self._upload_id, self._parts))

    def _read_part(self) -> bytes:
        """Return the next part; it is shorter only at the end of the content."""
        pieces = list(self._pieces())
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self.aborted:
            raise UploadAborted
        self._size += len(data)
        return data

    def _pieces(self) -> Iterator[bytes]:
        missing = self._part_bytes
        while missing and not self.aborted and (piece := self._content.read(missing)):
            missing -= len(piece)
            yield piece

    def _prepare_part(self, data: bytes) -> Callable[[], str]:
        number = len(self._digests) + 1
        query = {"partNumber": str(number), "uploadId": self._upload_id}
        digest = self._digest(data)
        return lambda: self._put(data, digest, {}, query)

    def _add_sent(self, part: Future[str]) -> None:
        self._parts.append(Part(len(self._parts) + 1, part.result()))

    def _digest(self, data: bytes) -> bytes:
        self._digests.append(hashlib.md5(data, usedforsecurity=False).digest())
        return self._digests[-1]

    def _put(
        self, data: bytes, digest: bytes, headers: dict[str, str], query: dict[str, str]
    ) -> str:
        response = self._s3.put(
            self._s3.calls, self._key, data, digest, headers=headers, query=query
        )
        if response.status != 200:
            raise error_of(response)
        return etag_of(response)

    def _verified(self, announced: int | None, *, etag_is_md5: bool) -> StoredBlob:
        if self.aborted:
            raise UploadAborted
        stored = self._s3.guarded(partial(stat, self._s3, self._s3.calls, self._key))
        # Each part was checked by its Content-MD5; this checks that all are there, in their order.
        if (
            stored is None
            or stored.size_bytes != self._size
            or (etag_is_md5 and stored.etag != self._etag())
        ):
            raise Failure(
                reason_pb2.REASON_STORAGE_UNAVAILABLE,
                f"The S3 server at {self._s3.endpoint} has {stored}, but {self._size} bytes with "
                f"the ETag {self._etag()} were sent. Check its disks and any proxy before it.",
            )
        if announced is not None and announced != self._size:
            raise Failure(
                reason_pb2.REASON_TRUNCATED,
                f"{announced} bytes were announced, but {self._size} arrived.",
            )
        return stored

    def _etag(self) -> str:
        """Return the ETag of these bytes, if ETags are made of MD5.

        One PUT: MD5 of the content. Parts: MD5 over the MD5s of the parts, a dash, their number
        (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html).
        """
        if not self._upload_id:
            return self._digests[0].hex()
        digest = hashlib.md5(b"".join(self._digests), usedforsecurity=False)
        return f"{digest.hexdigest()}-{len(self._digests)}"

    def _discard(self) -> None:
        client, bucket, key = self._s3.calls.client, self._s3.bucket, self._key
        steps: list[Callable[[], object]] = []
        if self._upload_id:
            abort = client._abort_multipart_upload  # noqa: SLF001
            steps.append(partial(abort, bucket, key, self._upload_id))
        if self._written:
            steps.append(partial(client.remove_object, bucket, key))
        for step in steps:
            try:
                step()
            except FOREIGN as exc:
                completed = isinstance(exc, S3Error) and exc.code == "NoSuchUpload"
                if not completed:
                    logger.warning("the unfinished upload of %s was left: %r", key, exc)


def part_size(limit_bytes: int) -> int:
    """Return the size of parts with which `limit_bytes` fit into the parts that S3 allows.

    It is as small as possible, because each running upload has a part in memory.
    """
    needed = -(-limit_bytes // MOST_PARTS)
    return max(SMALLEST_PART, -(-needed // _MEBIBYTE) * _MEBIBYTE)


def stat(s3: S3, pool: CallPool, key: str) -> StoredBlob | None:
    """Return the size and ETag of an object; None if it does not exist."""
    try:
        found = pool.client.stat_object(s3.bucket, key)
    except S3Error as exc:
        if exc.code == ABSENT:
            return None
        raise
    return StoredBlob(found.size or 0, found.etag or "")
