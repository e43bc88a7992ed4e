"""Which ffmpeg is used."""

from __future__ import annotations

import imageio_ffmpeg

from ingot_server.config import Settings


def ffmpeg_program(settings: Settings) -> str:
    """Return its path: the one that is set, or that of the package imageio-ffmpeg."""
    return settings.ffmpeg or str(imageio_ffmpeg.get_ffmpeg_exe())
