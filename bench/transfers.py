"""Download and Upload of 1 GB over gRPC, against a bare handler and against S3 directly.

Client, server and S3 share the processors, so the processor time of all of them bounds the rate.
Ingot cannot take less than the bare handler, a client of S3 and SHA-256 (which a download is
compared with) take together.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from minio import Minio

from bench.bare_transfer import CHUNK_BYTES
from bench.clips import clip
from bench.known_caller import METADATA, SETTINGS
from bench.processes import processor_seconds
from bench.serving import serving, serving_processes
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
BARE = "bench.bare_transfer"


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
        self._job_id = self._media_id = ""

    async def upload(self, channel: grpc.aio.Channel) -> float:
        """Upload over gRPC, in chunks that are serialized as they are needed."""
        call: Any = channel.stream_unary(
            "/ingot.v1.IngestService/Upload", response_deserializer=UploadResponse.FromString
        )
        begin = time.perf_counter()
        response = await call(self._chunks(), metadata=METADATA)
        seconds = time.perf_counter() - begin
        self._job_id = response.job.id or self._job_id
        return seconds

    async def wait_until_stored(self, channel: grpc.aio.Channel) -> None:
        """Wait for the job of the upload, whose media item `download` reads."""
        jobs: Any = JobServiceStub(channel)
        job, request = job_pb2.Job(), WatchJobRequest(job_id=self._job_id)
        async for response in jobs.WatchJob(request, metadata=METADATA):
            job = response.job if response.HasField("job") else job
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
        self._media_id = job.media.id

    async def download(self, channel: grpc.aio.Channel) -> float:
        """Download over gRPC, without parsing what arrives."""
        request = DownloadRequest(media_id=self._media_id, limit=self._size)
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


@dataclass(frozen=True)
class Taken:
    """What a transfer took: time, and processor time of those who took part; all in seconds."""

    seconds: float
    server: float
    client: float
    s3: float

    @property
    def processor(self) -> float:
        return self.server + self.client + self.s3

    def __str__(self) -> str:
        return f"server {self.server:.2f}, client {self.client:.2f}, S3 {self.s3:.2f}"


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = await clip(Path(directory), SIZE)
        with installation(Path(directory, "data"), workers="1", **SETTINGS) as ingot:
            async with (
                serving(BARE) as bare_address,
                grpc.aio.insecure_channel(ingot.grpc_address) as channel,
                grpc.aio.insecure_channel(bare_address) as bare,
            ):
                transfers = Transfers(path, ingot)
                server, bare_server = ingot.children("serve"), serving_processes(BARE)
                s3 = ingot.children("weed")

                async def compare(
                    name: str,
                    rounds: int,
                    hashing: float,
                    transfer: Callable[[grpc.aio.Channel], Awaitable[float]],
                    directly: Callable[[], Awaitable[float]],
                ) -> None:
                    taken = [
                        (
                            await measured(transfer(channel), server, s3),
                            await measured(transfer(bare), bare_server, s3),
                            await measured(directly(), [], s3),
                        )
                        for _ in range(rounds)
                    ]
                    report(name, hashing, *map(median, zip(*taken, strict=True)))

                await compare("Upload", UPLOADS, 0.0, transfers.upload, transfers.put)
                await transfers.wait_until_stored(channel)
                hashing = hashing_seconds()
                await compare("Download", DOWNLOADS, hashing, transfers.download, transfers.get)


async def measured(
    transfer: Awaitable[float], server: Collection[int], s3: Collection[int]
) -> Taken:
    groups = (server, [os.getpid()], s3)
    before = [processor_seconds(pids) for pids in groups]
    seconds = await transfer
    used = (processor_seconds(pids) for pids in groups)
    return Taken(seconds, *(each - then for each, then in zip(used, before, strict=True)))


def median(taken: Sequence[Taken]) -> Taken:
    return Taken(
        *(
            statistics.median(getattr(each, name) for each in taken)
            for name in ("seconds", "server", "client", "s3")
        )
    )


def report(name: str, hashing: float, ingot: Taken, bare: Taken, directly: Taken) -> None:
    """Print the rates of a transfer, of the same to a bare handler, and of S3 directly.

    `hashing` is what the server needs to compare the content with its SHA-256.
    """
    print(
        f"  {name}: {SIZE / ingot.seconds / 1e6:.0f} MB/s, ratio to the bare handler "
        f"{bare.seconds / ingot.seconds:.2f} ({SIZE / bare.seconds / 1e6:.0f} MB/s), to S3 "
        f"directly {directly.seconds / ingot.seconds:.2f} "
        f"({SIZE / directly.seconds / 1e6:.0f} MB/s)"
    )
    print(f"  processor seconds: {ingot}; bare handler: {bare}; S3 directly: {directly}")
    least = bare.processor + directly.processor + hashing
    print(
        f"  at least {bare.server:.2f} of a bare handler + {directly.client:.2f} of a client of S3 "
        f"+ {hashing:.2f} of SHA-256 for the server, {least:.2f} with client and S3: with all "
        f"processors busy, a ratio of {bare.processor / least:.2f} to the bare handler, "
        f"{directly.processor / least:.2f} to S3 directly"
    )


def hashing_seconds() -> float:
    """Processor time of SHA-256 for as many bytes as are transferred."""
    digest, data, begin = hashlib.sha256(), bytes(CHUNK_BYTES), time.thread_time()
    for _ in range(SIZE // CHUNK_BYTES):
        digest.update(data)
    return time.thread_time() - begin
