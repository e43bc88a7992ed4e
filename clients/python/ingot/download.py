"""Downloads a stored media into a file: resumed where it stopped, checked before it has its name.

What has arrived is in `<path>.part`, from the first byte on without a gap. It becomes `path` once
its SHA-256 is that of the stored media, so `path` is never a part of a file.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Final

from ingot.connection import Connection
from ingot.errors import ChecksumMismatch, Conflict, ServiceFailed
from ingot.v1.media_pb2 import Media
from ingot.v1.media_service_pb2 import DownloadRequest

# Called with the bytes that are there and the bytes in all.
Progress = Callable[[int, int], None]

_BLOCK_SIZE: Final = 1 << 20


async def download(
    connection: Connection, media: Media, path: Path, progress: Progress | None
) -> None:
    """Brings the blob of `media` to `path`, replacing what is there.

    Raises ChecksumMismatch when the bytes are not the stored ones, Conflict when other content has
    been stored meanwhile, OSError when the file cannot be written.
    """
    partial = path.with_name(path.name + ".part")
    loop = asyncio.get_running_loop()
    # One thread, so that a write still under way at a cancel comes before the close.
    thread = ThreadPoolExecutor(1, "ingot-download")
    try:
        file = await loop.run_in_executor(thread, _PartialFile, partial)
        try:
            begun = 0 < file.size <= media.blob.size_bytes
            await _receive(connection, media, file, thread, progress)
            if begun and file.sha256 != media.blob.sha256:
                # What was there before was a part of something else.
                await loop.run_in_executor(thread, file.clear)
                await _receive(connection, media, file, thread, progress)
        except Conflict:
            await loop.run_in_executor(thread, file.clear)
            raise
        finally:
            await loop.run_in_executor(thread, file.close)
        if file.sha256 != media.blob.sha256:
            await loop.run_in_executor(thread, partial.unlink)
            raise ChecksumMismatch(
                f"The {file.size} bytes received for media {media.id} do not have the checksum of"
                " the stored file; they were thrown away."
            )
        await loop.run_in_executor(thread, partial.replace, path)
    finally:
        thread.shutdown(wait=False)


async def _receive(
    connection: Connection,
    media: Media,
    file: _PartialFile,
    thread: ThreadPoolExecutor,
    progress: Progress | None,
) -> None:
    """Appends what is missing in `file`."""
    loop = asyncio.get_running_loop()
    total = media.blob.size_bytes
    if file.size > total:
        await loop.run_in_executor(thread, file.clear)
    received = file.size
    block = bytearray()

    def request() -> DownloadRequest:
        return DownloadRequest(media_id=media.id, offset=received, sha256=media.blob.sha256)

    if progress is not None:
        progress(received, total)
    try:
        async with aclosing(connection.stream(connection.media.Download, request)) as stream:
            while received < total:
                response = await anext(stream)
                if response.offset != received:
                    raise ServiceFailed(
                        f"The server sent byte {response.offset} where {received} was due."
                    )
                block += response.data
                received += len(response.data)
                if len(block) >= _BLOCK_SIZE:
                    full, block = block, bytearray()
                    await loop.run_in_executor(thread, file.append, full)
                if progress is not None:
                    progress(received, total)
    finally:
        await loop.run_in_executor(thread, file.append, block)


class _PartialFile:
    """The file that grows, and the SHA-256 of what is in it. Blocking: for one thread."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        self._digest = hashlib.sha256()
        self.size = 0
        self._file.seek(0)
        while block := self._file.read(_BLOCK_SIZE):
            self._digest.update(block)
            self.size += len(block)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def append(self, data: bytes | bytearray) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def clear(self) -> None:
        self._file.truncate(0)
        self._digest = hashlib.sha256()
        self.size = 0

    def close(self) -> None:
        self._file.close()
