"""What a job has put into the bucket goes with it, also when it is stopped in the midst of that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from ingot_server.transfer.scratch import Scratch, ScratchFile
from ingot_server.transfer.staged import StagedUploads
from ingot_server.transfer.streaming_upload import StreamingUpload
from tests.s3 import TYPE

KEY = "media/one/two.mp4"


@pytest.fixture
async def file(settings: Settings) -> AsyncIterator[ScratchFile]:
    scratch = Scratch(settings)
    await scratch.start()
    try:
        async with scratch.open("job", 1) as opened:
            await opened.write(b"content")
            await opened.complete()
            yield opened
    finally:
        await scratch.close()


async def uploaded(blobs: Blobs, file: ScratchFile, there: asyncio.Event) -> None:
    async with StreamingUpload(blobs, KEY, file) as upload:
        await upload.finish()
        there.set()
        await asyncio.Event().wait()


async def staged_file(blobs: Blobs, file: ScratchFile, there: asyncio.Event) -> None:
    async with StagedUploads(blobs) as staged_uploads:
        await staged_uploads.stage(file.path, KEY, content_type=TYPE)
        there.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("put", [uploaded, staged_file])
async def test_an_object_goes_also_when_its_job_is_cancelled_twice(
    blobs: Blobs,
    file: ScratchFile,
    put: Callable[[Blobs, ScratchFile, asyncio.Event], Awaitable[None]],
) -> None:
    there = asyncio.Event()
    putting = asyncio.ensure_future(put(blobs, file, there))
    await there.wait()
    assert await blobs.list_objects("media/")

    for _ in range(2):
        putting.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([putting])

    assert putting.cancelled()
    assert not await blobs.list_objects("media/")
