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


async def recording(folder: Path, minutes: int) -> Path:
    """An MP4 of AAC alone, 128 kbit/s in stereo: tones that come and go, and noise."""
    path = folder / f"{minutes}.m4a"
    await _ffmpeg(
        *("-i", str(await _sound(folder, minutes)), "-c", "copy"),
        *("-movflags", "+faststart", str(path)),
    )
    return path


async def film(folder: Path, minutes: int, *, video_kbps: int) -> Path:
    """An MP4 of H.264 in 720p and the sound of `recording`, its index first."""
    path = folder / f"{minutes}.mp4"
    scene = folder / f"scene-{video_kbps}.mp4"
    rate = f"{video_kbps}k"
    await _ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30:duration=5",
        "-vf", "noise=alls=20:allf=t", "-c:v", "libx264", "-preset", "ultrafast",
        "-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", rate,
        "-x264-params", "nal-hrd=cbr", "-pix_fmt", "yuv420p", str(scene),
    )  # fmt: skip
    await _ffmpeg(
        "-stream_loop", "-1", "-i", str(scene), "-i", str(await _sound(folder, minutes)),
        "-t", str(60 * minutes), "-c", "copy", "-movflags", "+faststart", str(path),
    )  # fmt: skip
    return path


async def _sound(folder: Path, minutes: int) -> Path:
    """ADTS, whose frames can follow each other as often as wanted."""
    minute = folder / "minute.aac"
    await _ffmpeg(
        "-f", "lavfi", "-i", "anoisesrc=color=pink:amplitude=0.1:duration=60:sample_rate=44100",
        "-f", "lavfi", "-i",
        "aevalsrc=0.2*sin(2*PI*220*t)*(1+sin(4*PI*t))+0.1*sin(2*PI*(440+100*sin(t))*t)"
        "|0.2*sin(2*PI*330*t)*(1+cos(6*PI*t)):s=44100:d=60",
        "-filter_complex", "[0][1]amerge=2,pan=stereo|c0=c0+c1|c1=c0+c2",
        "-c:a", "aac", "-b:a", "128k", str(minute),
    )  # fmt: skip
    path = folder / f"{minutes}.aac"
    path.write_bytes(minute.read_bytes() * minutes)
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
