"""Staged files: whole files, extracted or converted, that are uploaded as one object each."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar, cast

from ingot_server.asyncio_tasks import cancel_and_wait, run_alongside, run_uncancelled
from ingot_server.library.blobs import Blobs
from ingot_server.transfer.part_reader import PartReader

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file that is completely in the bucket."""

    key: str
    size_bytes: int
    """The size that the bucket reports."""
    file_bytes: int
    """The size in the file system before the upload."""
    sha256: str


class StagedUploads:
    """Uploads of whole files. Unless `keep` was called, leaving the context removes them all."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._keys: list[str] = []
        self._kept = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._kept:
            await run_uncancelled(self.discard())

    async def stage(self, path: Path, key: str, *, content_type: str) -> StagedFile:
        """Upload the file at `path`, which does not change any more, under a new key.

        Raises Failure STORAGE_UNAVAILABLE.
        """
        content, sha256 = _WholeFile(path), hashlib.sha256()
        self._keys.append(key)
        stored = await self._blobs.upload(
            key,
            content,
            content_type=content_type,
            size_bytes=content.expected_bytes,
            seen=sha256.update,
        )
        return StagedFile(key, stored.size_bytes, content.expected_bytes, sha256.hexdigest())

    def keep(self) -> None:
        """Keep the objects from now on, because a manifest may name them."""
        self._kept = True

    async def discard(self) -> None:
        """Remove the objects, which no manifest names or will name."""
        while self._keys:
            await self._blobs.remove(self._keys[-1])
            self._keys.pop()


class PendingUpload:
    """The upload of a file that is still being checked; of several files the last one counts.

    Its key is `stem` with the file's suffix. Use `staged_uploads` for nothing else until `finish`.
    """

    def __init__(self, staged_uploads: StagedUploads, stem: str, *, content_type: str) -> None:
        self._staged_uploads = staged_uploads
        self._stem = stem
        self._content_type = content_type
        self._started = 0
        self._task: asyncio.Task[StagedFile] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await cancel_and_wait(self._task)

    def start(self, path: Path, suffix: str | None = None) -> None:
        """Begin to stage the file at `path`, and remove the file that was staged before.

        The key ends with `suffix`; by default with that of the file.
        """
        suffix = path.suffix if suffix is None else suffix
        # Each file has its own key, because the removal of the former one may be late.
        number = f"-{self._started}" if self._started else ""
        self._started += 1
        key = f"{self._stem}{number}{suffix}"
        self._task = asyncio.create_task(self._replace(path, key, self._task))

    async def finish(self) -> StagedFile:
        """Wait for the upload that was started last. Raises what `StagedUploads.stage` raises."""
        assert self._task is not None
        return await self._task

    async def run_alongside(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`, which is cancelled at once if the upload fails."""
        assert self._task is not None
        return await run_alongside(self._task, work)

    def keep(self) -> None:
        """Keep all staged objects from now on, because a manifest may name them."""
        self._staged_uploads.keep()

    async def discard(self) -> None:
        """Remove all staged objects, which no manifest names or will name."""
        await self._staged_uploads.discard()

    async def _replace(
        self, path: Path, key: str, former: asyncio.Task[StagedFile] | None
    ) -> StagedFile:
        if former is not None:
            await cancel_and_wait(former)
            await self._staged_uploads.discard()
        return await self._staged_uploads.stage(path, key, content_type=self._content_type)


class _WholeFile:
    """A file that does not change, for `Blobs.upload`."""

    def __init__(self, path: Path) -> None:
        self.expected_bytes = path.stat().st_size
        self._file = path.open("rb", buffering=0)

    def wait(self, end: int) -> int:
        return min(end, self.expected_bytes)

    def part(self, begin: int, end: int) -> BinaryIO:
        read_at = partial(os.pread, self._file.fileno())
        return cast("BinaryIO", PartReader(read_at, begin, end))

    def close(self) -> None:
        self._file.close()
