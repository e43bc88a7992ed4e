"""What an extraction returns: one media item or a list, then the files of the media item."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from ingot.v1.ingest_service_pb2 import ListEntry, OfferedFormat, ResolveResponse
from ingot.v1.media_pb2 import AudioStream, Chapter, Extraction, FrameRate, Shortfall, SideFile

_LONGEST_TITLE: Final = 200
# As in 30000/1001.
_LARGEST_DENOMINATOR: Final = 1001
_KINDS: Final = {
    "is_live": ResolveResponse.KIND_LIVE,
    "is_upcoming": ResolveResponse.KIND_UPCOMING,
}


@dataclass(frozen=True, slots=True)
class Offer:
    """What a preview has besides: all that the source offers."""

    formats: tuple[OfferedFormat, ...]
    """The best one is the last one."""
    selection_error: str
    """Why nothing can be selected; empty if something was."""
    is_upcoming: bool
    start_time: datetime | None


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
    audio: tuple[AudioStream, ...]
    """Language and role of each audio stream of the selected formats, in the order of the file."""
    is_live: bool
    size_bytes: int | None
    extraction: Extraction
    offer: Offer | None = None
    """None if it is not a preview."""


@dataclass(frozen=True, slots=True)
class Entries:
    """A playlist, channel or album: at most max_entries + 1 entries, and the total it announces."""

    title: str
    extractor: str
    extractor_id: str
    entries: tuple[ListEntry, ...]
    total: int

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of the entries."""
        return tuple(entry.url for entry in self.entries)


@dataclass(frozen=True, slots=True)
class FetchedSideFile:
    """A side file on this machine, before it is stored."""

    path: Path
    kind: SideFile.Kind.ValueType
    language: str = ""
    automatic: bool = False
    content_type: str = ""
    """Empty if the name says it."""
    converted: bool = False
    """Whether it was made here, of another side file."""


@dataclass(frozen=True, slots=True)
class ManifestLength:
    """How long an HLS or DASH manifest says that the media is."""

    seconds: float
    shortest_seconds: float
    longest_seconds: float
    """A file between these two agrees with the manifest."""


@dataclass(frozen=True, slots=True)
class FetchedSection:
    """Which section of the media a file is."""

    start_seconds: float
    """Where the file begins in the media."""
    whole_seconds: float | None
    """How long the media is; None if that is not known."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The complete media file, merged into one container, and the requested side files."""

    path: Path
    side_files: tuple[FetchedSideFile, ...]
    announcement: ManifestLength | None = None
    """None if the media has no HLS or DASH manifest that was read here, or is a section."""
    section: FetchedSection | None = None
    """None if the file is all of the media."""


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
        audio=tuple(
            AudioStream(
                language=found["language"], role=AudioStream.Role.Value(f"ROLE_{found['role']}")
            )
            for found in answer["audio"]
        ),
        extraction=Extraction(
            extractor=answer["extractor"],
            extractor_version=version,
            format_id=answer["format_id"],
            format_reason=answer["format_reason"],
            shortfall=_shortfall(answer["shortfall"]) if answer.get("shortfall") else None,
        ),
        offer=_offer(answer["preview"]) if "preview" in answer else None,
    )


def _shortfall(found: dict[str, Any]) -> Shortfall:
    causes = [Shortfall.Cause.Value(f"CAUSE_{cause}") for cause in found["causes"]]
    return Shortfall(**{**found, "causes": causes})


def listed(answer: dict[str, Any]) -> Entries:
    """Build Entries from the child's message."""
    entries = []
    for found in answer["entries"]:
        entry = ListEntry(
            url=found["url"],
            title=found["title"][:_LONGEST_TITLE],
            kind=_KINDS.get(found["live_status"], ResolveResponse.KIND_UNSPECIFIED),
        )
        if found["duration"] is not None:
            entry.duration.FromTimedelta(timedelta(seconds=found["duration"]))
        if found["publish_time"] is not None:
            entry.publish_time.FromDatetime(datetime.fromtimestamp(found["publish_time"], UTC))
        entries.append(entry)
    return Entries(
        title=answer["title"],
        extractor=answer["extractor"],
        extractor_id=answer["extractor_id"],
        entries=tuple(entries),
        total=answer["total"],
    )


def _offer(found: dict[str, Any]) -> Offer:
    formats = []
    for each in found["formats"]:
        fps, audio_role = each.pop("fps"), each.pop("audio_role")
        offered = OfferedFormat(**{key: value for key, value in each.items() if value is not None})
        offered.audio_role = AudioStream.Role.Value(f"ROLE_{audio_role}")
        if fps:
            rate = Fraction(fps).limit_denominator(_LARGEST_DENOMINATOR)
            numbers = FrameRate(numerator=rate.numerator, denominator=rate.denominator)
            offered.frame_rate.CopyFrom(numbers)
        formats.append(offered)
    moment = found["start_time"]
    return Offer(
        formats=tuple(formats),
        selection_error=found["selection_error"],
        is_upcoming=found["is_upcoming"],
        start_time=None if moment is None else datetime.fromtimestamp(moment, UTC),
    )
