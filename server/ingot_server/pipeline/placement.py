"""Whole files on their way into the bucket: what an extraction left, one object each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self, cast

from ingot_server.library.blobs import Blobs


@dataclass(frozen=True, slots=True)
class Placed:
    """A file that the bucket has completely."""

    key: str
    size_bytes: int
    """As the bucket says."""
    file_bytes: int
    """As the file system said before."""
    sha256: str


class Placement:
    """Puts files into the bucket. Leaving the context before `keep` was called removes them all."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._keys: list[str] = []
        self._kept = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._kept:
            await self.discard()

    async def put(self, path: Path, key: str, *, content_type: str) -> Placed:
        """Uploads the file at `path`, which no longer changes, under a key that is new.

        Raises Failure STORAGE_UNAVAILABLE.
        """
        content = _Hashed(path)
        self._keys.append(key)
        stored = await self._blobs.upload(
            key, cast("BinaryIO", content), content_type=content_type, size_bytes=content.size_bytes
        )
        return Placed(key, stored.size_bytes, content.size_bytes, content.sha256)

    def keep(self) -> None:
        """Leaves the objects where they are from now on: a manifest may name them."""
        self._kept = True

    async def discard(self) -> None:
        """Removes the objects: no manifest names them, nor will."""
        for key in self._keys:
            await self._blobs.remove(key)


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
