"""A file that a fetch method received, with what its source says about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ingot_server.extractor.result import FetchedSideFile, ManifestLength, Resolved
from ingot_server.section.requested import StoredSection
from ingot_server.sources.source import Identity
from ingot_server.telegram.bot_files import TelegramFile
from ingot_server.transfer.staged import StagedUploads


@dataclass(frozen=True, slots=True)
class Extracted:
    """What yt-dlp found about a file, and the side files that it fetched."""

    resolved: Resolved
    side_files: Sequence[FetchedSideFile]
    staged_uploads: StagedUploads
    """Where the side files are staged, next to the file itself."""


Details: TypeAlias = Extracted | TelegramFile | None
"""What the source says about the content; None if it says nothing."""


@dataclass(frozen=True, slots=True)
class Received:
    """One complete file. Texts are empty if the source does not say."""

    path: Path
    """The file on this machine, in scratch space."""
    media_id: str
    identity: Identity
    """The identity that the media item gets."""
    filename: str = ""
    """The name at the source, for people."""
    etag: str = ""
    last_modified: str = ""
    mutable: bool = False
    """Whether the content may change at its source. Only then the manifest has a SourceVersion."""
    announced_seconds: float | None = None
    """The duration that the source announced; None or zero if it announced none."""
    announced_by_manifest: ManifestLength | None = None
    """What an HLS or DASH manifest announced."""
    section: StoredSection | None = None
    """Which section of the media the file is; None if it is all of it."""
    delivered: bool = False
    """Whether these are all bytes that the source announced: another attempt gets the same."""
    details: Details = None
