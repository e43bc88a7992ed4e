"""Scratch space: files while they are worked on, one directory for each living worker process.

    <scratch_dir>/sweep.lock               flock held while a directory is made or swept
    <scratch_dir>/<pid>-<start>/lock       flock held by the process that owns the directory
    <scratch_dir>/<pid>-<start>/<job id>-<attempt>       a file
    <scratch_dir>/<pid>-<start>/<job id>-<attempt>.d/    the files of an extraction
    <scratch_dir>/<pid>-<start>/extractor/               the caches of yt-dlp and Deno

If the lock of a directory is free, its worker is dead, and the next worker that starts removes it.
The kernel releases a lock when its process ends, however it ends. A file is removed when its
context is left.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import itertools
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Self, cast

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.private_directory import UnsafeDirectory, make_private_directory
from ingot_server.setting_values import SettingError
from ingot_server.transfer.growing_file import Abandoned, Progress, TailReader

__all__ = ["Abandoned", "Scratch", "ScratchFile"]

# The bytes that a thread hashes and writes at a time. Each file has up to two batches in memory.
BATCH_BYTES: Final = 1 << 20
# How much is written between two checks of the free space.
CHECK_BYTES: Final = 8 << 20
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Scratch:
    """The directory of this process, and the space that its files may still use."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.scratch_dir
        self._spare_bytes = int(settings.scratch_reserve)
        self._directory: Path | None = None
        self._lock = -1
        self._numbers = itertools.count(1)
        self._reserved: dict[Path, int] = {}
        self.threads = ThreadPoolExecutor(
            max(4, os.cpu_count() or 1), thread_name_prefix="ingot-scratch"
        )

    async def start(self) -> None:
        """Create the directory and remove those of dead workers.

        Raises SettingError when `scratch_dir` cannot be used, or another user can change it.
        """
        try:
            await asyncio.to_thread(self._start)
        except OSError as exc:
            raise SettingError(
                f"INGOT_SCRATCH_DIR={str(self._root)!r} cannot be used: {exc.strerror or exc}. "
                "Name a directory that this user may write to."
            ) from exc
        except UnsafeDirectory as exc:
            raise SettingError(f"INGOT_SCRATCH_DIR: {exc}") from exc

    async def close(self) -> None:
        """Remove the directory with all its files."""
        await asyncio.to_thread(self._close)

    def open(self, job_id: str, attempt: int) -> ScratchFile:
        """Return a file for one attempt of a job; `async with` creates and removes it."""
        if self._directory is None:
            raise RuntimeError("Scratch is not started.")
        return ScratchFile(self, self._directory / self._new_name(job_id, attempt))

    @asynccontextmanager
    async def folder(self, job_id: str, attempt: int) -> AsyncIterator[Path]:
        """Create a directory for one attempt of a job; remove it with its files at the end.

        Raises Failure SCRATCH_FULL, also when the body finds the disk full.
        """
        if self._directory is None:
            raise RuntimeError("Scratch is not started.")
        path = self._directory / f"{self._new_name(job_id, attempt)}.d"
        with _translating_full_disk():
            path.mkdir(mode=0o700)
        try:
            with _translating_full_disk():
                yield path
        finally:
            self.release(path)
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)

    def _new_name(self, job_id: str, attempt: int) -> str:
        # An attempt may begin again while the one that lost its lease still ends.
        return f"{job_id}-{attempt}-{next(self._numbers)}"

    def make_folder(self, name: str) -> Path:
        """Create a directory that this process keeps until `close`; return its path."""
        if self._directory is None:
            raise RuntimeError("Scratch is not started.")
        path = self._directory / name
        path.mkdir(mode=0o700)
        return path

    def reserve(self, path: Path, size: int) -> None:
        """Reserve space for `size` more bytes of the file at `path`.

        Raises Failure SCRATCH_FULL if they do not fit in addition to the scratch reserve and to the
        space that is reserved for the other files of this process.
        """
        others = sum(count for other, count in self._reserved.items() if other != path)
        free = self._free_bytes()
        if size > free - self._spare_bytes - others:
            raise _full(f"The file needs {size} more bytes; {max(0, free)} are free in all.")
        self._reserved[path] = size

    def use_reserved(self, path: Path, written: int) -> None:
        """Subtract bytes that are on the disk now from the space reserved for `path`."""
        if path in self._reserved:
            self._reserved[path] = max(0, self._reserved[path] - written)

    def release(self, path: Path) -> None:
        """Release the space reserved for `path`, a file that was removed."""
        self._reserved.pop(path, None)

    def check_space(self) -> None:
        """Raise Failure SCRATCH_FULL if less than the scratch reserve is free."""
        if self._free_bytes() < self._spare_bytes:
            raise _full(f"Less than {self._spare_bytes} bytes are free.")

    def disk_usage(self) -> tuple[int, int]:
        """Return the free space and the size of the scratch directory's file system, in bytes."""
        found = shutil.disk_usage(self._root)
        return found.free, found.total

    def _free_bytes(self) -> int:
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

    def _start(self) -> None:
        make_private_directory(self._root)
        guard = _locked(self._root / "sweep.lock", fcntl.LOCK_EX)
        try:
            for directory in self._root.iterdir():
                if directory.is_dir() and not directory.is_symlink():
                    _sweep(directory)
            directory = self._root / f"{os.getpid()}-{time.time_ns():x}"
            directory.mkdir(mode=0o700)
            self._lock = _locked(directory / "lock", fcntl.LOCK_EX)
            self._directory = directory
        finally:
            os.close(guard)

    def _close(self) -> None:
        self.threads.shutdown()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            os.close(self._lock)
            self._directory = None


class ScratchFile:
    """One growing file: one task writes and hashes it while an upload reads it.

    `size`, `sha256` and readers include bytes once they are on the disk.
    """

    def __init__(self, scratch: Scratch, path: Path) -> None:
        self.path: Final = path
        self._scratch = scratch
        self._progress = Progress()
        self._descriptor = -1
        self._hash = hashlib.sha256()
        self._unchecked = 0
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._writing: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with _translating_full_disk():
            self._descriptor = os.open(self.path, flags, 0o600)
        return self

    async def __aexit__(self, _: object, exc: BaseException | None, __: object) -> None:
        self.fail(exc or Abandoned("The file was closed."))
        self._progress.close()
        self.path.unlink(missing_ok=True)
        self._scratch.release(self.path)
        descriptor, self._descriptor = self._descriptor, -1
        if self._writing is None:
            # The system frees the space now: 60 ms for 1 GB, in which no other job would run.
            threads = self._scratch.threads
            closing = asyncio.get_running_loop().run_in_executor(threads, os.close, descriptor)
            await asyncio.shield(closing)
        else:
            # Close it after the write: the descriptor must not become another file's before that.
            self._writing.add_done_callback(lambda writing: _close_after(writing, descriptor))

    @property
    def size(self) -> int:
        """The number of bytes on the disk."""
        return self._progress.size

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes on the disk, in lower-case hexadecimal."""
        return self._hash.hexdigest()

    @property
    def was_read(self) -> bool:
        """Whether a tail reader has read bytes, so that `restart` would break it."""
        return self._progress.was_read

    def reserve(self, size: int) -> None:
        """Reserve space for `size` more bytes, which complete the file, as far as is known.

        Raises Failure SCRATCH_FULL if it is lacking.
        """
        self._scratch.reserve(self.path, size)
        self._progress.expected_bytes = self._progress.size + size

    async def write(self, data: bytes) -> None:
        """Append `data`; return at once unless the disk is slower than the caller.

        Raises Failure SCRATCH_FULL, perhaps for bytes of an earlier call. Do not change `data`
        afterwards.
        """
        self._batch.append(data)
        self._batch_bytes += len(data)
        if self._batch_bytes >= BATCH_BYTES:
            await self._start_write()

    async def flush(self) -> None:
        """Wait until everything written is on the disk and counted."""
        if self._batch:
            await self._start_write()
        await self._wait_for_write()

    async def restart(self) -> None:
        """Empty the file. A tail reader that has read bytes of it fails with Abandoned."""
        self._batch, self._batch_bytes = [], 0
        await self._wait_for_write()
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self._progress.restart()

    async def complete(self) -> None:
        """Write the rest; tail readers then find the end."""
        await self.flush()
        self._progress.complete()

    def fail(self, exc: BaseException) -> None:
        """End the file unless it is complete: tail readers fail with `exc`, or from it."""
        self._progress.fail(exc)

    def tail(self, *, outlives: bool = False) -> BinaryIO:
        """Return a blocking reader from the first byte on, for a thread; see TailReader."""
        return cast("BinaryIO", TailReader(self.path, self._progress, outlives=outlives))

    def content(self) -> TailReader:
        """Return the same for `Blobs.upload`."""
        return TailReader(self.path, self._progress)

    async def _start_write(self) -> None:
        await self._wait_for_write()
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        self._writing = asyncio.get_running_loop().run_in_executor(
            self._scratch.threads, self._write_batch, self._descriptor, batch
        )

    async def _wait_for_write(self) -> None:
        if self._writing is not None:
            # If the caller is cancelled, the thread goes on.
            await asyncio.shield(self._writing)
            self._writing = None

    def _write_batch(self, descriptor: int, batch: Sequence[bytes]) -> None:
        try:
            for data in batch:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                self._hash.update(data)
        except OSError as exc:
            if exc.errno in _NO_SPACE:
                raise _full(f"The system reports: {exc.strerror}.") from exc
            raise Failure(
                reason_pb2.REASON_INTERNAL, f"Scratch space cannot be written: {exc.strerror}."
            ) from exc
        count = sum(len(data) for data in batch)
        self._scratch.use_reserved(self.path, count)
        self._unchecked += count
        if self._unchecked >= CHECK_BYTES:
            self._unchecked = 0
            self._scratch.check_space()
        self._progress.advance(count)


def _locked(path: Path, operation: int) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, operation)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sweep(directory: Path) -> None:
    try:
        lock = _locked(directory / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # its owner is alive, or it belongs to another user
        return
    shutil.rmtree(directory, ignore_errors=True)
    os.close(lock)


def _close_after(writing: asyncio.Future[None], descriptor: int) -> None:
    if not writing.cancelled():
        writing.exception()  # marked as retrieved: no caller may be waiting
    os.close(descriptor)


@contextmanager
def _translating_full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in _NO_SPACE:
            raise _full(f"The system reports: {exc.strerror}.") from exc
        raise


def _full(detail: str) -> Failure:
    return Failure(
        reason_pb2.REASON_SCRATCH_FULL,
        f"The worker's scratch space does not have room for this file now. {detail}",
    )
