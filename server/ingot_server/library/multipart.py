"""A file's way into the bucket: read a part, send it, read the next; it may still be growing.

The SDK's own `put_object` was measured and left. For 16 uploads it holds 217 MiB, this 80. It
hashes each part with SHA-256 besides. When the content raises, its parallel uploads leave threads
and parts under way behind. One part after the other goes into MinIO at 120 MB/s, two at once, which
takes content that is there already, at 200.
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
from ingot_server.library.s3 import ABSENT, FOREIGN, S3, error_of, etag_of

logger = logging.getLogger(__name__)

SMALLEST_PART: Final = 5 << 20
MOST_PARTS: Final = 10_000
_MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """What the bucket says of an object."""

    size_bytes: int
    etag: str


class Abandoned(Exception):
    """The upload was given up by who asked for it."""


class Outgoing:
    """One upload of `content`; `run` blocks, and belongs to one thread.

    What fits into less than a part is one PUT; else `parts_at_once` are in memory. `abandoned`, set
    from any thread, ends it before the next part; closing the content ends a read that waits.
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
        self.abandoned = False

    def run(self, *, announced: int | None, etag_is_md5: bool) -> StoredBlob:
        """Sends everything and checks that the bucket has it; what it raises leaves nothing behind.

        Raises Failure STORAGE_UNAVAILABLE where S3 is at fault, TRUNCATED when another size came
        than announced, Abandoned, or what reading the content raises.
        """
        with contextlib.closing(self._content):
            try:
                self._send()
                return self._verified(announced, etag_is_md5=etag_is_md5)
            except BaseException:
                self._discard()
                raise

    def close(self) -> None:
        """Closes the content, from any thread."""
        self._content.close()

    def _send(self) -> None:
        data = self._read()
        if len(data) < self._part_bytes:
            self._written = True
            headers = {"Content-Type": self._content_type}
            self._s3.guarded(partial(self._put, data, self._digest(data), headers, {}))
            return
        # The SDK has no public calls for a multipart upload.
        client, bucket, key = self._s3.client, self._s3.bucket, self._key
        asked: dict[str, str | list[str] | tuple[str]] = {"Content-Type": self._content_type}
        self._upload_id = self._s3.guarded(
            partial(client._create_multipart_upload, bucket, key, asked)  # noqa: SLF001
        )
        sending: deque[Future[str]] = deque()
        try:
            while data:
                sending.append(self._s3.calls.submit(self._s3.guarded, self._part(data)))
                if len(sending) == self._parts_at_once:
                    self._sent(sending.popleft())
                del data  # before the next is read
                data = self._read()
            while sending:
                self._sent(sending.popleft())
        finally:
            wait(sending)  # or a part would come after the upload was given up
        self._written = True
        complete = client._complete_multipart_upload  # noqa: SLF001
        self._s3.guarded(partial(complete, bucket, key, self._upload_id, self._parts))

    def _read(self) -> bytes:
        """The next part; shorter only at the end of the content."""
        pieces = list(self._pieces())
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self.abandoned:
            raise Abandoned
        self._size += len(data)
        return data

    def _pieces(self) -> Iterator[bytes]:
        missing = self._part_bytes
        while missing and not self.abandoned and (piece := self._content.read(missing)):
            missing -= len(piece)
            yield piece

    def _part(self, data: bytes) -> Callable[[], str]:
        number = len(self._digests) + 1
        query = {"partNumber": str(number), "uploadId": self._upload_id}
        digest = self._digest(data)
        return lambda: self._put(data, digest, {}, query)

    def _sent(self, part: Future[str]) -> None:
        self._parts.append(Part(len(self._parts) + 1, part.result()))

    def _digest(self, data: bytes) -> bytes:
        self._digests.append(hashlib.md5(data, usedforsecurity=False).digest())
        return self._digests[-1]

    def _put(
        self, data: bytes, digest: bytes, headers: dict[str, str], query: dict[str, str]
    ) -> str:
        response = self._s3.put(self._key, data, digest, headers=headers, query=query)
        if response.status != 200:
            raise error_of(response)
        return etag_of(response)

    def _verified(self, announced: int | None, *, etag_is_md5: bool) -> StoredBlob:
        if self.abandoned:
            raise Abandoned
        stored = self._s3.guarded(partial(stat, self._s3, self._key))
        # Each part was checked by its Content-MD5; this shows that all are there, in their order.
        if (
            stored is None
            or stored.size_bytes != self._size
            or (etag_is_md5 and stored.etag != self._etag())
        ):
            raise Failure(
                reason_pb2.REASON_STORAGE_UNAVAILABLE,
                f"The S3 server at {self._s3.endpoint} has {stored}, but {self._size} bytes with "
                f"the ETag {self._etag()} were sent. Check its disks, and what is in front of it.",
            )
        if announced is not None and announced != self._size:
            raise Failure(
                reason_pb2.REASON_TRUNCATED,
                f"{announced} bytes were announced, {self._size} came.",
            )
        return stored

    def _etag(self) -> str:
        """The ETag of these bytes where ETags are made of MD5.

        One PUT: MD5 of the content. Outgoing: MD5 over the MD5s of the parts, a dash, their number
        (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html).
        """
        if not self._upload_id:
            return self._digests[0].hex()
        digest = hashlib.md5(b"".join(self._digests), usedforsecurity=False)
        return f"{digest.hexdigest()}-{len(self._digests)}"

    def _discard(self) -> None:
        client, bucket, key = self._s3.client, self._s3.bucket, self._key
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
                    logger.warning("what was uploaded of %s was left: %r", key, exc)


def part_size(limit_bytes: int) -> int:
    """Bytes a part, so that `limit_bytes` fit into the parts that S3 allows.

    As small as possible: each running upload holds one in memory.
    """
    needed = -(-limit_bytes // MOST_PARTS)
    return max(SMALLEST_PART, -(-needed // _MEBIBYTE) * _MEBIBYTE)


def stat(s3: S3, key: str) -> StoredBlob | None:
    """Size and ETag of an object; None when there is none."""
    try:
        found = s3.client.stat_object(s3.bucket, key)
    except S3Error as exc:
        if exc.code == ABSENT:
            return None
        raise
    return StoredBlob(found.size or 0, found.etag or "")
