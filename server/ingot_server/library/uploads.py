"""Where the bytes of uploads lie until a job has made them a media.

    uploads/<hash of the upload id>/header.json         the UploadHeader as protobuf JSON
    uploads/<hash of the upload id>/<offset, 20 digits>  the bytes from there on, 8 MiB or fewer

The parts follow each other without a gap: a writer puts one only where the part before it ends, and
only if there is none. So of two writers the bucket refuses the second, whichever API server each is
on, and what has arrived for good is the sum of the parts. A part is never changed; all are removed
together, once the media is stored or nothing has come for `upload_ttl`. A browser puts the
whole file as the part at offset 0.
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
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs

FOLDER: Final = "uploads/"
PART_BYTES: Final = 8 << 20
_HEADER: Final = "header.json"
_CONTENT_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """How an upload stands."""

    header: UploadHeader
    committed_size: int
    """Bytes that have arrived for good."""
    offsets: tuple[int, ...]
    """Where its parts begin, ascending."""
    expire_time: datetime
    """When it is removed unless more arrives."""


class Uploads:
    """All uploads in the bucket. Every method raises Failure STORAGE_UNAVAILABLE as Blobs does."""

    def __init__(self, blobs: Blobs, settings: Settings) -> None:
        self._blobs = blobs
        self._ttl = settings.upload_ttl

    async def begin(self, upload_id: str, header: UploadHeader) -> UploadStatus:
        """Begins an upload, or takes up the one there is, whose first header then stands.

        Raises Failure INVALID_REQUEST when that one announced another size or SHA-256.
        """
        status = await self.status(upload_id)
        if status is None:
            if await self._put_header(upload_id, header, if_none_match=True):
                return UploadStatus(header, 0, (), datetime.now(UTC) + self._ttl)
            # Another call with this id was faster.
            status = await self.status(upload_id)
            if status is None:
                raise upload_not_found(upload_id)
        for field in ("size_bytes", "sha256"):
            first, now = getattr(status.header, field), getattr(header, field)
            if first and now and first != now:
                raise Failure(
                    reason_pb2.REASON_INVALID_REQUEST,
                    f"The upload {upload_id} began as a file whose {field} is {first}, not {now}. "
                    "Give each file an upload_id of its own.",
                    violations={f"header.{field}": f"was {first} when the upload began"},
                )
        return status

    async def replace_header(self, upload_id: str, header: UploadHeader) -> None:
        """Replaces the header."""
        await self._put_header(upload_id, header, if_none_match=False)

    async def status(self, upload_id: str) -> UploadStatus | None:
        """How the upload stands; None when there is none."""
        folder = _folder(upload_id)
        found = await self._blobs.get(folder + _HEADER)
        if found is None:
            return None
        header = json_format.Parse(found[0].decode(), UploadHeader(), ignore_unknown_fields=True)
        committed, offsets, latest = 0, [], datetime.fromtimestamp(0, UTC)
        for item in await self._blobs.list_objects(folder):
            latest = max(latest, item.modify_time)
            name = item.key.removeprefix(folder)
            if name.isdecimal() and int(name) == committed and item.size_bytes:
                offsets.append(committed)
                committed += item.size_bytes
        return UploadStatus(header, committed, tuple(offsets), latest + self._ttl)

    async def put_part(self, upload_id: str, offset: int, data: bytes) -> bool:
        """Writes a part where the one before it ends; False when there is another already."""
        key = _part(upload_id, offset)
        if await self._blobs.put(key, data, content_type=_CONTENT_TYPE, if_none_match=True):
            return True
        # Perhaps it is this very part: its first answer was lost, or both writers have the file.
        found = await self._blobs.get(key)
        return found is not None and found[0] == data

    async def read_content(self, upload_id: str, status: UploadStatus) -> AsyncIterator[bytes]:
        """All bytes in order, in chunks of 256 KiB at most."""
        for offset in status.offsets:
            async for chunk in self._blobs.read_object(_part(upload_id, offset), offset=0, limit=0):
                yield chunk

    async def remove(self, upload_id: str) -> None:
        """Removes an upload with all its bytes."""
        await self._blobs.remove_tree(_folder(upload_id))

    async def signed_put_url(self, upload_id: str, lifetime: timedelta) -> str:
        """A signed link that takes the whole file by one PUT."""
        return await self._blobs.upload_url(_part(upload_id, 0), lifetime=lifetime)

    async def sweep(self) -> int:
        """Removes the uploads that nothing came for within `upload_ttl`; tells how many."""
        latest: dict[str, datetime] = defaultdict(lambda: datetime.fromtimestamp(0, UTC))
        for item in await self._blobs.list_objects(FOLDER):
            folder = item.key[: item.key.find("/", len(FOLDER)) + 1]
            latest[folder] = max(latest[folder], item.modify_time)
        now = datetime.now(UTC)
        expired = [
            folder for folder, at in latest.items() if now - at > self._ttl and folder != FOLDER
        ]
        for folder in expired:
            await self._blobs.remove_tree(folder)
        return len(expired)

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
    """Appends to one upload from `offset` on: one part is on its way while the next one comes in.

    Raises Failure UPLOAD_OFFSET_MISMATCH when another writer was faster. Holds two parts, 16 MiB,
    in memory at most.
    """

    def __init__(self, uploads: Uploads, upload_id: str, offset: int) -> None:
        self._uploads = uploads
        self._upload_id = upload_id
        self._pieces: list[bytes] = []
        self._held = 0
        self._sending: asyncio.Task[bool] | None = None
        self._sent = offset

    @property
    def offset(self) -> int:
        """Where the next byte goes."""
        return self._sent + self._held

    async def write(self, data: bytes) -> None:
        """Takes the next bytes; returns at once unless the bucket is slower than the caller."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= PART_BYTES:
            await self._send()

    async def flush(self) -> None:
        """Returns when all bytes have arrived for good."""
        if self._held:
            await self._send()
        await self._arrived()

    async def drop(self) -> None:
        """Forgets what is held; returns when no part is on its way, to arrive after a removal."""
        self._pieces, self._held = [], 0
        if self._sending is not None:
            await asyncio.wait({self._sending})

    async def _send(self) -> None:
        await self._arrived()
        data, offset = b"".join(self._pieces), self._sent
        self._pieces, self._held = [], 0
        self._sent += len(data)
        self._sending = asyncio.create_task(self._uploads.put_part(self._upload_id, offset, data))
        # Looked at, or asyncio complains when the caller hangs up meanwhile.
        self._sending.add_done_callback(lambda sent: sent.cancelled() or sent.exception())

    async def _arrived(self) -> None:
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
    """The failure of bytes that do not continue an upload."""
    return Failure(
        reason_pb2.REASON_UPLOAD_OFFSET_MISMATCH,
        f"The upload {upload_id} has {committed_size} bytes; continue there.",
        metadata={"committed_size": str(committed_size)},
    )


def upload_not_found(upload_id: str) -> Failure:
    """The failure of an upload that is not there."""
    return Failure(
        reason_pb2.REASON_UPLOAD_NOT_FOUND,
        f"There is no upload {upload_id}: it never began, was completed, or expired. Begin it anew "
        "from offset 0.",
    )


def _folder(upload_id: str) -> str:
    return f"{FOLDER}{hashlib.sha256(upload_id.encode()).hexdigest()}/"


def _part(upload_id: str, offset: int) -> str:
    return f"{_folder(upload_id)}{offset:020}"
