"""Ingest of stored media, against a bare grpc.aio handler that returns the same message."""

from __future__ import annotations

import tempfile
from pathlib import Path

import grpc

from bench.bare_handler import compare
from bench.clips import clip
from bench.known_caller import METADATA, SETTINGS, TOKEN
from bench.origin import origin
from ingot import Client
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.recipe_pb2 import Recipe
from tests.installation import installation

MP3 = Recipe(mp3=Recipe.Mp3())


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
                for name, recipes in {"by URL": [], "with a recipe": [MP3]}.items():
                    await (await client.ingest_video(url, recipes=recipes))
                    request = IngestRequest(url=url, recipes=recipes)
                    async with grpc.aio.insecure_channel(ingot.grpc_address) as channel:
                        response = await IngestServiceStub(channel).Ingest(
                            request, metadata=METADATA
                        )
                    assert response.job.cached
                    await compare("Ingest", {name: request}, ingot, response, folder)
