"""Downloads a stored media into a file: resumed where it stopped, checked before it has its name.

What has arrived is in `<path>.part`, from the first byte on without a gap. It becomes `path` once
its SHA-256 is that of the stored media, so `path` is never a part of a file. One download at a time
writes to it: another one to the same path is refused.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO, Final

from ingot.connection import Connection
from ingot.errors import ChecksumMismatch, Conflict, ServiceFailed
from ingot.v1.media_pb2 import Blob, Media
from ingot.v1.media_service_pb2 import DownloadRequest

if sys.platform != "win32":
    import fcntl

# Called with the bytes that are there and the bytes in all.
Progress = Callable[[int, int], None]

_BLOCK_SIZE: Final = 1 << 20
# What file systems answer that have no locks.
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)


def destination(path: Path) -> Path:
    """Where the file that is to be at `path` is put: at the end of links.

    Raises OSError when something is there that is no file: a directory, or a device or a pipe,
    which a file must not take the place of.
    """
    place = Path(os.path.realpath(path))
    if place.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return place if path.is_symlink() else path


def named_file(media: Media, name: str) -> tuple[Blob, DownloadRequest]:
    """The file that `name` means, and a request for it.

    That is the side file whose address it is, else the blob of `media`.
    """
    scheme, _, address = name.partition("://")
    for side in media.side_files if scheme.lower() in ("s3", "gs") else ():
        if side.url.partition("://")[2] == address:
            blob = Blob(
                url=side.url,
                size_bytes=side.size_bytes,
                content_type=side.content_type,
                sha256=side.sha256,
            )
            return blob, DownloadRequest(url=side.url)
    return media.blob, DownloadRequest(media_id=media.id)


async def download(
    connection: Connection,
    blob: Blob,
    wanted: DownloadRequest,
    path: Path,
    progress: Progress | None,
) -> None:
    """Brings a file, that of `named_file`, to `path`, replacing what is there.

    Raises ChecksumMismatch when the bytes are not the stored ones, Conflict when other content has
    been stored meanwhile, OSError when the file cannot be written.
    """
    path = destination(path)
    partial = path.with_name(path.name + ".part")
    loop = asyncio.get_running_loop()
    # One thread, so that a write still under way at a cancel comes before the close.
    thread = ThreadPoolExecutor(1, "ingot-download")
    try:
        file = await loop.run_in_executor(thread, _PartialFile, partial)
        try:
            begun = 0 < file.size <= blob.size_bytes
            await _receive(connection, blob, wanted, file, thread, progress)
            if begun and file.sha256 != blob.sha256:
                # What was there before was a part of something else.
                await loop.run_in_executor(thread, file.clear)
                await _receive(connection, blob, wanted, file, thread, progress)
            if file.sha256 != blob.sha256:
                await loop.run_in_executor(thread, partial.unlink)
                raise ChecksumMismatch(
                    f"The {file.size} bytes received of {blob.url} do not have the checksum of the"
                    " stored file; they were thrown away."
                )
            await loop.run_in_executor(thread, file.become, path)
        except Conflict:
            await loop.run_in_executor(thread, file.clear)
            raise
        finally:
            await loop.run_in_executor(thread, file.close)
    finally:
        thread.shutdown(wait=False)


async def _receive(
    connection: Connection,
    blob: Blob,
    wanted: DownloadRequest,
    file: _PartialFile,
    thread: ThreadPoolExecutor,
    progress: Progress | None,
) -> None:
    """Appends what is missing in `file`."""
    loop = asyncio.get_running_loop()
    total = blob.size_bytes
    if file.size > total:
        await loop.run_in_executor(thread, file.clear)
    received = file.size
    block = bytearray()

    def request() -> DownloadRequest:
        rest = DownloadRequest(offset=received, sha256=blob.sha256)
        rest.MergeFrom(wanted)
        return rest

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
        self._path = path
        self._file = _opened(path)
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

    def become(self, path: Path) -> None:
        self._file.flush()
        if sys.platform == "win32":
            self._file.close()
        # While it is open it is locked: nobody else takes it up before it has its name.
        self._path.replace(path)

    def close(self) -> None:
        if not self.size:  # nothing that could be gone on from
            self._path.unlink(missing_ok=True)
        self._file.close()


def _opened(path: Path) -> BinaryIO:
    """The file at `path`, to append to, held against other downloads where the system can do so."""
    while True:
        file = path.open("a+b")
        try:
            _lock(file, path)
            if _is_at(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # it got its name, or was thrown away, since it was opened


def _lock(file: BinaryIO, path: Path) -> None:
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(errno.EBUSY, "Another download writes to it", os.fspath(path)) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
