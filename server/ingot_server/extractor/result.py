"""What an extraction returns: one media item or a list, then the files of the media item."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ingot.v1.media_pb2 import Chapter, Extraction, SideFile


@dataclass(frozen=True, slots=True)
class Resolved:
    """One media item, before it is downloaded. Unknown texts are empty, unknown numbers None."""

    extractor: str
    extractor_id: str
    identity: str
    """Its id among all media of this extractor; empty if it cannot be trusted."""
    title: str
    description: str
    tags: tuple[str, ...]
    uploader: str
    publish_time: datetime | None
    duration_seconds: float | None
    thumbnail_url: str
    page_url: str
    chapters: tuple[Chapter, ...]
    is_live: bool
    size_bytes: int | None
    extraction: Extraction


@dataclass(frozen=True, slots=True)
class Entries:
    """A playlist, channel or album: at most max_entries + 1 URLs, and the total it announces."""

    title: str
    extractor: str
    extractor_id: str
    urls: tuple[str, ...]
    total: int


@dataclass(frozen=True, slots=True)
class FetchedSideFile:
    """A subtitle or thumbnail in the directory that was given to `fetch`."""

    path: Path
    kind: SideFile.Kind.ValueType
    language: str
    automatic: bool
    content_type: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """The complete media file, merged into one container, and the requested side files."""

    path: Path
    side_files: tuple[FetchedSideFile, ...]


def resolved(answer: dict[str, Any], version: str) -> Resolved:
    """Build a Resolved from the child's message; `version` is the yt-dlp that the child runs."""
    chapters = []
    for found in answer["chapters"]:
        chapter = Chapter(title=found["title"])
        chapter.start_offset.FromTimedelta(timedelta(seconds=found["start"]))
        chapter.end_offset.FromTimedelta(timedelta(seconds=found["end"]))
        chapters.append(chapter)
    moment = answer["publish_time"]
    return Resolved(
        **{
            name: answer[name]
            for name in (
                *("extractor", "extractor_id", "identity", "title", "description", "uploader"),
                *("thumbnail_url", "page_url", "is_live", "size_bytes"),
            )
        },
        tags=tuple(answer["tags"]),
        publish_time=None if moment is None else datetime.fromtimestamp(moment, UTC),
        duration_seconds=answer["duration"],
        chapters=tuple(chapters),
        extraction=Extraction(
            extractor=answer["extractor"],
            extractor_version=version,
            format_id=answer["format_id"],
            format_reason=answer["format_reason"],
        ),
    )
