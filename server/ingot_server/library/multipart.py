"""Multipart uploads: wait for a part of the content, hash it, send it. The content may grow.

Nothing of the content stays in memory. A part is read twice, once for its checksum and once to be
sent, and the second time it comes from the page cache. So parts can be large, and requests few.

The SDK's own `put_object` was measured and is not used. For 16 uploads it needs 217 MiB of memory,
this module 80 when parts of 5 MiB were in memory. It also hashes each part with SHA-256. When the
content raises, its parallel uploads leave threads and parts behind. MinIO receives 120 MB/s in
parts one after another, and 200 MB/s in two parts at once, as far as they are there.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Final, Protocol

from minio.error import S3Error

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.library.call_pool import CallPool
from ingot_server.library.checksums import (
    ALGORITHM_HEADER,
    CRC32_HEADER,
    Checksum,
    Crc32,
    Md5,
    composite,
)
from ingot_server.library.interruptible import Call
from ingot_server.library.multipart_completion import Answer, complete
from ingot_server.library.s3 import ABSENT, FOREIGN, S3, error_of, etag_of
from ingot_server.log_events import Event

logger = EventLogger(__name__)

SMALLEST_PART: Final = 5 << 20
MOST_PARTS: Final = 10_000
# Parts of content whose size is not known. All have one size, because some servers require that.
PART_OF_UNKNOWN: Final = 16 << 20
# So many parts are few enough; after the last byte has arrived, one of them is still to be sent.
_PARTS: Final = 50
_LARGE_PART: Final = 64 << 20
# A third gains little more.
PARTS_AT_ONCE: Final = 2
_MEBIBYTE: Final = 1 << 20
_CHUNK_BYTES: Final = 256 << 10


class Content(Protocol):
    """What is uploaded. Every method may raise, from any thread; that ends the upload."""

    @property
    def expected_bytes(self) -> int | None:
        """How large the content will be, as far as is known after `wait` has returned."""

    def wait(self, end: int) -> int:
        """Wait until byte `end` is there, or all are; return how many there are up to it."""

    def part(self, begin: int, end: int) -> BinaryIO:
        """Return a reader of bytes that are there, which can `seek`."""

    def close(self) -> None:
        """End a `wait` in another thread, and all readers."""


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """The size and ETag that the bucket reports for an object."""

    size_bytes: int
    etag: str


class UploadAborted(Exception):
    """The caller has aborted the upload."""


class MultipartUpload:
    """One upload of `content`; `send` blocks, and belongs to one thread.

    Content that is smaller than a part is one PUT; else up to `parts_at_once` are on their way.
    `max_size` is how large content of unknown size may be. `seen` gets all bytes, in order.
    `checks_crc32` is whether the server refuses what does not have the CRC32 that was announced.
    Setting `aborted`, from any thread, ends the upload before the next part; `close` ends one that
    waits for content.
    """

    def __init__(
        self,
        s3: S3,
        key: str,
        content: Content,
        content_type: str,
        *,
        max_size: int,
        parts_at_once: int,
        checks_crc32: bool,
        seen: Callable[[bytes], object],
    ) -> None:
        self._s3 = s3
        self._key = key
        self._name = s3.object_name(key)
        self._content = content
        self._content_type = content_type
        self._max_size = max_size
        self._seen = seen
        self._parts_at_once = parts_at_once
        self._upload_id = ""
        self._checks_crc32 = checks_crc32
        self._checksums: list[Checksum] = []
        self._etags: list[str] = []
        self._answer = Answer("", "")
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
        # When the first bytes are there, it is known how many more are expected.
        self._content.wait(SMALLEST_PART)
        part_bytes = part_size(self._content.expected_bytes, self._max_size)
        end = self._wait(part_bytes)
        if end < part_bytes:
            self._written = True
            put = self._prepare(end, {"Content-Type": self._content_type}, {})
            self._answer = self._s3.guarded(put)
            return
        # The SDK does not have public methods for a multipart upload.
        client, bucket, name = self._s3.calls.client, self._s3.bucket, self._name
        metadata: dict[str, str | list[str] | tuple[str]] = {"Content-Type": self._content_type}
        if self._checks_crc32:
            metadata[ALGORITHM_HEADER] = "CRC32"
        self._upload_id = self._s3.guarded(
            partial(client._create_multipart_upload, bucket, name, metadata)  # noqa: SLF001
        )
        sending: deque[Future[Answer]] = deque()
        try:
            while end > self._size:
                query = {"partNumber": str(len(self._checksums) + 1), "uploadId": self._upload_id}
                part = self._prepare(end, {}, query)
                sending.append(self._s3.calls.submit(part, self._call()))
                sending[-1].add_done_callback(self._stop_waiting_if_failed)
                if len(sending) == self._parts_at_once:
                    self._etags.append(sending.popleft().result().etag)
                end = self._wait(self._size + part_bytes)
            while sending:
                self._etags.append(sending.popleft().result().etag)
        except BaseException:
            wait(sending)  # so that no part arrives after the upload was aborted
            for each in sending:
                if not (self.aborted or each.cancelled()):
                    each.result()  # raises what has ended the wait for content
            raise
        self._written = True
        self._answer = self._s3.guarded(
            partial(complete, self._s3, name, self._upload_id, self._etags, self._checksums)
        )

    def _stop_waiting_if_failed(self, part: Future[Answer]) -> None:
        """End a wait for content that would be sent in vain; `part` says why."""
        if not part.cancelled() and part.exception() is not None:
            self._content.close()

    def _wait(self, end: int) -> int:
        available = self._content.wait(end)
        if self.aborted:
            raise UploadAborted
        return available

    def _prepare(
        self, end: int, headers: dict[str, str], query: dict[str, str]
    ) -> Callable[[], Answer]:
        """Read the next part, which ends at `end`; return what sends it, in any thread."""
        begin, self._size = self._size, end
        checksum: Checksum = Crc32() if self._checks_crc32 else Md5()
        with self._content.part(begin, end) as part:
            while chunk := part.read(_CHUNK_BYTES):
                checksum.update(chunk)
                self._seen(chunk)
        self._checksums.append(checksum)
        return partial(self._put, begin, end, checksum, headers, query)

    def _put(
        self,
        begin: int,
        end: int,
        checksum: Checksum,
        headers: dict[str, str],
        query: dict[str, str],
    ) -> Answer:
        with self._content.part(begin, end) as part:
            response = self._s3.put(
                self._s3.calls,
                self._key,
                part,
                checksum,
                size=end - begin,
                headers=headers,
                query=query,
            )
        if response.status != 200:
            raise error_of(response)
        return Answer(etag_of(response), response.headers.get(CRC32_HEADER, ""))

    def _verified(self, announced: int | None, *, etag_is_md5: bool) -> StoredBlob:
        if self.aborted:
            raise UploadAborted
        stored = self._proved(etag_is_md5=etag_is_md5)
        if announced is not None and announced != self._size:
            raise Failure(
                reason_pb2.REASON_TRUNCATED,
                f"{announced} bytes were announced, but {self._size} arrived.",
            )
        return stored

    def _proved(self, *, etag_is_md5: bool) -> StoredBlob:
        """Return what is stored, which is what was sent; ask, if the answer does not prove it.

        Each part was checked on arrival. The checksum of all proves that they are there, in order.
        """
        checksum = composite(self._checksums) if self._upload_id else str(self._checksums[0])
        etag = self._answer.etag
        if etag and self._checksum_said(etag, etag_is_md5=etag_is_md5) == checksum:
            return StoredBlob(self._size, etag)
        stored = self._s3.guarded(partial(stat, self._s3, self._s3.calls, self._key))
        said = self._checksum_said(stored.etag, etag_is_md5=etag_is_md5) if stored else ""
        if stored is None or stored.size_bytes != self._size or said not in ("", checksum):
            raise Failure(
                reason_pb2.REASON_STORAGE_UNAVAILABLE,
                f"The S3 server at {self._s3.endpoint} has {stored} with the checksum "
                f"{said or 'unknown'}, but {self._size} bytes with {checksum} were sent. Check its "
                "disks and any proxy before it.",
            )
        return stored

    def _checksum_said(self, etag: str, *, etag_is_md5: bool) -> str:
        """Return the checksum that the server gives for the whole; empty if it gives none."""
        if self._checks_crc32:
            return self._answer.crc32
        return etag if etag_is_md5 else ""

    def _discard(self) -> None:
        client, bucket, name = self._s3.calls.client, self._s3.bucket, self._name
        steps: list[Callable[[], object]] = []
        if self._upload_id:
            abort = client._abort_multipart_upload  # noqa: SLF001
            steps.append(partial(abort, bucket, name, self._upload_id))
        if self._written:
            steps.append(partial(client.remove_object, bucket, name))
        for step in steps:
            try:
                step()
            except FOREIGN as exc:
                completed = isinstance(exc, S3Error) and exc.code == "NoSuchUpload"
                if not completed:
                    logger.warning(
                        Event.OBJECTS_LEFT, "the unfinished upload of %s was left: %r", name, exc
                    )


def part_size(expected_bytes: int | None, max_size: int) -> int:
    """Return the size of the parts of content: the same for all of them, but for the last one.

    They are few, and yet so small that the last one is soon sent. Content of which the size is not
    known, or is not true, has room in as many parts as S3 allows, up to `max_size`.
    """
    wanted = PART_OF_UNKNOWN
    if expected_bytes is not None:
        wanted = min(max(SMALLEST_PART, -(-expected_bytes // _PARTS)), _LARGE_PART)
    needed = -(-max(expected_bytes or 0, max_size) // MOST_PARTS)
    return -(-max(wanted, needed) // _MEBIBYTE) * _MEBIBYTE


def stat(s3: S3, pool: CallPool, key: str) -> StoredBlob | None:
    """Return the size and ETag of an object; None if it does not exist."""
    try:
        found = pool.client.stat_object(s3.bucket, s3.object_name(key))
    except S3Error as exc:
        if exc.code == ABSENT:
            return None
        raise
    return StoredBlob(found.size or 0, found.etag or "")
