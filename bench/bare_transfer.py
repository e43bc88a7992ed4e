"""A grpc.aio server that sends the same serialized chunk again and again, and takes all it gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import grpc

from ingot.v1.ingest_service_pb2 import UploadResponse
from ingot.v1.media_service_pb2 import DownloadRequest, DownloadResponse

CHUNK_BYTES = 256 << 10


async def download(request: DownloadRequest, context: Any) -> AsyncIterator[bytes]:
    """Send `request.limit` bytes."""
    chunk = DownloadResponse(offset=1 << 28, data=bytes(CHUNK_BYTES)).SerializeToString()
    for _ in range(-(-request.limit // CHUNK_BYTES)):
        yield chunk


async def upload(requests: AsyncIterable[bytes], context: Any) -> bytes:
    async for _ in requests:
        pass
    return UploadResponse().SerializeToString()


async def serve() -> None:
    server = grpc.aio.server()
    handlers: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {
        "ingot.v1.MediaService": {
            "Download": grpc.unary_stream_rpc_method_handler(
                download, request_deserializer=DownloadRequest.FromString
            )
        },
        "ingot.v1.IngestService": {"Upload": grpc.stream_unary_rpc_method_handler(upload)},
    }
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(name, each) for name, each in handlers.items()]
    )
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve())
