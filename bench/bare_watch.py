"""A grpc.aio server whose WatchJob sends a job that runs, and one that has ended after CancelJob.

It is what thousands of watchers cost at least, with a library that is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from ingot.v1 import job_pb2
from ingot.v1.job_service_pb2 import WatchJobResponse


class Watches:
    """The watches since the last end of a job."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    async def watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        ended = self._ended
        yield _response(job_pb2.JOB_STATE_RUNNING)
        await ended.wait()
        yield _ENDED

    async def end(self, request: bytes, context: Any) -> bytes:
        self._ended.set()
        self._ended = asyncio.Event()
        return b""


def _response(state: job_pb2.JobState.ValueType) -> bytes:
    # About as large as that of a job.
    return WatchJobResponse(job=job_pb2.Job(state=state, url="-" * 500)).SerializeToString()


_ENDED = _response(job_pb2.JOB_STATE_SUCCEEDED)


async def serve() -> None:
    watches = Watches()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "WatchJob": grpc.unary_stream_rpc_method_handler(watches.watch),
        "CancelJob": grpc.unary_unary_rpc_method_handler(watches.end),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("ingot.v1.JobService", handlers)]
    )
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve())
