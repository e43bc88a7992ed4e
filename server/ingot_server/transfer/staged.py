"""Whole files on their way into the bucket: what was extracted or converted, one object each."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self, cast

from ingot_server.asyncio_tasks import cancel_and_wait, run_uncancelled
from ingot_server.library.blobs import Blobs


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file that the bucket has completely."""

    key: str
    size_bytes: int
    """As the bucket says."""
    file_bytes: int
    """As the file system said before."""
    sha256: str


class StagedUploads:
    """Puts files into the bucket. Leaving the context before `keep` was called removes them all."""

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
        """Uploads the file at `path`, which no longer changes, under a key that is new.

        Raises Failure STORAGE_UNAVAILABLE.
        """
        content = _Hashed(path)
        self._keys.append(key)
        stored = await self._blobs.upload(
            key, cast("BinaryIO", content), content_type=content_type, size_bytes=content.size_bytes
        )
        return StagedFile(key, stored.size_bytes, content.size_bytes, content.sha256)

    def keep(self) -> None:
        """Leaves the objects where they are from now on: a manifest may name them."""
        self._kept = True

    async def discard(self) -> None:
        """Removes the objects: no manifest names them, nor will."""
        while self._keys:
            await self._blobs.remove(self._keys[-1])
            self._keys.pop()


class PendingUpload:
    """One file on its way while it is still being checked; of several the last counts.

    Its key is `stem` with the file's suffix. The staged_uploads is for nothing else until `finish`.
    """

    def __init__(self, staged_uploads: StagedUploads, stem: str, *, content_type: str) -> None:
        self._staged_uploads = staged_uploads
        self._stem = stem
        self._content_type = content_type
        self._begun = 0
        self._task: asyncio.Task[StagedFile] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await cancel_and_wait(self._task)

    def start(self, path: Path) -> None:
        """Begins what `StagedUploads.stage` does, and takes away what was begun before."""
        # Another key for another file: what is given up may be removed late.
        number = f"-{self._begun}" if self._begun else ""
        self._begun += 1
        key = f"{self._stem}{number}{path.suffix}"
        self._task = asyncio.create_task(self._put(path, key, self._task))

    async def finish(self) -> StagedFile:
        """Waits for what was begun. Raises what `StagedUploads.stage` does."""
        assert self._task is not None
        return await self._task

    async def _put(
        self, path: Path, key: str, former: asyncio.Task[StagedFile] | None
    ) -> StagedFile:
        if former is not None:
            await cancel_and_wait(former)
            await self._staged_uploads.discard()
        return await self._staged_uploads.stage(path, key, content_type=self._content_type)


class _Hashed:
    """A file that is hashed as it is read, once and from its beginning."""

    def __init__(self, path: Path) -> None:
        self.size_bytes = path.stat().st_size
        self._file = path.open("rb")
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def close(self) -> None:
        self._file.close()
