"""Download of a stored file: resumed where it stopped, and verified before it gets its name.

The received bytes are in `<path>.part`, without a gap from the first one on. The file is renamed to
`path` when its SHA-256 is that of the stored file, so `path` is never incomplete. Only one download
at a time writes to a path: another one is refused.
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

# Called with the number of bytes that are transferred and of all bytes.
ProgressCallback = Callable[[int, int], None]

_BLOCK_BYTES: Final = 1 << 20
# The errors of file systems that have no locks.
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)


def resolve_destination(path: Path) -> Path:
    """Return the path that a download to `path` writes, with links resolved.

    Raises OSError if `path` is a directory, a device or a pipe, which must not be replaced.
    """
    resolved = Path(os.path.realpath(path))
    if resolved.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return resolved if path.is_symlink() else path


def find_file(media: Media, name: str) -> tuple[Blob, DownloadRequest]:
    """Return the file of `media` that `name` names, and the request to download it.

    This is the side file with that internal address, otherwise the blob of the media item.
    """
    scheme, _, address = name.partition("://")
    for side_file in media.side_files if scheme.lower() in ("s3", "gs") else ():
        if side_file.url.partition("://")[2] == address:
            blob = Blob(
                url=side_file.url,
                size_bytes=side_file.size_bytes,
                content_type=side_file.content_type,
                sha256=side_file.sha256,
            )
            return blob, DownloadRequest(url=side_file.url)
    return media.blob, DownloadRequest(media_id=media.id)


async def download(
    connection: Connection,
    blob: Blob,
    request: DownloadRequest,
    path: Path,
    progress: ProgressCallback | None,
) -> None:
    """Download the file that `find_file` returned to `path`, and replace a file that is there.

    Raises ChecksumMismatch if the bytes are not those of the stored file, Conflict if other content
    was stored meanwhile, and OSError if the file cannot be written.
    """
    path = resolve_destination(path)
    partial_path = path.with_name(path.name + ".part")
    loop = asyncio.get_running_loop()
    # A single thread, so that after a cancellation a pending write is done before the close.
    thread = ThreadPoolExecutor(1, "ingot-download")
    try:
        file = await loop.run_in_executor(thread, _PartialFile, partial_path)
        try:
            resumed = 0 < file.size_bytes <= blob.size_bytes
            await _receive(connection, blob, request, file, thread, progress)
            if resumed and file.sha256 != blob.sha256:
                # The partial file was part of something else.
                await loop.run_in_executor(thread, file.clear)
                await _receive(connection, blob, request, file, thread, progress)
            if file.sha256 != blob.sha256:
                await loop.run_in_executor(thread, partial_path.unlink)
                raise ChecksumMismatch(
                    f"The {file.size_bytes} bytes downloaded from {blob.url} do not have the"
                    " checksum of the stored file, and were deleted."
                )
            await loop.run_in_executor(thread, file.rename_to, path)
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
    request: DownloadRequest,
    file: _PartialFile,
    thread: ThreadPoolExecutor,
    progress: ProgressCallback | None,
) -> None:
    """Append the bytes that `file` lacks."""
    loop = asyncio.get_running_loop()
    total = blob.size_bytes
    if file.size_bytes > total:
        await loop.run_in_executor(thread, file.clear)
    received = file.size_bytes
    block = bytearray()

    def remaining_request() -> DownloadRequest:
        remaining = DownloadRequest(offset=received, sha256=blob.sha256)
        remaining.MergeFrom(request)
        return remaining

    if progress is not None:
        progress(received, total)
    try:
        stream = connection.stream(connection.media.Download, remaining_request)
        async with aclosing(stream):
            while received < total:
                response = await anext(stream)
                if response.offset != received:
                    raise ServiceFailed(
                        f"The server sent byte {response.offset} instead of byte {received}."
                    )
                block += response.data
                received += len(response.data)
                if len(block) >= _BLOCK_BYTES:
                    full, block = block, bytearray()
                    await loop.run_in_executor(thread, file.append, full)
                if progress is not None:
                    progress(received, total)
    finally:
        await loop.run_in_executor(thread, file.append, block)


class _PartialFile:
    """The file that is being downloaded, and the SHA-256 of its content.

    The methods block, and have to run in the same thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _open_locked(path)
        self._digest = hashlib.sha256()
        self.size_bytes = 0
        self._file.seek(0)
        while block := self._file.read(_BLOCK_BYTES):
            self._digest.update(block)
            self.size_bytes += len(block)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def append(self, data: bytes | bytearray) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size_bytes += len(data)

    def clear(self) -> None:
        self._file.truncate(0)
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def rename_to(self, path: Path) -> None:
        self._file.flush()
        if sys.platform == "win32":
            self._file.close()
        # The file is still open and locked, so no other download can write to it before.
        self._path.replace(path)

    def close(self) -> None:
        if not self.size_bytes:  # nothing to resume
            self._path.unlink(missing_ok=True)
        self._file.close()


def _open_locked(path: Path) -> BinaryIO:
    """Open the file at `path` for appending, and lock it if the file system has locks."""
    while True:
        file = path.open("a+b")
        try:
            _lock(file, path)
            if _is_at(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # another download renamed or deleted it after it was opened


def _lock(file: BinaryIO, path: Path) -> None:
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = "Another download writes to it"
            raise OSError(errno.EBUSY, message, os.fspath(path)) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
