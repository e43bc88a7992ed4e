"""GetMedia of a cached media item, against a bare grpc.aio handler that returns the same message.

Both servers run in processes of their own; the same client calls them in turn, fifty times each, so
that whatever else the machine does falls on both.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from bench.clips import clip
from bench.origin import origin
from ingot import Client
from ingot.v1.media_service_pb2 import GetMediaRequest, GetMediaResponse
from ingot.v1.media_service_pb2_grpc import MediaServiceStub
from tests.installation import installation

CALLS = 960
CALLERS = 32
ROUNDS = 50


def echo_of(response: GetMediaResponse) -> grpc.GenericRpcHandler:
    async def get_media(request: GetMediaRequest, context: object) -> GetMediaResponse:
        return response

    method = grpc.unary_unary_rpc_method_handler(
        get_media,
        request_deserializer=GetMediaRequest.FromString,
        response_serializer=GetMediaResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("ingot.v1.MediaService", {"GetMedia": method})


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        path = await clip(folder, 100_000)
        with installation(folder / "data", workers="1") as ingot:
            async with origin(path) as address, Client(ingot.grpc_address) as client:
                url = f"{address}/clip.mp4"
                media = await (await client.ingest_video(url))
                message = folder / "response.binpb"
                message.write_bytes(GetMediaResponse(media=media).SerializeToString())
                async with echo(message) as echo_address:
                    requests = {
                        "by id": GetMediaRequest(media_id=media.id),
                        "by URL": GetMediaRequest(url=url),
                    }
                    for name, request in requests.items():
                        await compare(name, request, ingot.grpc_address, echo_address)


async def compare(name: str, request: GetMediaRequest, ingot: str, echo: str) -> None:
    ratios, rates = [], []
    for _ in range(ROUNDS):
        bare = await rate(echo, request)
        cached = await rate(ingot, request)
        ratios.append(cached / bare)
        rates.append(cached)
    print(
        f"  {name}: {statistics.median(rates):.0f} calls/s, ratio to the bare handler: "
        f"median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
    )


async def rate(address: str, request: GetMediaRequest) -> float:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = MediaServiceStub(channel)
        await stub.GetMedia(request)

        async def call() -> None:
            for _ in range(CALLS // CALLERS):
                await stub.GetMedia(request)

        begin = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(CALLERS)))
        return CALLS / (time.perf_counter() - begin)


@asynccontextmanager
async def echo(message: Path) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.get_media", str(message)),
        stdout=asyncio.subprocess.PIPE,
        # As `up` starts its children: Linux deals the processor out by session (sched(7)).
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{(await process.stdout.readline()).decode().strip()}"
    finally:
        process.kill()
        await process.wait()


async def serve(message: Path) -> None:
    server = grpc.aio.server()
    response = GetMediaResponse.FromString(message.read_bytes())
    server.add_generic_rpc_handlers([echo_of(response)])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
