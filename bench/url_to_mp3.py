"""From a URL to a stored MP3, against yt-dlp's `-x --audio-format mp3` and an upload of its result.

Both in turn, three times, on a source limited to 20 MB/s; the ratio is of each pair. The media is
ten minutes of 720p at 2.5 Mbit/s and its sound, index first. yt-dlp runs as its own command does,
with the same ffmpeg and bit rate, and its MP3 goes into the same S3 server.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import grpc
import imageio_ffmpeg
from minio import Minio

from bench.clips import film
from bench.origin import origin
from ingot import Client
from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from tests.installation import installation

MINUTES = 10
VIDEO_KBPS = 2500
RATE = 20 * 1000 * 1000
RUNS = 3
MP3 = Recipe(mp3=Recipe.Mp3())


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        path = await film(folder, MINUTES, video_kbps=VIDEO_KBPS)
        with installation(folder / "data", workers="1") as ingot:
            async with (
                origin(path, bytes_per_second=RATE) as address,
                Client(ingot.grpc_address) as client,
                grpc.aio.insecure_channel(ingot.grpc_address) as channel,
            ):
                stub = IngestServiceStub(channel)
                ratios = []
                for run in range(RUNS):
                    url = f"{address}/{run}.mp4"
                    alone, uploaded = await fetch(url, folder / f"{run}", ingot.s3_settings())
                    begin = time.perf_counter()
                    answer = await stub.Convert(ConvertRequest(url=url, recipe=MP3))
                    await (await client.job(answer.job.id))
                    whole = time.perf_counter() - begin
                    ratios.append(whole / (alone + uploaded))
                    print(
                        f"  yt-dlp {alone:.2f} s and upload {uploaded:.2f} s  "
                        f"Convert {whole:.2f} s  {ratios[-1]:.3f}"
                    )
                print(
                    f"  {MINUTES} minutes, {path.stat().st_size:,} bytes; "
                    f"median ratio {statistics.median(ratios):.3f}"
                )


async def fetch(url: str, target: Path, settings: Settings) -> tuple[float, float]:
    """Seconds that yt-dlp takes, and then the upload."""
    begin = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "yt_dlp", "--ignore-config", "--quiet", "--no-warnings",
        "-x", "--audio-format", "mp3", "--audio-quality", "192K",
        "--ffmpeg-location", imageio_ffmpeg.get_ffmpeg_exe(), "-o", f"{target}.%(ext)s", url,
    )  # fmt: skip
    if await process.wait() != 0:
        raise RuntimeError("yt-dlp failed")
    fetched = time.perf_counter()
    s3 = Minio(
        settings.s3_endpoint,
        settings.s3_access_key,
        settings.s3_secret_key,
        secure=False,
        region=settings.s3_region,
    )
    made = f"{target}.mp3"
    await asyncio.to_thread(s3.fput_object, settings.s3_bucket, f"bench/{target.name}.mp3", made)
    return fetched - begin, time.perf_counter() - fetched
