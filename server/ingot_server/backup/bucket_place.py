"""A bucket, of this installation or another one, as a place to copy from and to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from ingot_server.backup.place import Place
from ingot_server.backup.relocation import NamedFile, is_same
from ingot_server.backup.verified_content import VerifiedContent, in_thread, verified
from ingot_server.library.aliases import FOLDER as ALIASES
from ingot_server.library.blobs import Blobs, StoredObject
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest_objects import CLOSING, ManifestObjects, Version
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.server_side_copy import copy_object

_CONTENT_TYPE: Final = "application/octet-stream"


class BucketPlace:
    """The bucket of `blobs`. See Place.

    With `catalog`, the installation's: what is written is in its cache and its index at once.
    `scratch` is a directory for the parts of files that are on their way.
    """

    def __init__(self, blobs: Blobs, scratch: Path, catalog: Catalog | None = None) -> None:
        self.name = blobs.url("")
        self.blobs = blobs
        self._scratch = scratch
        self._objects = ManifestObjects(blobs)
        self._catalog = catalog
        self._copied_by_server = True

    async def begin(self, *, written: bool) -> None:
        await (self.blobs.prepare() if written else self.blobs.require_bucket())

    async def list_objects(self, prefix: str) -> list[StoredObject]:
        return await self.blobs.list_objects(prefix)

    async def get(self, key: str) -> bytes | None:
        found = await self.blobs.get(key)
        return found[0] if found is not None else None

    def chunks(self, key: str) -> Iterator[bytes]:
        return self.blobs.chunks(key)

    def url(self, key: str) -> str:
        return self.blobs.url(key)

    async def version(self, media_id: str) -> Version:
        return await self._objects.read(media_id)

    async def receive(self, file: NamedFile, source: Place, count: Callable[[int], object]) -> None:
        is_copied = isinstance(source, BucketPlace) and await self._copy(file, source, count)
        if not is_copied:
            chunks = verified(source.chunks(file.key), file, count)
            content = VerifiedContent(chunks, file.size_bytes, self._scratch)
            kind = file.content_type or _CONTENT_TYPE
            await self.blobs.upload(
                file.key, content, content_type=kind, size_bytes=None, parts_at_once=1
            )

    async def _copy(
        self, file: NamedFile, source: BucketPlace, count: Callable[[int], object]
    ) -> bool:
        """Have the server copy the file after its bytes were read; False if it does not do that."""
        s3, other = self.blobs.s3, source.blobs.s3
        if not self._copied_by_server or s3.endpoint != other.endpoint:
            return False

        def read(check: Callable[[], None]) -> None:
            for _ in verified(source.chunks(file.key), file, count):
                check()

        await in_thread(read)
        self._copied_by_server = await copy_object(
            other, s3, file.key, size_bytes=file.size_bytes, content_type=file.content_type
        )
        return self._copied_by_server

    async def write(
        self,
        manifest: Manifest,
        over: Version,
        modify_time: datetime,  # noqa: ARG002 - the server sets it
    ) -> bool:
        if self._catalog is None:
            if over.is_closing:
                await asyncio.sleep(CLOSING.total_seconds())
                return False
            return await self._objects.write(manifest, over=over.etag) is not None
        if over.manifest is None:
            return is_same(await self._catalog.commit(manifest), manifest)
        replacing = Manifest()
        replacing.CopyFrom(manifest)
        replacing.media.etag = over.etag
        return await self._catalog.replace(replacing) is not None

    async def write_small(self, key: str, content: bytes) -> None:
        await self.blobs.put(key, content, content_type=_CONTENT_TYPE)

    async def write_alias(self, alias_id: str, content: bytes) -> None:
        if self._catalog is None:
            key = f"{ALIASES}{alias_id}"
            await self.blobs.put(key, content, content_type="application/json")
            return
        alias = json.loads(content)
        source_key = alias.get("source_key", "")
        await self._catalog.put_alias(alias_id, alias["media_id"], source_key=source_key)

    async def close(self) -> None:
        if self._catalog is not None:
            await self._catalog.close()
        await self.blobs.close()
