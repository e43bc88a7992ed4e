"""1,000 callers of one new URL at once: until the last one has its answer, and downloads."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from bench import origin
from bench.clips import clip
from bench.known_caller import METADATA, SETTINGS
from bench.processes import processor_seconds
from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import WatchJobRequest
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from tests.installation import installation

CALLERS = 1_000
CONNECTIONS = 10
ROUNDS = 5


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = await clip(Path(directory), 100_000)
        with installation(Path(directory, "data"), workers="1", **SETTINGS) as ingot:
            servers = ingot.children("serve")
            async with counting_origin(path) as (address, asked), AsyncExitStack() as stack:
                channels = [
                    await stack.enter_async_context(
                        # Otherwise all channels to one address share a connection.
                        grpc.aio.insecure_channel(
                            ingot.grpc_address, options=[("grpc.use_local_subchannel_pool", 1)]
                        )
                    )
                    for _ in range(CONNECTIONS)
                ]
                await ask(channels, f"{address}/first.mp4")
                seconds, used = [], processor_seconds(servers)
                for number in range(ROUNDS):
                    asked.clear()
                    begin = time.perf_counter()
                    jobs = await ask(channels, f"{address}/clip-{number}.mp4")
                    seconds.append(time.perf_counter() - begin)
                    # Who comes when the job has just ended may get another, or what is stored.
                    for job_id in {job.id for job in jobs if not job.cached}:
                        await ended(channels[0], job_id)
                    assert len(asked) == 1, "the file is downloaded once"
                microseconds = (processor_seconds(servers) - used) * 1e6 / CALLERS / ROUNDS
    print(
        f"  {CALLERS:,} callers of a new URL: median {statistics.median(seconds):.2f} s until the "
        f"last answer, worst {max(seconds):.2f} s, one download; {microseconds:.0f} us of the "
        "server's processor time for a call"
    )


async def ask(channels: list[grpc.aio.Channel], url: str) -> list[Job]:
    """Ingest a URL for all callers at once; return the jobs that they get."""
    stubs: list[Any] = [IngestServiceStub(channel) for channel in channels]
    responses = await asyncio.gather(
        *(
            stubs[number % len(stubs)].Ingest(IngestRequest(url=url), metadata=METADATA)
            for number in range(CALLERS)
        )
    )
    return [response.job for response in responses]


async def ended(channel: grpc.aio.Channel, job_id: str) -> None:
    stub: Any = JobServiceStub(channel)
    job = Job()
    async for response in stub.WatchJob(WatchJobRequest(job_id=job_id), metadata=METADATA):
        job = response.job
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job


@asynccontextmanager
async def counting_origin(path: Path) -> AsyncIterator[tuple[str, list[None]]]:
    """Serve a file under every path; yield the address, and a list with an entry per request."""
    asked: list[None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(None)
        await origin.answer(path, 0, reader, writer)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
