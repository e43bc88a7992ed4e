"""What the extraction child is asked for first: its one job and its limits.

Imports nothing but the standard library: both the worker and the child use it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """One job. Paths and the proxy are the installation's, the rest is the caller's."""

    url: str
    manifest: bool
    """The URL is one of HLS or DASH, whatever type it is sent with."""
    audio_only: bool
    max_height: int | None
    playlist: bool
    max_entries: int
    record_seconds: float
    subtitle_languages: list[str]
    automatic_subtitles: bool
    thumbnail: bool
    proxy: str
    ca_file: str
    cookies_file: str
    plugins: str
    cache: str
    ffmpeg: str
    deno: str
    fragments: int
    timeout: float
    max_bytes: int
    memory_bytes: int
