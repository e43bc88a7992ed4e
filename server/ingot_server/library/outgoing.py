"""What an upload reads from: counts and hashes each byte on its way out, and can be abandoned."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import BinaryIO, Final

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure

SMALLEST_PART: Final = 5 << 20
MOST_PARTS: Final = 10_000
_MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """What the bucket says of an object."""

    size_bytes: int
    etag: str


class Interrupted(OSError):
    """The content ended before its end: `Outgoing.error` says why."""


class Outgoing:
    """A stream on its way to S3 in parts of `part_size` bytes.

    What reading the content raises is kept in `error`, for the caller to raise again once the
    upload was aborted.
    """

    def __init__(self, content: BinaryIO, part_size: int) -> None:
        self._content = content
        self.part_size = part_size
        self._part = hashlib.md5(usedforsecurity=False)
        self._parts: list[bytes] = []
        self.size_bytes = 0
        self.error: BaseException | None = None
        self.abandoned = False

    def read(self, size: int) -> bytes:
        """Blocks until `size` bytes are there, or the end."""
        if self.abandoned:
            self.error = self.error or Interrupted("The upload was given up.")
        if self.error is not None:
            raise Interrupted from self.error
        try:
            data = self._content.read(size)
            # The SDK joins short reads one by one, copying the part each time.
            if data and len(data) < size:
                pieces = [data]
                missing = size - len(data)
                while missing and (piece := self._content.read(missing)):
                    pieces.append(piece)
                    missing -= len(piece)
                data = b"".join(pieces)
        except BaseException as exc:
            self.error = exc
            # The SDK aborts its multipart upload on an Exception only.
            raise Interrupted from exc
        self._digest(memoryview(data))
        return data

    def close(self) -> None:
        """Closes the content, from any thread."""
        self._content.close()

    def check(self, stored: StoredBlob, *, announced: int | None, etag_is_md5: bool) -> None:
        """Raises Failure when something else was stored than was sent, or sent than announced."""
        # SeaweedFS takes parts whose signed SHA-256 is wrong (MinIO refuses them): only the ETag
        # shows that what is stored is what was sent. MD5 costs 1.5 s of CPU a GB.
        if stored.size_bytes != self.size_bytes or (etag_is_md5 and stored.etag != self.etag()):
            raise Failure(
                reason_pb2.REASON_STORAGE_UNAVAILABLE,
                f"The S3 server stored something else than was sent: {stored}, not "
                f"{self.size_bytes} bytes with ETag {self.etag()}. Check its disks and whatever is "
                "between it and Ingot.",
            )
        if announced is not None and announced != self.size_bytes:
            raise Failure(
                reason_pb2.REASON_TRUNCATED,
                f"{announced} bytes were announced, {self.size_bytes} came.",
            )

    def etag(self) -> str:
        """The ETag that S3 gives these bytes where its ETags are made of MD5.

        One PUT: MD5 of the content. Multipart: MD5 over the MD5s of the parts, a dash, their number
        (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html).
        """
        if self.size_bytes <= self.part_size:
            return self._part.hexdigest()
        parts = self._parts if self._at_boundary else [*self._parts, self._part.digest()]
        return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"

    def _digest(self, view: memoryview) -> None:
        while view:
            # A full part is closed when the next one begins: a lone one is no multipart upload.
            if self.size_bytes and self._at_boundary:
                self._part = hashlib.md5(usedforsecurity=False)
            room = self.part_size - self.size_bytes % self.part_size
            piece, view = view[:room], view[room:]
            self._part.update(piece)
            self.size_bytes += len(piece)
            if self._at_boundary:
                self._parts.append(self._part.digest())

    @property
    def _at_boundary(self) -> bool:
        return self.size_bytes % self.part_size == 0


def part_size(limit_bytes: int) -> int:
    """Bytes a part, so that `limit_bytes` fit into the parts that S3 allows.

    As small as possible: each running upload holds a part in memory, and one being read.
    """
    needed = -(-limit_bytes // MOST_PARTS)
    return max(SMALLEST_PART, -(-needed // _MEBIBYTE) * _MEBIBYTE)
