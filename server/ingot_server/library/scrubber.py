"""The scrub: reads every stored file and compares it with its manifest.

    scrub/<name>       a ScrubProgress (manifest.proto), from which a scrub goes on

Files are read in ranges, at a bounded rate. What seems wrong is read again before it is marked, and
a mark is removed from a file that is whole again, such as after it was restored from a backup.
Objects that were adopted belong to other owners, and are not read.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf import json_format

from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.damage import (
    StoredFile,
    mark_damage,
    own_files,
    wrong_content,
    wrong_size,
)
from ingot_server.library.manifest import UNREADABLE
from ingot_server.library.manifest_objects import FOLDER
from ingot_server.library.manifest_pb2 import ScrubProgress
from ingot_server.log_events import Event

logger = EventLogger(__name__)

_FOLDER: Final = "scrub/"
_IDS: Final = 200
_RANGE_BYTES: Final = 64 << 20
# What a media item costs besides its bytes, so that many small ones are not read too fast.
_ITEM_BYTES: Final = 64 << 10
_CHANGED: Final = 3


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """A media item that was read."""

    media_id: str
    size_bytes: int
    problems: Mapping[str, str]
    """What is wrong with its files, by URL; empty if all are whole."""
    was_damaged: bool
    """Whether damage was known before."""


class Scrubber:
    """Reads stored files, at most `rate` bytes a second; 0 means no limit.

    The coroutines raise Failure STORAGE_UNAVAILABLE and CACHE_UNAVAILABLE.
    """

    def __init__(self, catalog: Catalog, blobs: Blobs, rate: int) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._rate = rate
        self._next_read = 0.0

    async def progress(self, name: str) -> ScrubProgress:
        """Return how far the scrub of this name has come; without a field if it never began."""
        found = await self._blobs.get(_FOLDER + name)
        progress = ScrubProgress()
        if found is not None:
            try:
                json_format.Parse(found[0], progress, ignore_unknown_fields=True)
            except (json_format.ParseError, UnicodeDecodeError) as error:
                logger.warning(
                    Event.SCRUB_RESTARTED,
                    "%s%s cannot be read, so it begins again: %s",
                    _FOLDER,
                    name,
                    error,
                )
                progress.Clear()
        return progress

    async def save(self, name: str, progress: ScrubProgress) -> None:
        """Store how far the scrub of this name has come."""
        content = json_format.MessageToJson(progress).encode()
        await self._blobs.put(_FOLDER + name, content, content_type="application/json")

    async def scrub(self, after: str) -> AsyncIterator[Scrubbed]:
        """Read the media items with ids after `after`, sorted; mark those that are damaged."""
        while ids := await self._blobs.list_folders(FOLDER, after=after, limit=_IDS):
            for after in ids:
                if (scrubbed := await self._scrub(after)) is not None:
                    yield scrubbed

    async def _scrub(self, media_id: str) -> Scrubbed | None:
        """Read one media item; None if it is not stored."""
        for _ in range(_CHANGED):
            try:
                stored = await self._catalog.read_stored(media_id)
            except (Failure, ValueError) as failure:
                if isinstance(failure, Failure) and failure.reason not in UNREADABLE:
                    raise
                logger.error(Event.MANIFEST_UNREADABLE, "%s", failure)
                return None
            if stored is None:
                return None
            files = list(own_files(stored.media, self._blobs))
            problems = {}
            for file in files:
                if found := await self._problem(media_id, file):
                    problems[file.url] = found
            if await mark_damage(self._catalog, stored, problems):
                size = sum(file.size_bytes for file in files)
                return Scrubbed(media_id, size, problems, stored.HasField("damage"))
        return None  # It changes all the time, so its files are new.

    async def _problem(self, media_id: str, file: StoredFile) -> str:
        """Return what is wrong with a file, if it was read twice; empty if it is whole."""
        return await self._read(media_id, file) and await self._read(media_id, file)

    async def _read(self, media_id: str, file: StoredFile) -> str:
        """Return what is wrong with a file; empty if it is whole.

        S3 servers check their disks themselves, and answer for a damaged file with an error or a
        broken connection. So a file that cannot be read counts as damaged while others can be read.
        """
        try:
            return await self._compare(file)
        except Failure as failure:
            await self._catalog.read_stored(media_id)
            return f"it cannot be read: {failure.message}"

    async def _compare(self, file: StoredFile) -> str:
        key = self._blobs.key(file.url)
        found = await self._blobs.stat(key)
        if found is None:
            await self._pace(_ITEM_BYTES)
            return "it is missing"
        if found.size_bytes != file.size_bytes:
            await self._pace(_ITEM_BYTES)
            return wrong_size(found.size_bytes, file.size_bytes)
        await self._pace(_ITEM_BYTES)
        digest = hashlib.sha256()
        for offset in range(0, file.size_bytes, _RANGE_BYTES):
            limit = min(_RANGE_BYTES, file.size_bytes - offset)
            async for data in self._blobs.read_object(
                key, offset=offset, limit=limit, digest=digest
            ):
                await self._pace(len(data))
        if file.sha256 and digest.hexdigest() != file.sha256:
            return wrong_content(digest.hexdigest(), file.sha256)
        return ""

    async def _pace(self, size_bytes: int) -> None:
        """Wait until these bytes may be read at the rate."""
        if not self._rate:
            return
        now = asyncio.get_running_loop().time()
        self._next_read = max(now, self._next_read) + size_bytes / self._rate
        await asyncio.sleep(self._next_read - now)
