"""Uploads: bytes that callers send, stored in parts until a job has made a media item of them.

    uploads/<hash of the upload id>/header.json   the UploadHeader as protobuf JSON
    uploads/<hash of the upload id>/<part>        bytes of the file; see upload_parts.py
    uploads/<hash of the upload id>/sha256-<hex>  empty; a worker has read the file and found this

An API server appends parts of 8 MiB: it adds one only at the end of the bytes before it, and only
if there is none yet. So of two writers the bucket refuses the second, whichever API server each
uses. Signed links accept parts in any order. The committed bytes are those from the beginning to
the first gap. All parts are removed together when the media item is stored, or when nothing has
arrived for `upload_ttl`.

The upload id is always the stored one (upload_ids.py), here and in the header. Messages have the
one that the caller sent.

An upload is complete if the header has the size of the file and so many bytes are committed.

The SHA-256 in the header is what the caller announced. It proves nothing, and may be that of
another caller's file. Only what a worker found in the bytes says which content an upload has.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf import json_format

from ingot.v1 import reason_pb2
from ingot.v1.ingest_service_pb2 import UploadHeader
from ingot.v1.media_pb2 import Blob
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.upload_ids import sent_upload_id
from ingot_server.library.upload_parts import (
    Part,
    Segment,
    appended_name,
    file_segments,
    linked_name,
    parse_part,
)

FOLDER: Final = "uploads/"
PART_BYTES: Final = 8 << 20
_HEADER: Final = "header.json"
_PROVED: Final = "sha256-"
_CONTENT_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """The progress of one upload."""

    header: UploadHeader
    parts: tuple[Part, ...]
    segments: tuple[Segment, ...]
    """What to read for the committed bytes."""
    expire_time: datetime
    """When it is removed if no more bytes arrive."""
    misfits: tuple[str, ...] = ()
    """The names of parts that do not have the size of their link. They count for nothing."""
    sha256: str = ""
    """The SHA-256 that a worker found in the bytes; empty if none has read them all."""

    @property
    def committed_size(self) -> int:
        """Bytes that are stored without a gap from the beginning."""
        return sum(segment.size_bytes for segment in self.segments)

    @property
    def complete(self) -> bool:
        """Whether the size of the file is known, and all of it is stored."""
        return 0 < self.header.size_bytes == self.committed_size


class Uploads:
    """All uploads in the bucket. Every method raises Failure STORAGE_UNAVAILABLE as Blobs does."""

    def __init__(self, blobs: Blobs, settings: Settings) -> None:
        self._blobs = blobs
        self._ttl = settings.upload_ttl

    async def begin(self, upload_id: str, header: UploadHeader) -> UploadStatus:
        """Begin an upload, or resume the existing one, which keeps its first header.

        Raises Failure INVALID_REQUEST if that one announced another size or SHA-256.
        """
        status = await self.status(upload_id)
        if status is None:
            if await self._put_header(upload_id, header, if_none_match=True):
                return UploadStatus(header, (), (), datetime.now(UTC) + self._ttl)
            # Another call has begun it meanwhile.
            status = await self.status(upload_id)
            if status is None:
                raise upload_not_found(upload_id)
        check_same_file(upload_id, header, status.header)
        return status

    async def create(self, upload_id: str, header: UploadHeader) -> UploadHeader:
        """Create an upload, unless it exists; return its header, which may be an earlier one."""
        if await self._put_header(upload_id, header, if_none_match=True):
            return header
        found = await self.header(upload_id)
        if found is None:
            raise upload_not_found(upload_id)
        return found

    async def replace_header(self, upload_id: str, header: UploadHeader) -> None:
        """Replace the header."""
        await self._put_header(upload_id, header, if_none_match=False)

    async def status(self, upload_id: str) -> UploadStatus | None:
        """Return the status of the upload; None if it does not exist."""
        header = await self.header(upload_id)
        if header is None:
            return None
        folder, parts, latest = _folder(upload_id), [], datetime.fromtimestamp(0, UTC)
        proved, misfits = "", []
        for item in await self._blobs.list_objects(folder):
            latest = max(latest, item.modify_time)
            name = item.key.removeprefix(folder)
            part = parse_part(name, item.size_bytes)
            if part is not None:
                parts.append(part)
            elif name.startswith(_PROVED):
                proved = name.removeprefix(_PROVED)
            elif name != _HEADER:
                misfits.append(name)
        segments = file_segments(parts)
        expire_time = latest + self._ttl
        return UploadStatus(header, tuple(parts), segments, expire_time, tuple(misfits), proved)

    async def header(self, upload_id: str) -> UploadHeader | None:
        """Return the header of the upload; None if it does not exist."""
        found = await self._blobs.get(_folder(upload_id) + _HEADER)
        if found is None:
            return None
        return json_format.Parse(found[0].decode(), UploadHeader(), ignore_unknown_fields=True)

    async def prove(self, upload_id: str, sha256: str) -> None:
        """Remember the SHA-256 that a worker found in all bytes of a complete upload."""
        key = _folder(upload_id) + _PROVED + sha256
        await self._blobs.put(key, b"", content_type=_CONTENT_TYPE)

    async def put_part(self, upload_id: str, offset: int, data: bytes) -> bool:
        """Append a part to the committed bytes; False if another one is there already."""
        key = _folder(upload_id) + appended_name(offset)
        if await self._blobs.put(key, data, content_type=_CONTENT_TYPE, if_none_match=True):
            return True
        # It may be the same part: its first response was lost, or both writers have the file.
        found = await self._blobs.get(key)
        return found is not None and found[0] == data

    async def remove_misfits(self, upload_id: str, status: UploadStatus) -> None:
        """Remove the objects in an upload that are none of its parts."""
        folder = _folder(upload_id)
        await self._blobs.remove_many([folder + name for name in status.misfits])

    async def read_content(self, upload_id: str, status: UploadStatus) -> AsyncIterator[bytes]:
        """Yield all bytes in order, in chunks of at most 256 KiB."""
        folder = _folder(upload_id)
        for segment in status.segments:
            async for chunk in self._blobs.read_object(
                folder + segment.name, offset=segment.skip, limit=segment.size_bytes
            ):
                yield chunk

    async def remove(self, upload_id: str) -> None:
        """Remove an upload with all its bytes."""
        await self._blobs.remove_tree(_folder(upload_id))

    async def part_url(
        self, upload_id: str, offset: int, size_bytes: int, *, lifetime: timedelta
    ) -> str:
        """Return a signed link for a PUT of the `size_bytes` bytes from `offset` on."""
        key = _folder(upload_id) + linked_name(offset, size_bytes)
        return await self._blobs.upload_url(key, lifetime=lifetime, size_bytes=size_bytes)

    async def sweep(self) -> int:
        """Remove the uploads that received nothing within `upload_ttl`; return how many."""
        expired = await self.expired()
        for folder in expired:
            await self._blobs.remove_tree(folder)
        return len(expired)

    async def expired(self) -> dict[str, datetime]:
        """Return the folders of uploads that received nothing within `upload_ttl`.

        Each has a slash at its end, and comes with the time when it last received something.
        """
        latest: dict[str, datetime] = defaultdict(lambda: datetime.fromtimestamp(0, UTC))
        for item in await self._blobs.list_objects(FOLDER):
            folder = item.key[: item.key.find("/", len(FOLDER)) + 1]
            latest[folder] = max(latest[folder], item.modify_time)
        now = datetime.now(UTC)
        return {
            folder: at for folder, at in latest.items() if now - at > self._ttl and folder != FOLDER
        }

    async def _put_header(
        self, upload_id: str, header: UploadHeader, *, if_none_match: bool
    ) -> bool:
        content = json_format.MessageToJson(header, ensure_ascii=False, sort_keys=True).encode()
        etag = await self._blobs.put(
            _folder(upload_id) + _HEADER,
            content,
            content_type="application/json",
            if_none_match=if_none_match,
        )
        return etag is not None


class UploadWriter:
    """A writer that appends to one upload from `offset` on, one part while it receives the next.

    Raises Failure UPLOAD_OFFSET_MISMATCH if another writer was faster. At most two parts, 16 MiB,
    are in memory.
    """

    def __init__(self, uploads: Uploads, upload_id: str, offset: int) -> None:
        self._uploads = uploads
        self._upload_id = upload_id
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._sending: asyncio.Task[bool] | None = None
        self._sent = offset

    @property
    def offset(self) -> int:
        """The offset of the next byte."""
        return self._sent + self._buffered

    async def write(self, data: bytes) -> None:
        """Append bytes; return at once unless the bucket is slower than the caller."""
        self._pieces.append(data)
        self._buffered += len(data)
        if self._buffered >= PART_BYTES:
            await self._send_part()

    async def flush(self) -> None:
        """Wait until all bytes are stored."""
        if self._buffered:
            await self._send_part()
        await self._wait_for_part()

    async def discard(self) -> None:
        """Discard the buffer; wait until no part is being sent, which could follow a removal."""
        self._pieces, self._buffered = [], 0
        if self._sending is not None:
            await asyncio.wait({self._sending})

    async def _send_part(self) -> None:
        await self._wait_for_part()
        data, offset = b"".join(self._pieces), self._sent
        self._pieces, self._buffered = [], 0
        self._sent += len(data)
        self._sending = asyncio.create_task(self._uploads.put_part(self._upload_id, offset, data))
        # Retrieve the exception, or asyncio logs it if the caller disconnects meanwhile.
        self._sending.add_done_callback(lambda sent: sent.cancelled() or sent.exception())

    async def _wait_for_part(self) -> None:
        if self._sending is None:
            return
        arrived = await asyncio.shield(self._sending)
        self._sending = None
        if not arrived:
            status = await self._uploads.status(self._upload_id)
            if status is None:
                raise upload_not_found(self._upload_id)
            raise offset_mismatch(self._upload_id, status.committed_size)


def offset_mismatch(upload_id: str, committed_size: int) -> Failure:
    """Return the failure of bytes that do not continue an upload, or that are missing."""
    return Failure(
        reason_pb2.REASON_UPLOAD_OFFSET_MISMATCH,
        f"The upload {sent_upload_id(upload_id)} has {committed_size} bytes without a gap. "
        f"Send the bytes from offset {committed_size} on.",
        metadata={"committed_size": str(committed_size)},
    )


def check_same_file(upload_id: str, header: UploadHeader, known: UploadHeader | Blob) -> None:
    """Raise Failure INVALID_REQUEST if `header` describes another file than that of the upload.

    `known` is what is known of that file.
    """
    for field in ("size_bytes", "sha256"):
        first, now = getattr(known, field), getattr(header, field)
        if first and now and first != now:
            raise Failure(
                reason_pb2.REASON_INVALID_REQUEST,
                f"The upload {sent_upload_id(upload_id)} began as a file whose {field} is {first}, "
                f"not {now}. Use a different upload_id for each file.",
                violations={f"header.{field}": f"was {first} when the upload began"},
            )


def upload_not_found(upload_id: str) -> Failure:
    """Return the failure of an upload that does not exist."""
    return Failure(
        reason_pb2.REASON_UPLOAD_NOT_FOUND,
        f"There is no upload {sent_upload_id(upload_id)}: it never began, or it expired, or the "
        "record of its job did. Begin it again at offset 0.",
    )


def _folder(upload_id: str) -> str:
    return f"{FOLDER}{hashlib.sha256(upload_id.encode()).hexdigest()}/"
