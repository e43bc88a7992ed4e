"""A method of Ingot against a bare grpc.aio handler that returns the same message.

Both servers run in processes of their own; the same client calls them in turn, in many short
rounds, so that whatever else the machine does falls on both. Ingot asks who calls and counts the
calls; the client sends both the same token.

Client and server share the processors, so rates tell of both, and of what else runs. The processor
time that a server takes for a call is its own.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bench.known_caller import METADATA
from bench.processes import processor_seconds
from ingot.v1 import ingest_service_pb2, media_service_pb2
from tests.installation import Installation

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
    method: str,
    requests: dict[str, Message],
    ingot: Installation,
    response: Message,
    folder: Path,
) -> None:
    """Prints for each named request the calls per second, the processor time, and the ratios."""
    path = folder / "response.binpb"
    path.write_bytes(response.SerializeToString())
    async with bare_handler(method, path) as (bare_address, bare_process):
        for name, request in requests.items():
            ingot_server = Server(ingot.grpc_address, ingot.children("serve"))
            bare_server = Server(bare_address, [bare_process])
            for _ in range(ROUNDS):
                for server in (bare_server, ingot_server):
                    await server.measure(method, request)
            rates = zip(ingot_server.rates, bare_server.rates, strict=True)
            ratios = [of_ingot / of_bare for of_ingot, of_bare in rates]
            print(
                f"  {name}: {statistics.median(ingot_server.rates):.0f} calls/s, ratio to the bare "
                f"handler: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to "
                f"{max(ratios):.2f}"
            )
            used, bare_used = (each.microseconds_a_call for each in (ingot_server, bare_server))
            print(
                f"  processor time of the server for a call: {used:.0f} us, of the bare handler "
                f"{bare_used:.0f} us, ratio {bare_used / used:.2f}"
            )


class Server:
    """A server that is measured in rounds."""

    def __init__(self, address: str, pids: Collection[int]) -> None:
        self._address = address
        self._pids = pids
        self._seconds = 0.0
        self.rates: list[float] = []
        """Calls per second of each round."""

    async def measure(self, method: str, request: Message) -> None:
        before = processor_seconds(self._pids)
        self.rates.append(await rate(method, self._address, request))
        self._seconds += processor_seconds(self._pids) - before

    @property
    def microseconds_a_call(self) -> float:
        """Processor time of the server, with what it does besides."""
        return self._seconds * 1e6 / (CALLS * len(self.rates))


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
async def bare_handler(method: str, response: Path) -> AsyncIterator[tuple[str, int]]:
    """Runs a bare handler; yields its address and the id of its process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.bare_handler", method, str(response)),
        stdout=asyncio.subprocess.PIPE,
        # As `up` starts its children: Linux deals the processor out by session (sched(7)).
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        port = (await process.stdout.readline()).decode().strip()
        yield f"127.0.0.1:{port}", process.pid
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
