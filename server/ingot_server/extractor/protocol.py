"""What the worker and its extraction child send each other as JSON: a request and a failure report.

`child_main.py` documents the order of the messages. This module imports only the standard library
and `formats`, because both sides use it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ingot_server.extractor.formats import Wanted


@dataclass(frozen=True, slots=True)
class Request:
    """One extraction. Paths and the proxy come from the installation, the rest from the caller."""

    url: str
    manifest: bool
    """Whether the URL is an HLS or DASH manifest, whatever its content type says."""
    audio_only: bool
    max_height: int | None
    min_height: int | None
    audio_language: str
    all_audio_languages: bool
    video_codecs: list[str]
    preview: bool
    """Whether to describe what is there, also if it cannot be fetched so or not now."""
    playlist: bool
    max_entries: int
    record_seconds: float
    section: tuple[float, float | None, bool] | None
    """Where the section begins and ends in seconds, None for the end of the media, and whether it
    is cut exactly there. None: all."""
    subtitle_languages: list[str]
    automatic_subtitles: bool
    thumbnail: bool
    all_subtitles: bool
    info: bool
    storyboard: bool
    sponsorblock_categories: list[str]
    """Which segments become chapters; empty if SponsorBlock is not asked."""
    sponsorblock_api: str
    proxy: str
    ca_file: str
    cookies_file: str
    po_tokens: bool
    """Whether PO tokens are made if YouTube keeps formats back without."""
    plugins: str
    plugin_port: int
    """The port of 127.0.0.1 that plug-ins may reach; 0 if there are none."""
    cache: str
    """A directory of this job alone, for what yt-dlp, deno and libraries keep."""
    directory: str
    """Where it may write besides the cache; empty if it is not to fetch anything."""
    ffmpeg: str
    deno: str
    fragments: int
    timeout: float
    max_bytes: int
    memory_bytes: int

    @property
    def is_identified(self) -> bool:
        """Whether the source may know for which account it is asked."""
        return bool(self.cookies_file or self.plugins)

    @property
    def wanted(self) -> Wanted:
        """What is selected."""
        return Wanted(
            audio_only=self.audio_only,
            max_height=self.max_height,
            min_height=self.min_height,
            audio_language=self.audio_language,
            all_audio_languages=self.all_audio_languages,
            video_codecs=self.video_codecs,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """One exception, as the extraction child reports it."""

    message: str
    """The messages of the whole chain, the outermost first, one per line."""
    kinds: tuple[str, ...] = ()
    """The class names of the whole chain and of their base classes."""
    http_status: int = 0
    proxy_status: str = ""
    """The guard's Proxy-Status field if it refused a request; otherwise empty."""
    host: str = ""
    """The host of the last request; may be empty."""
    retry_after: str = ""
    start_time: str = ""
    """When an announced stream begins (RFC 3339); empty if unknown."""
    version: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
