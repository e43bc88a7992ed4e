"""Twenty minutes of sound that are stored, made MP3, against bare ffmpeg with the same command.

Both in turn, three times; the ratio is of each pair. The conversion is from the call of Convert to
SUCCEEDED, so with the way to its worker, the blob's way out of the bucket and the result's into it,
tags and validation.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import grpc
import imageio_ffmpeg

from bench.clips import recording
from bench.origin import origin
from ingot import Client
from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.library.recipes import canonical_recipe
from ingot_server.transcode.commands import convert_arguments
from ingot_server.transcode.plan import plan_conversion
from tests.installation import installation

MINUTES = 20
RUNS = 3
MP3 = Recipe(mp3=Recipe.Mp3())


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        path = await recording(folder, MINUTES)
        with installation(folder / "data", workers="1") as ingot:
            async with (
                origin(path) as address,
                Client(ingot.grpc_address) as client,
                grpc.aio.insecure_channel(ingot.grpc_address) as channel,
            ):
                stub = IngestServiceStub(channel)
                ratios = []
                for run in range(RUNS):
                    media = await (await client.ingest_video(f"{address}/{run}.m4a"))
                    bare = await ffmpeg(media, path, folder / f"{run}.mp3")
                    begin = time.perf_counter()
                    answer = await stub.Convert(ConvertRequest(media_id=media.id, recipe=MP3))
                    await (await client.job(answer.job.id))
                    whole = time.perf_counter() - begin
                    ratios.append(whole / bare)
                    print(f"  ffmpeg {bare:.2f} s  Convert {whole:.2f} s  {whole / bare:.3f}")
                print(
                    f"  {MINUTES} minutes, {path.stat().st_size:,} bytes; "
                    f"median ratio {statistics.median(ratios):.3f}"
                )


async def ffmpeg(media: Media, source: Path, target: Path) -> float:
    arguments = convert_arguments(
        plan_conversion(canonical_recipe(MP3), media),
        f"file:{source}",
        target,
        threads=Settings().conversion_threads,
    )
    begin = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *arguments)
    )
    if await process.wait() != 0:
        raise RuntimeError("ffmpeg failed")
    return time.perf_counter() - begin
