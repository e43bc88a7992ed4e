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


async def segments(folder: Path, count: int, size_bytes: int) -> Path:
    """A directory with `list.m3u8`, HLS of `count` segments of a second and about `size_bytes`."""
    path = await clip(folder, size_bytes)
    target = folder / "hls"
    target.mkdir()
    await _ffmpeg(
        "-stream_loop", str(count - 1), "-i", str(path), "-c", "copy", "-f", "hls",
        "-hls_time", "1", "-hls_list_size", "0", "-hls_playlist_type", "vod",
        str(target / "list.m3u8"),
    )  # fmt: skip
    return target
