"""A method of Ingot against a bare grpc.aio handler that returns the same message.

Both servers run in processes of their own; the same client calls them in turn, fifty times each, so
that whatever else the machine does falls on both. Ingot asks who calls and counts the calls; the
client sends both the same token.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bench.known_caller import METADATA
from ingot.v1 import ingest_service_pb2, media_service_pb2

CALLS = 960
CALLERS = 32
ROUNDS = 50
METHODS: dict[str, MethodDescriptor] = {
    method.name: method
    for file in (ingest_service_pb2, media_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


async def compare(
    method: str, requests: dict[str, Message], ingot: str, response: Message, folder: Path
) -> None:
    """Prints for each named request how many calls per second Ingot serves, and the ratio."""
    path = folder / "response.binpb"
    path.write_bytes(response.SerializeToString())
    async with bare_handler(method, path) as bare:
        for name, request in requests.items():
            ratios, rates = [], []
            for _ in range(ROUNDS):
                bare_rate = await rate(method, bare, request)
                rates.append(await rate(method, ingot, request))
                ratios.append(rates[-1] / bare_rate)
            print(
                f"  {name}: {statistics.median(rates):.0f} calls/s, ratio to the bare handler: "
                f"median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
            )


async def rate(method: str, address: str, request: Message) -> float:
    descriptor = METHODS[method]
    async with grpc.aio.insecure_channel(address) as channel:
        stub = channel.unary_unary(
            f"/{descriptor.containing_service.full_name}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=GetMessageClass(descriptor.output_type).FromString,
        )
        await stub(request, metadata=METADATA)

        async def call() -> None:
            for _ in range(CALLS // CALLERS):
                await stub(request, metadata=METADATA)

        begin = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(CALLERS)))
        return CALLS / (time.perf_counter() - begin)


@asynccontextmanager
async def bare_handler(method: str, response: Path) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.bare_handler", method, str(response)),
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


async def serve(method: str, path: Path) -> None:
    descriptor = METHODS[method]
    response_class = GetMessageClass(descriptor.output_type)
    response = response_class.FromString(path.read_bytes())

    async def handle(request: Message, context: object) -> Message:
        return response

    handler = grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=GetMessageClass(descriptor.input_type).FromString,
        response_serializer=response_class.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                descriptor.containing_service.full_name, {method: handler}
            )
        ]
    )
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2])))
