"""Scratch: files while they are worked on, one directory for each living worker process.

    <scratch_dir>/sweep.lock               flock held while a directory is made or swept
    <scratch_dir>/<pid>-<start>/lock       flock held by the process that owns the directory
    <scratch_dir>/<pid>-<start>/<job id>-<attempt>       a file
    <scratch_dir>/<pid>-<start>/<job id>-<attempt>.d/    the files of an extraction
    <scratch_dir>/<pid>-<start>/extractor/               what yt-dlp and Deno keep between jobs

A directory whose lock can be had belongs to nobody that lives, so whoever starts next removes it.
The kernel drops a lock with its process, however that ends. A file goes when its context is left.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Self, cast

from ingot.v1 import reason_pb2
from ingot_server.config import SettingError, Settings
from ingot_server.errors import Failure
from ingot_server.transfer.growing_file import Abandoned, Progress, TailReader

__all__ = ["Abandoned", "Scratch", "ScratchFile"]

# What is hashed and written in one go, in a thread. Two of them are in memory for each file.
BATCH_BYTES: Final = 1 << 20
# How much is written between two looks at the free space.
CHECK_BYTES: Final = 8 << 20
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Scratch:
    """The directory of this process, and the space its files may still take."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.scratch_dir
        self._reserve = int(settings.scratch_reserve)
        self._directory: Path | None = None
        self._lock = -1
        self._expected: dict[Path, int] = {}
        self.threads = ThreadPoolExecutor(
            max(4, os.cpu_count() or 1), thread_name_prefix="ingot-scratch"
        )

    async def start(self) -> None:
        """Makes the directory and removes those of workers that are dead.

        Raises SettingError when `scratch_dir` cannot be used.
        """
        try:
            await asyncio.to_thread(self._start)
        except OSError as exc:
            raise SettingError(
                f"INGOT_SCRATCH_DIR={str(self._root)!r} cannot be used: {exc.strerror or exc}. "
                "Name a directory that this user may write to."
            ) from exc

    async def close(self) -> None:
        """Removes the directory with all in it."""
        await asyncio.to_thread(self._close)

    def open(self, job_id: str, attempt: int) -> ScratchFile:
        """An empty file for one attempt of a job; `async with` makes it and removes it."""
        if self._directory is None:
            raise RuntimeError("Scratch is not started.")
        return ScratchFile(self, self._directory / f"{job_id}-{attempt}")

    @asynccontextmanager
    async def folder(self, job_id: str, attempt: int) -> AsyncIterator[Path]:
        """An empty directory for one attempt of a job, removed with all in it.

        Raises Failure with SCRATCH_FULL, also when the body finds the disk full.
        """
        if self._directory is None:
            raise RuntimeError("Scratch is not started.")
        path = self._directory / f"{job_id}-{attempt}.d"
        with _full_told():
            path.mkdir(mode=0o700)
        try:
            with _full_told():
                yield path
        finally:
            self.forget(path)
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)

    def keep(self, name: str) -> Path:
        """An empty directory of this process until `close`; it is swept as the rest is."""
        if self._directory is None:
            raise RuntimeError("Scratch is not started.")
        path = self._directory / name
        path.mkdir(mode=0o700)
        return path

    def reserve(self, path: Path, size: int) -> None:
        """Promises `size` more bytes to the file at `path`.

        Raises Failure with SCRATCH_FULL when they would not fit beside the reserve and what the
        other files of this process were promised.
        """
        others = sum(count for other, count in self._expected.items() if other != path)
        free = self._free()
        if size > free - self._reserve - others:
            raise _full(f"The file has {size} bytes to come; {max(0, free)} are free in all.")
        self._expected[path] = size

    def account(self, path: Path, written: int) -> None:
        """Takes bytes that are on the disk now from what `path` was promised."""
        if path in self._expected:
            self._expected[path] = max(0, self._expected[path] - written)

    def forget(self, path: Path) -> None:
        """The file at `path` is gone."""
        self._expected.pop(path, None)

    def check(self) -> None:
        """Raises Failure with SCRATCH_FULL when the reserve is touched."""
        if self._free() < self._reserve:
            raise _full(f"Less than {self._reserve} bytes are free.")

    def _free(self) -> int:
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

    def _start(self) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    """One file: written by one task, hashed on the way, followed by an upload while it grows.

    Bytes count, in `size` and `sha256` and for followers, once they are on the disk.
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
        with _full_told():
            self._descriptor = os.open(self.path, flags, 0o600)
        return self

    async def __aexit__(self, _: object, exc: BaseException | None, __: object) -> None:
        self.fail(exc or Abandoned("The file was closed."))
        self._progress.close()
        self.path.unlink(missing_ok=True)
        self._scratch.forget(self.path)
        descriptor, self._descriptor = self._descriptor, -1
        if self._writing is None:
            os.close(descriptor)
        else:
            # The thread that still writes must not find its descriptor given to another file.
            self._writing.add_done_callback(lambda writing: _close_after(writing, descriptor))

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return self._progress.size

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes on the disk, in lower-case hexadecimal."""
        return self._hash.hexdigest()

    @property
    def followed(self) -> bool:
        """Whether a tail_reader has taken bytes, so that `restart` would break it."""
        return self._progress.taken

    def reserve(self, size: int) -> None:
        """Promises `size` more bytes. Raises Failure with SCRATCH_FULL when there is no room."""
        self._scratch.reserve(self.path, size)

    async def write(self, data: bytes) -> None:
        """Appends `data`; returns at once unless the disk is slower than the caller.

        Raises Failure with SCRATCH_FULL, perhaps for bytes of an earlier call. `data` must not be
        changed afterwards.
        """
        self._batch.append(data)
        self._batch_bytes += len(data)
        if self._batch_bytes >= BATCH_BYTES:
            await self._send()

    async def flush(self) -> None:
        """Waits until all that was written is on the disk and counted."""
        if self._batch:
            await self._send()
        await self._written()

    async def restart(self) -> None:
        """Empties the file. A tail_reader that took bytes of it fails with Abandoned."""
        self._batch, self._batch_bytes = [], 0
        await self._written()
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self._progress.restart()

    async def complete(self) -> None:
        """Writes what is left; followers then find the end."""
        await self.flush()
        self._progress.complete()

    def fail(self, exc: BaseException) -> None:
        """Ends the file unless it is complete: followers fail with `exc`, or from it."""
        self._progress.fail(exc)

    def tail(self, *, outlives: bool = False) -> BinaryIO:
        """A blocking reader from the first byte on, for a thread; see Follower."""
        return cast("BinaryIO", TailReader(self.path, self._progress, outlives=outlives))

    async def _send(self) -> None:
        await self._written()
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        self._writing = asyncio.get_running_loop().run_in_executor(
            self._scratch.threads, self._store, self._descriptor, batch
        )

    async def _written(self) -> None:
        if self._writing is not None:
            # A cancelled caller leaves the thread at its work.
            await asyncio.shield(self._writing)
            self._writing = None

    def _store(self, descriptor: int, batch: Sequence[bytes]) -> None:
        try:
            for data in batch:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                self._hash.update(data)
        except OSError as exc:
            if exc.errno in _NO_SPACE:
                raise _full(f"The system says: {exc.strerror}.") from exc
            raise Failure(
                reason_pb2.REASON_INTERNAL, f"Scratch space cannot be written: {exc.strerror}."
            ) from exc
        count = sum(len(data) for data in batch)
        self._scratch.account(self.path, count)
        self._unchecked += count
        if self._unchecked >= CHECK_BYTES:
            self._unchecked = 0
            self._scratch.check()
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
    except OSError:  # its owner lives, or it is another user's
        return
    shutil.rmtree(directory, ignore_errors=True)
    os.close(lock)


def _close_after(writing: asyncio.Future[None], descriptor: int) -> None:
    if not writing.cancelled():
        writing.exception()  # it reached whoever still wanted to know
    os.close(descriptor)


@contextmanager
def _full_told() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in _NO_SPACE:
            raise _full(f"The system says: {exc.strerror}.") from exc
        raise


def _full(detail: str) -> Failure:
    return Failure(
        reason_pb2.REASON_SCRATCH_FULL,
        f"The worker's scratch space has no room for this file now. {detail}",
    )
