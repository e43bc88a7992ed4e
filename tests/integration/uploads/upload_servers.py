"""Two API servers and a worker on one bucket, and files to upload to them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from ingot import Client
from ingot.v1.ingest_service_pb2 import (
    CompleteUploadRequest,
    CreateUploadUrlRequest,
    CreateUploadUrlResponse,
    QueryUploadRequest,
    QueryUploadResponse,
    UploadChunk,
    UploadHeader,
    UploadRequest,
)
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from ingot_server.library.uploads import Uploads
from ingot_server.worker import Worker
from tests.media import media
from tests.refusals import Refusal, is_hidden, refusal
from tests.waiting import JOB_SECONDS, TIMEOUT_SECONDS

SHA = "0" * 64


@dataclass
class UploadServers:
    """Two API servers and a worker on one bucket."""

    settings: Settings
    targets: list[str]
    worker: Worker
    blobs: Blobs
    stubs: list[Any] = field(default_factory=list)

    async def ended(self, job: Job) -> Job:
        """Return the job after the worker has run it."""
        async with asyncio.timeout(JOB_SECONDS):
            await self.worker.run_job(job.id)
        async with Client(self.targets[0]) as client:
            return (await client.job(job.id)).latest

    async def finished(self, job: Job) -> Job:
        """Return an ingest with conversions after the worker has run all of it."""
        async with Client(self.targets[0]) as client:
            await self.ended(job)
            parent = (await client.job(job.id)).latest
            for child_id in parent.child_job_ids:
                await self.ended((await client.job(child_id)).latest)
            async with asyncio.timeout(JOB_SECONDS):
                async for each in await client.job(job.id):
                    job = each
        return job

    async def link(self, content: bytes, **fields: Any) -> CreateUploadUrlResponse:
        """Begin an upload of `content` by links; return the first."""
        asked: dict[str, Any] = {"size_bytes": len(content), "content_type": "video/mp4"}
        request = CreateUploadUrlRequest(**asked | fields)
        response: CreateUploadUrlResponse = await self.stubs[0].CreateUploadUrl(request)
        return response

    async def part_link(self, upload_id: str, offset: int, size: int) -> CreateUploadUrlResponse:
        """Return a link for a part of an upload that has begun; from the other server."""
        request = CreateUploadUrlRequest(upload_id=upload_id, offset=offset, part_size_bytes=size)
        response: CreateUploadUrlResponse = await self.stubs[1].CreateUploadUrl(request)
        return response

    async def complete(self, upload_id: str, *, server: int = 0, **fields: Any) -> Job:
        request = CompleteUploadRequest(upload_id=upload_id, **fields)
        response = await self.stubs[server].CompleteUpload(request)
        job: Job = response.job
        return job

    async def query(self, upload_id: str) -> QueryUploadResponse:
        response: QueryUploadResponse = await self.stubs[1].QueryUpload(
            QueryUploadRequest(upload_id=upload_id)
        )
        return response

    async def send(self, content: bytes, *, server: int = 0, offset: int = 0, **header: Any) -> Job:
        response = await self.stubs[server].Upload(requests(content, offset=offset, **header))
        job: Job = response.job
        return job

    async def refused(self, content: bytes, **header: Any) -> Refusal:
        """Send what is refused, again if the answer was hidden."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await self.send(content, **header)
                if not is_hidden(caught.value):
                    return refusal(caught.value)

    async def committed(self, upload_id: str) -> int:
        return (await self.query(upload_id)).committed_size

    async def delete(self, media_id: str) -> None:
        async with Client(self.targets[0]) as client:
            await client.delete_media(media_id)

    async def has(self, upload_id: str, size: int) -> None:
        """Wait until so many bytes of an upload are committed."""
        uploads = Uploads(self.blobs, self.settings)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                status = await uploads.status(upload_id)
                if status is not None and status.committed_size >= size:
                    return
                await asyncio.sleep(0.02)  # S3 sends no event

    async def content(self, stored: Media) -> bytes:
        key = self.blobs.key(stored.blob.url)
        return b"".join([chunk async for chunk in self.blobs.read_object(key, offset=0, limit=0)])

    async def left(self) -> list[str]:
        return [item.key for item in await self.blobs.list_objects("uploads/")]


async def requests(
    content: bytes, *, offset: int = 0, chunk: int = 256 << 10, **header: Any
) -> AsyncIterator[UploadRequest]:
    yield UploadRequest(header=UploadHeader(**header))
    for at in range(offset, len(content), chunk):
        yield UploadRequest(chunk=UploadChunk(offset=at, data=content[at : at + chunk]))


@contextlib.asynccontextmanager
async def running_servers(settings: Settings) -> AsyncIterator[UploadServers]:
    """Run two API servers and a worker with these settings."""
    async with contextlib.AsyncExitStack() as stack:
        targets = [(await stack.enter_async_context(running(settings))).grpc for _ in range(2)]
        worker = Worker(settings)
        await worker.start()
        stack.push_async_callback(worker.stop)
        blobs = Blobs(settings)
        stack.push_async_callback(blobs.close)
        servers = UploadServers(settings, targets, worker, blobs)
        for target in targets:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(target))
            servers.stubs.append(IngestServiceStub(channel))
        yield servers


def clip(size: int = 0, seed: int = 1) -> bytes:
    """A real MP4, made larger and its own by a box that players skip."""
    content = media("faststart.mp4").read_bytes()
    padding = random.Random(seed).randbytes(max(16, size - len(content) - 8))
    return content + (len(padding) + 8).to_bytes(4, "big") + b"free" + padding
