"""A blob's way into the bucket, part by part, while its scratch file still grows."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Coroutine
from typing import Any, BinaryIO, Self, TypeVar

from ingot_server.asyncio_tasks import run_uncancelled
from ingot_server.library.blobs import Blobs
from ingot_server.library.multipart import StoredBlob
from ingot_server.transfer.scratch import Abandoned, ScratchFile

T = TypeVar("T")


class StreamingUpload:
    """Uploads what is written to `file` under `key` for as long as its context is open.

    Leaving the context before `keep` was called removes every trace: the unfinished multipart
    upload, or the object.
    """

    def __init__(self, blobs: Blobs, key: str, file: ScratchFile) -> None:
        self._blobs = blobs
        self.key = key
        self._file = file
        self._kept = False
        self._ended = False
        self._tail_reader: BinaryIO | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        if self._tail_reader is not None:
            self._tail_reader.close()  # it ends the thread that reads from it
        await run_uncancelled(self._clear_up())

    async def run_alongside(self, work: Coroutine[Any, Any, T]) -> T:
        """Does `work` while the upload goes on; ends it at once when the upload fails."""
        task = asyncio.create_task(work)
        try:
            await asyncio.wait([task, self._task], return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and (error := self._task.exception()) is not None:
                raise error
            return await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    async def finish(self) -> StoredBlob:
        """Waits for the last part; answers with what the bucket says it has."""
        return await asyncio.shield(self._task)

    def keep(self) -> None:
        """Leaves the object where it is from now on: a manifest may name it."""
        self._kept = True

    async def discard(self) -> None:
        """Removes the object: no manifest names it, nor will."""
        await self._blobs.remove(self.key)

    async def _clear_up(self) -> None:
        await asyncio.wait([self._task])
        is_whole = self._task.cancelled() or self._task.exception() is None
        if is_whole and not self._kept:
            await self._blobs.remove(self.key)

    async def _run(self) -> StoredBlob:
        content_type = mimetypes.guess_type(self.key)[0] or "application/octet-stream"
        while True:
            self._tail_reader = self._file.tail()
            try:
                with self._tail_reader as content:
                    return await self._blobs.upload(
                        self.key, content, content_type=content_type, size_bytes=None
                    )
            except Abandoned:
                if self._ended:
                    raise
                # The download began again from zero while its bytes were being read.
