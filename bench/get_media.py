"""GetMedia of cached media, against a bare grpc.aio handler that returns the same message."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.bare_handler import compare
from bench.clips import clip
from bench.origin import origin
from ingot import Client
from ingot.v1.media_service_pb2 import GetMediaRequest, GetMediaResponse
from tests.installation import installation


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        path = await clip(folder, 100_000)
        with installation(folder / "data", workers="1") as ingot:
            async with origin(path) as address, Client(ingot.grpc_address) as client:
                url = f"{address}/clip.mp4"
                media = await (await client.ingest_video(url))
                await compare(
                    "GetMedia",
                    {
                        "by id": GetMediaRequest(media_id=media.id),
                        "by URL": GetMediaRequest(url=url),
                    },
                    ingot.grpc_address,
                    GetMediaResponse(media=media),
                    folder,
                )
