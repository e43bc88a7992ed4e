"""GetMedia of cached media, against a bare grpc.aio handler, and over Connect against gRPC."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from bench.bare_handler import CALLERS, CALLS, ROUNDS, compare, rate
from bench.clips import clip
from bench.connect_calls import connect_rate
from bench.known_caller import SETTINGS, TOKEN
from bench.origin import origin
from bench.processes import processor_seconds
from ingot import Client
from ingot.v1.media_service_pb2 import GetMediaRequest, GetMediaResponse
from tests.installation import Installation, installation

_PATH = "/ingot.v1.MediaService/GetMedia"


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        path = await clip(folder, 100_000)
        with installation(folder / "data", workers="1", **SETTINGS) as ingot:
            async with (
                origin(path) as address,
                Client(ingot.grpc_address, token=TOKEN) as client,
            ):
                url = f"{address}/clip.mp4"
                media = await (await client.ingest_video(url))
                by_id = GetMediaRequest(media_id=media.id)
                await compare(
                    "GetMedia",
                    {"by id": by_id, "by URL": GetMediaRequest(url=url)},
                    ingot,
                    GetMediaResponse(media=media),
                    folder,
                )
                await compare_transports(ingot, by_id)


async def compare_transports(ingot: Installation, request: GetMediaRequest) -> None:
    """Print what Connect serves against gRPC: calls, and calls for the server's processor time."""
    http_address = ingot.wait_for(r"^HTTP\s+(\S+)")[1]
    content = request.SerializeToString()
    servers = ingot.children("serve")
    ratios, connect_rates, seconds = [], [], [0.0, 0.0]
    for _ in range(ROUNDS):
        used = [processor_seconds(servers)]
        over_grpc = await rate("GetMedia", ingot.grpc_address, request)
        used.append(processor_seconds(servers))
        connect_rates.append(
            await connect_rate(http_address, _PATH, content, calls=CALLS, connections=CALLERS)
        )
        used.append(processor_seconds(servers))
        ratios.append(connect_rates[-1] / over_grpc)
        seconds = [seconds[0] + used[1] - used[0], seconds[1] + used[2] - used[1]]
    grpc_us, connect_us = (each * 1e6 / (CALLS * ROUNDS) for each in seconds)
    print(
        f"  over Connect: {statistics.median(connect_rates):.0f} calls/s, ratio to gRPC: median "
        f"{statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
    )
    print(
        f"  processor time of the server for a call: {grpc_us:.0f} us over gRPC, {connect_us:.0f} "
        f"us over Connect, ratio {grpc_us / connect_us:.2f}"
    )
