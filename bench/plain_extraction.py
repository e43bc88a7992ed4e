"""Extractions by yt-dlp itself, one after another in one process that has its imports done.

    python -m bench.plain_extraction URL DIRECTORY RUNS

It prints the processor time of one, in seconds: of resolving and downloading, with a `YoutubeDL`
that exists already.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import yt_dlp


def extract(url: str, directory: Path) -> float:
    """Return the processor time of one extraction."""
    options = {
        "quiet": True,
        "noprogress": True,
        "logger": Silent(),
        "outtmpl": {"default": f"{directory}/media.%(ext)s"},
        "hls_prefer_native": True,
        "external_downloader": {"default": "native"},
        "fixup": "never",
        "concurrent_fragment_downloads": 4,
        "overwrites": True,
        "cachedir": False,
    }
    with yt_dlp.YoutubeDL(options) as ydl:
        begin = time.process_time()
        info = ydl.extract_info(url, download=False)
        ydl.process_info(info)
        return time.process_time() - begin


class Silent:
    """A logger of yt-dlp's that drops everything."""

    def debug(self, _message: str) -> None: ...
    def warning(self, _message: str) -> None: ...
    def error(self, _message: str) -> None: ...


def main(url: str, directory: str, runs: str) -> None:
    # The first one does the imports.
    extract(url, Path(directory))
    spent = [extract(url, Path(directory)) for _ in range(int(runs))]
    print(sum(spent) / len(spent))


if __name__ == "__main__":
    main(*sys.argv[1:])
