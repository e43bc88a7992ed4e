"""Download and Upload of 1 GB over gRPC, against a bare handler and against S3 directly."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from minio import Minio

from bench.bare_transfer import CHUNK_BYTES
from bench.clips import clip
from bench.known_caller import METADATA, SETTINGS
from bench.serving import serving
from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import UploadRequest, UploadResponse
from ingot.v1.job_service_pb2 import WatchJobRequest
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from ingot.v1.media_service_pb2 import DownloadRequest
from tests.installation import Installation, installation

SIZE = 1_000_000_000
UPLOADS = 1
DOWNLOADS = 3
KEY = "bench/direct"


class Transfers:
    """Transfers of one file, each of which returns the seconds that it took."""

    def __init__(self, path: Path, ingot: Installation) -> None:
        self._path = path
        self._size = path.stat().st_size
        settings = ingot.s3_settings()
        self._bucket = settings.s3_bucket
        self._s3 = Minio(
            settings.s3_endpoint,
            settings.s3_access_key,
            settings.s3_secret_key,
            secure=False,
            region=settings.s3_region,
        )
        self.media_id = ""

    async def upload(self, channel: grpc.aio.Channel) -> float:
        """Upload over gRPC, in chunks that are serialized as they are needed."""
        call: Any = channel.stream_unary(
            "/ingot.v1.IngestService/Upload", response_deserializer=UploadResponse.FromString
        )
        begin = time.perf_counter()
        response = await call(self._chunks(), metadata=METADATA)
        seconds = time.perf_counter() - begin
        if response.job.id:
            self.media_id = await self._stored(channel, response.job.id)
        return seconds

    async def download(self, channel: grpc.aio.Channel) -> float:
        """Download over gRPC, without parsing what arrives."""
        request = DownloadRequest(media_id=self.media_id, limit=self._size)
        call: Any = channel.unary_stream(
            "/ingot.v1.MediaService/Download", request_serializer=DownloadRequest.SerializeToString
        )
        begin, received = time.perf_counter(), 0
        async for data in call(request, metadata=METADATA):
            received += len(data)
        assert received >= self._size
        return time.perf_counter() - begin

    async def put(self) -> float:
        """Put the file into the bucket with the client of S3."""
        begin = time.perf_counter()
        await asyncio.to_thread(self._s3.fput_object, self._bucket, KEY, str(self._path))
        return time.perf_counter() - begin

    async def get(self) -> float:
        """Read the file from the bucket."""
        begin = time.perf_counter()
        await asyncio.to_thread(self._read)
        return time.perf_counter() - begin

    def _read(self) -> None:
        response = self._s3.get_object(self._bucket, KEY)
        received = sum(len(data) for data in response.stream(CHUNK_BYTES))
        response.release_conn()
        assert received == self._size

    async def _chunks(self) -> AsyncIterator[bytes]:
        request = UploadRequest()
        request.header.filename = self._path.name
        request.header.size_bytes = self._size
        yield request.SerializeToString()
        offset = 0
        with self._path.open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                request.chunk.offset, request.chunk.data = offset, data
                yield request.SerializeToString()
                offset += len(data)

    async def _stored(self, channel: grpc.aio.Channel, job_id: str) -> str:
        jobs: Any = JobServiceStub(channel)
        job = job_pb2.Job()
        async for response in jobs.WatchJob(WatchJobRequest(job_id=job_id), metadata=METADATA):
            job = response.job if response.HasField("job") else job
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
        return str(job.media.id)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = await clip(Path(directory), SIZE)
        with installation(Path(directory, "data"), workers="1", **SETTINGS) as ingot:
            async with (
                serving("bench.bare_transfer") as bare_address,
                grpc.aio.insecure_channel(ingot.grpc_address) as channel,
                grpc.aio.insecure_channel(bare_address) as bare,
            ):
                transfers = Transfers(path, ingot)
                await compare("Upload", UPLOADS, transfers.upload, channel, bare, transfers.put)
                await compare(
                    "Download", DOWNLOADS, transfers.download, channel, bare, transfers.get
                )


async def compare(
    name: str,
    rounds: int,
    transfer: Callable[[grpc.aio.Channel], Awaitable[float]],
    channel: grpc.aio.Channel,
    bare: grpc.aio.Channel,
    directly: Callable[[], Awaitable[float]],
) -> None:
    """Print the rates of a transfer, of the same to a bare handler, and of S3 directly."""
    taken = [
        (await transfer(bare), await directly(), await transfer(channel)) for _ in range(rounds)
    ]
    bare_seconds, s3_seconds, seconds = map(statistics.median, zip(*taken, strict=True))
    print(
        f"  {name}: {SIZE / seconds / 1e6:.0f} MB/s, ratio to the bare handler "
        f"{bare_seconds / seconds:.2f} ({SIZE / bare_seconds / 1e6:.0f} MB/s), to S3 directly "
        f"{s3_seconds / seconds:.2f} ({SIZE / s3_seconds / 1e6:.0f} MB/s)"
    )
