"""Where media items are copied from and to: a bucket, or a directory that is laid out like one.

    media/<id>/media.json      a manifest
    media/<id>/<name>          its files
    alias/<id>                 an alias
    subscriptions/<id>         a subscription
    feeds/<id>                 a podcast feed

A manifest is written after its files, so a reader of the place never finds one without them. What
else a bucket has is not copied: the index is made anew, and jobs and uploads belong to their
installation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Protocol

from ingot_server.backup.relocation import NamedFile
from ingot_server.library.blobs import StoredObject
from ingot_server.library.manifest_objects import Version
from ingot_server.library.manifest_pb2 import Manifest


class Place(Protocol):
    """A bucket or a directory. The coroutines raise Failure STORAGE_UNAVAILABLE.

    All can be repeated.
    """

    name: str
    """What it is called in messages."""

    async def begin(self, *, written: bool) -> None:
        """Make the place ready, or raise if it cannot be read, or `written` to."""

    async def list_objects(self, prefix: str) -> list[StoredObject]:
        """Return the objects whose keys begin with `prefix`, sorted by key."""

    async def get(self, key: str) -> bytes | None:
        """Return the content of a small object; None if there is none."""

    def chunks(self, key: str) -> Iterator[bytes]:
        """Yield the bytes of an object; it blocks. Raises Failure MEDIA_NOT_FOUND without one."""

    def url(self, key: str) -> str:
        """Return the URL that manifests have of an object here."""

    async def version(self, media_id: str) -> Version:
        """Return what is stored of a media item. Raises Failure INTERNAL if it cannot be read."""

    async def receive(self, file: NamedFile, source: Place, count: Callable[[int], object]) -> None:
        """Copy a file from `source`; `count` gets the size of each piece.

        The file is there whole or not at all. Raises Failure MEDIA_DAMAGED if `source` has other
        bytes, MEDIA_NOT_FOUND if it has none.
        """

    async def write(self, manifest: Manifest, over: Version, modify_time: datetime) -> bool:
        """Write a manifest over a version; False if another one is stored by now.

        `modify_time` is when the source has written its manifest.
        """

    async def write_small(self, key: str, content: bytes) -> None:
        """Write a small object that is neither a manifest nor an alias."""

    async def write_alias(self, alias_id: str, content: bytes) -> None:
        """Write an alias."""

    async def close(self) -> None:
        """Close all connections."""
