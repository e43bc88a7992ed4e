"""Extractions by yt-dlp itself, one after another in one process that has its imports done.

    python -m bench.plain_extraction URL DIRECTORY RUNS

It prints the processor time of one, in seconds: of resolving and downloading, with a `YoutubeDL`
that exists already, and of the ffmpeg that repairs the container, which Ingot has it do, too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import imageio_ffmpeg
import yt_dlp


def extract(url: str, directory: Path) -> tuple[float, float]:
    """Return the processor time of one extraction: of yt-dlp, and of ffmpeg."""
    options = {
        "quiet": True,
        "noprogress": True,
        "logger": Silent(),
        "outtmpl": {"default": f"{directory}/media.%(ext)s"},
        "hls_prefer_native": True,
        "external_downloader": {"default": "native"},
        "ffmpeg_location": imageio_ffmpeg.get_ffmpeg_exe(),
        "concurrent_fragment_downloads": 4,
        "overwrites": True,
        "cachedir": False,
    }
    with yt_dlp.YoutubeDL(options) as ydl:
        begin = os.times()
        info = ydl.extract_info(url, download=False)
        ydl.process_info(info)
        end = os.times()
    own = end.user + end.system - begin.user - begin.system
    of_children = end.children_user + end.children_system
    return own, of_children - begin.children_user - begin.children_system


class Silent:
    """A logger of yt-dlp's that drops everything."""

    def debug(self, _message: str) -> None: ...
    def warning(self, _message: str) -> None: ...
    def error(self, _message: str) -> None: ...


def main(url: str, directory: str, runs: str) -> None:
    # The first one does the imports.
    extract(url, Path(directory))
    spent = [extract(url, Path(directory)) for _ in range(int(runs))]
    print(*(sum(each) / len(spent) for each in zip(*spent, strict=True)))


if __name__ == "__main__":
    main(*sys.argv[1:])
