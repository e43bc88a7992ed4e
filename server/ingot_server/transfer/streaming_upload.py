"""The streaming upload of a blob, part by part, while its scratch file grows."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from ingot_server.asyncio_tasks import run_alongside, run_uncancelled
from ingot_server.library.blobs import Blobs
from ingot_server.library.multipart import StoredBlob
from ingot_server.transfer.growing_file import TailReader
from ingot_server.transfer.scratch import Abandoned, ScratchFile
from ingot_server.transfer.staged import StagedFile

T = TypeVar("T")


class StreamingUpload:
    """The upload of the growing `file` under `key`, which runs while the context is open.

    Unless `keep` was called, leaving the context removes the unfinished multipart upload or the
    object.
    """

    def __init__(self, blobs: Blobs, key: str, file: ScratchFile) -> None:
        self._blobs = blobs
        self.key = key
        self._file = file
        self._kept = False
        self._ended = False
        self._tail_reader: TailReader | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._upload())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        if self._tail_reader is not None:
            self._tail_reader.close()  # this ends the thread that reads from it
        await run_uncancelled(self._clean_up())

    async def run_alongside(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`, which is cancelled at once if the upload fails."""
        return await run_alongside(self._task, work)

    async def finish(self) -> StagedFile:
        """Wait for the last part; return what was stored. The file is complete."""
        stored = await asyncio.shield(self._task)
        return StagedFile(self.key, stored.size_bytes, self._file.size, self._file.sha256)

    def keep(self) -> None:
        """Keep the object from now on, because a manifest may name it."""
        self._kept = True

    async def discard(self) -> None:
        """Remove the object, which no manifest names or will name."""
        await self._blobs.remove(self.key)

    async def _clean_up(self) -> None:
        await asyncio.wait([self._task])
        is_whole = self._task.cancelled() or self._task.exception() is None
        if is_whole and not self._kept:
            await self._blobs.remove(self.key)

    async def _upload(self) -> StoredBlob:
        content_type = mimetypes.guess_type(self.key)[0] or "application/octet-stream"
        while True:
            self._tail_reader = self._file.content()
            try:
                with self._tail_reader as content:
                    return await self._blobs.upload(
                        self.key, content, content_type=content_type, size_bytes=None
                    )
            except Abandoned:
                if self._ended:
                    raise
                # The download began again from zero while its bytes were being read.
