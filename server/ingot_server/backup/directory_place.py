"""Exports in a directory: a file for each object, with the object's key as its path.

Its manifests name files as `s3://export/<key>`. A file is written beside its place, synchronized
and renamed, so a killed export leaves whole files, and at most hidden ones that the next export
replaces. The time of a manifest is that of the manifest that it is a copy of.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ingot.v1 import reason_pb2
from ingot_server.backup.place import Place
from ingot_server.backup.relocation import NamedFile, own_files_of
from ingot_server.backup.verified_content import in_thread, verified
from ingot_server.errors import Failure
from ingot_server.library.aliases import FOLDER as ALIASES
from ingot_server.library.blobs import StoredObject
from ingot_server.library.bucket import CHUNK_BYTES
from ingot_server.library.manifest import parse, serialize
from ingot_server.library.manifest_objects import FOLDER, Version, manifest_key
from ingot_server.library.manifest_pb2 import Manifest

_URL: Final = "s3://export/"


class DirectoryPlace:
    """The directory at `path`, which is made when something is written. See Place."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    async def begin(self, *, written: bool) -> None:
        if not written and not await asyncio.to_thread((self._path / FOLDER).is_dir):
            raise _unavailable(
                f"{self._path} is not an export: it has no directory {FOLDER} in it. Name the "
                "directory that `ingot-server export` was given."
            )

    async def list_objects(self, prefix: str) -> list[StoredObject]:
        return await asyncio.to_thread(self._list, prefix)

    def _list(self, prefix: str) -> list[StoredObject]:
        folder, _, begin = prefix.rpartition("/")
        with _translated():
            found = [each for each in _entries(self._path / folder) if each.name.startswith(begin)]
            files = [
                file
                for each in found
                for file in (_entries(Path(each)) if each.is_dir() else [each])
                if not file.name.startswith(".") and file.is_file()
            ]
            objects = [self._object(file) for file in files]
        return sorted(objects, key=lambda each: each.key)

    def _object(self, file: os.DirEntry[str]) -> StoredObject:
        stat = file.stat()
        key = Path(file.path).relative_to(self._path).as_posix()
        return StoredObject(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC), "")

    async def get(self, key: str) -> bytes | None:
        return await asyncio.to_thread(self._get, key)

    def _get(self, key: str) -> bytes | None:
        try:
            with _translated():
                return (self._path / key).read_bytes()
        except FileNotFoundError:
            return None

    def chunks(self, key: str) -> Iterator[bytes]:
        try:
            with _translated(), (self._path / key).open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except FileNotFoundError as exc:
            raise Failure(reason_pb2.REASON_MEDIA_NOT_FOUND, "it is missing") from exc

    def url(self, key: str) -> str:
        return _URL + key

    async def version(self, media_id: str) -> Version:
        key = manifest_key(media_id)
        content = await self.get(key)
        if content is None:
            return Version(None, "")
        manifest = parse(media_id, key, content, "")
        if manifest.HasField("tombstone"):
            return Version(None, "", manifest.tombstone)
        return Version(manifest, "")

    async def receive(self, file: NamedFile, source: Place, count: Callable[[int], object]) -> None:
        def copy(check: Callable[[], None]) -> None:
            def chunks() -> Iterator[bytes]:
                for chunk in verified(source.chunks(file.key), file, count):
                    check()
                    yield chunk

            self._write(file.key, chunks())

        await in_thread(copy)

    async def write(
        self,
        manifest: Manifest,
        over: Version,  # noqa: ARG002 - an export has one writer
        modify_time: datetime,
    ) -> bool:
        key = manifest_key(manifest.media.id)
        content = serialize(manifest, key)
        named = {Path(file.key).name for file in own_files_of(manifest.media)} | {Path(key).name}

        def replace() -> None:
            self._write(key, [content], modify_time)
            # Files of the version before, and what an export left that was killed.
            for each in _entries((self._path / key).parent):
                if each.name not in named:
                    Path(each).unlink()

        await asyncio.to_thread(replace)
        return True

    async def write_small(self, key: str, content: bytes) -> None:
        await asyncio.to_thread(self._write, key, [content])

    async def write_alias(self, alias_id: str, content: bytes) -> None:
        await self.write_small(f"{ALIASES}{alias_id}", content)

    async def close(self) -> None:
        pass

    def _write(
        self, key: str, chunks: Iterable[bytes], modify_time: datetime | None = None
    ) -> None:
        """Write a file that is there whole or not at all, also after a loss of power."""
        path = self._path / key
        unfinished = path.with_name(f".{path.name}.unfinished")
        with _translated():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with unfinished.open("wb") as file:
                    for chunk in chunks:
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                if modify_time is not None:
                    os.utime(unfinished, times=(modify_time.timestamp(),) * 2)
                unfinished.replace(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
            _synchronize(path.parent)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _synchronize(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise Failure STORAGE_UNAVAILABLE for what the file system refuses, except a missing file."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else ""
        raise _unavailable(
            f"The directory cannot be used: {where}{exc.strerror}. Check its permissions and its "
            "disk, and run the command again: it goes on where it stopped."
        ) from exc


def _unavailable(message: str) -> Failure:
    return Failure(reason_pb2.REASON_STORAGE_UNAVAILABLE, message)
