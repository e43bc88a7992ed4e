"""Clips of a wanted size: one short encoding, looped without encoding again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import imageio_ffmpeg


async def clip(folder: Path, size_bytes: int) -> Path:
    """An MP4 of H.264 and AAC of about `size_bytes`, 100 KB or more."""
    path = folder / f"{size_bytes}.mp4"
    rate = min(60_000_000, size_bytes * 8)
    source = folder / f"source-{rate}.mp4"
    if not source.exists():
        await _ffmpeg(
            "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30:duration=1",
            "-f", "lavfi", "-i", "anoisesrc=duration=1",
            "-vf", "noise=alls=80:allf=t", "-c:v", "libx264", "-preset", "ultrafast",
            "-b:v", str(rate), "-maxrate", str(rate), "-bufsize", str(rate // 4),
            "-pix_fmt", "yuv420p", "-c:a", "aac", str(source),
        )  # fmt: skip
    loops = max(0, round(size_bytes / source.stat().st_size) - 1)
    await _ffmpeg(
        "-stream_loop", str(loops), "-i", str(source), "-c", "copy", "-movflags", "+faststart",
        str(path),
    )  # fmt: skip
    return path


async def _ffmpeg(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments
    )
    if await process.wait() != 0:
        raise RuntimeError("ffmpeg failed")
