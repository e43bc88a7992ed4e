"""Which yt-dlp this process runs; imported by the extraction child alone."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Final

import yt_dlp.version


def _version() -> str:
    place = str(Path(yt_dlp.__file__).parents[1])
    for found in importlib.metadata.distributions(name="yt-dlp", path=[place]):
        return found.version
    return str(yt_dlp.version.__version__)


VERSION: Final = _version()
"""As package registries write it, such as `2026.8.19`; of what was imported, wherever it lies."""
