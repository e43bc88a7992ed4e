"""Two callers who send different files under one upload id: the first keeps it whole."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from ingot.v1.ingest_service_pb2 import UploadChunk, UploadHeader, UploadRequest
from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED
from ingot_server.library.uploads import PART_BYTES
from tests.integration.uploads.upload_servers import UploadServers, clip
from tests.refusals import refusal
from tests.waiting import TIMEOUT_SECONDS


async def test_a_part_that_is_there_is_never_overwritten_by_another_writer(
    servers: UploadServers,
) -> None:
    size = PART_BYTES + (1 << 20)
    first, second = clip(size, seed=1), clip(size, seed=2)
    header = UploadRequest(header=UploadHeader(upload_id="shared"))
    late, early = servers.stubs[0].Upload(), servers.stubs[1].Upload()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        # Both begin at offset 0, and the one that began later is faster.
        await late.write(header)
        await servers.has("shared", 0)
        await early.write(header)
        await send(early, first, 0, PART_BYTES)
        await servers.has("shared", PART_BYTES)

        await send(late, second, 0, PART_BYTES)
        await late.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await late
        await send(early, first, PART_BYTES, size)
        await early.done_writing()
        job = await servers.ended((await early).job)

    refused = refusal(caught.value)
    assert refused.reason == "UPLOAD_OFFSET_MISMATCH"
    assert refused.message.startswith(f"The upload shared has {PART_BYTES} bytes")
    assert job.state == JOB_STATE_SUCCEEDED
    assert await servers.content(job.media) == first


async def send(call: Any, content: bytes, first: int, end: int) -> None:
    """Sends the bytes of `content` from `first` to before `end`."""
    for at in range(first, end, 1 << 20):
        data = content[at : min(at + (1 << 20), end)]
        await call.write(UploadRequest(chunk=UploadChunk(offset=at, data=data)))
