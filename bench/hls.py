"""Ingest of HLS of 200 segments, against `yt-dlp -N 4` on the same URL.

Both in turn, five times; the ratio is that of the medians. yt-dlp runs as its own command does,
with the same ffmpeg; the ingest is from the call to SUCCEEDED, so with the upload and the probe.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import imageio_ffmpeg

from bench.clips import segments
from bench.site import site
from ingot import Client
from tests.installation import installation

COUNT = 200
SEGMENT_BYTES = 500_000
RUNS = 5


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        files = await segments(folder, COUNT, SEGMENT_BYTES)
        size = sum(path.stat().st_size for path in files.glob("*.ts"))
        with installation(folder / "data", workers="1") as ingot:
            async with site(files) as address, Client(ingot.grpc_address) as client:
                alone, whole = [], []
                for run in range(RUNS):
                    url = f"{address}/list.m3u8?run={run}"
                    alone.append(await fetch(url, folder / f"{run}.mp4"))
                    begin = time.perf_counter()
                    await (await client.ingest_video(url))
                    whole.append(time.perf_counter() - begin)
                    print(f"  yt-dlp {alone[-1]:.2f} s  ingest {whole[-1]:.2f} s")
                ratio = statistics.median(whole) / statistics.median(alone)
                print(f"  {COUNT} segments, {size:,} bytes; ratio of the medians {ratio:.3f}")


async def fetch(url: str, target: Path) -> float:
    begin = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "yt_dlp", "-N", "4", "--ignore-config", "--quiet", "--no-warnings",
        "--ffmpeg-location", imageio_ffmpeg.get_ffmpeg_exe(), "-o", str(target), url,
    )  # fmt: skip
    if await process.wait() != 0:
        raise RuntimeError("yt-dlp failed")
    seconds = time.perf_counter() - begin
    target.unlink()
    return seconds
