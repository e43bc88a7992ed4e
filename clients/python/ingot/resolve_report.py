"""What is behind a URL as text, for `ingot resolve`."""

from __future__ import annotations

from ingot.enums import name_of
from ingot.render import duration, size, table
from ingot.v1.ingest_service_pb2 import ListEntry, OfferedFormat, ResolveResponse

_FORMAT_COLUMNS = ("format", "container", "video", "audio", "language", "bit rate", "size")
_ENTRY_COLUMNS = ("duration", "title", "url")


def resolve_report(found: ResolveResponse) -> str:
    """Return the report: the media item or list, then its formats, the best first, or entries."""
    blocks = [table(row for row in _rows(found) if row[1])]
    if found.formats:
        blocks.append(table([_FORMAT_COLUMNS, *map(_format, reversed(found.formats))]))
    if found.entries:
        blocks.append(table([_ENTRY_COLUMNS, *map(_entry, found.entries)]))
    return "\n\n".join(blocks)


def _rows(found: ResolveResponse) -> list[tuple[str, str]]:
    media = found.media
    is_known = media.HasField("duration")
    stored = "yes" if found.stored else "no"
    return [
        ("kind", name_of(ResolveResponse.Kind, found.kind).lower()),
        ("title", media.title),
        ("url", media.url),
        ("source", media.source.name),
        ("duration", duration(media.duration.ToTimedelta().total_seconds()) if is_known else ""),
        ("uploader", media.uploader),
        ("entries", str(found.entry_count) if found.HasField("entry_count") else ""),
        ("size", size(found.size_bytes) if found.HasField("size_bytes") else ""),
        ("type", found.content_type),
        ("selected", found.extraction.format_reason),
        ("withheld", found.extraction.shortfall.message),
        ("not selected", found.selection_error.message),
        ("media", media.id),
        ("stored", "" if found.kind == ResolveResponse.KIND_LIST else stored),
    ]


def _format(offered: OfferedFormat) -> tuple[str, ...]:
    rate = offered.frame_rate
    frames = f", {rate.numerator / rate.denominator:.4g} frames/s" if rate.denominator else ""
    height = f" {offered.width}x{offered.height}" if offered.height else ""
    return (
        offered.format_id,
        offered.extension,
        f"{offered.video_codec}{height}{frames}".strip(),
        offered.audio_codec,
        offered.language,
        f"{offered.bitrate_bps / 1000:.0f} kbit/s" if offered.bitrate_bps else "",
        size(offered.size_bytes) if offered.HasField("size_bytes") else "",
    )


def _entry(entry: ListEntry) -> tuple[str, ...]:
    seconds = entry.duration.ToTimedelta().total_seconds()
    return (duration(seconds) if entry.HasField("duration") else "", entry.title, entry.url)
