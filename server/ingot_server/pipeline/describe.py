"""From what was downloaded and probed to the Media that is committed, and the last checks."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from ingot.v1 import media_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media, Selection
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.extractor.result import Resolved
from ingot_server.library.multipart import StoredBlob
from ingot_server.library.playable import is_web_playable
from ingot_server.sources.source import Identity
from ingot_server.transfer.download import Downloaded

# How much shorter than its source announced a file may be, and how much longer.
_TOLERANCE_SECONDS: Final = 2.0
_TOLERANCE: Final = 0.02
_LONGER_SECONDS: Final = 60.0
_LONGER: Final = 0.5
_EXTENSION: Final = re.compile(r"\.[a-z0-9]{1,8}")


def extension(url: str) -> str:
    """The file extension of a URL's path, as `name_extension` has it."""
    return name_extension(urlsplit(url).path)


def name_extension(name: str) -> str:
    """The extension of a file's name with its dot, in lower case; empty when it has none."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if _EXTENSION.fullmatch(suffix) else ""


def check_selection(media: Media, selection: Selection) -> None:
    """Raises Failure SELECTION_UNAVAILABLE when a file's streams are not what was asked for."""
    if selection.mode == media_pb2.Selection.MODE_AUDIO_ONLY and media.video:
        raise Failure(
            reason_pb2.REASON_SELECTION_UNAVAILABLE,
            "The file has video and the source has no audio by itself; ingest it with MODE_BEST.",
        )
    if selection.HasField("max_height"):
        height = max((stream.height for stream in media.video), default=0)
        if height > selection.max_height:
            raise Failure(
                reason_pb2.REASON_SELECTION_UNAVAILABLE,
                f"The only video there is {height} pixels high, more than the "
                f"{selection.max_height} asked for; ingest it without max_height.",
            )


def check_announced(found: Resolved, settings: Settings) -> None:
    """Raises Failure TOO_LONG or TOO_LARGE for what need not be fetched to be refused."""
    if found.is_live:
        return
    limit = settings.max_duration
    if found.duration_seconds and found.duration_seconds > limit.total_seconds():
        raise Failure(
            reason_pb2.REASON_TOO_LONG,
            f"The source announces {found.duration_seconds:g} s, more than the limit of {limit}.",
            metadata={"limit_seconds": f"{limit.total_seconds():g}"},
        )
    if found.size_bytes and found.size_bytes > settings.max_media_size:
        raise Failure(
            reason_pb2.REASON_TOO_LARGE,
            f"The source announces {found.size_bytes} bytes; INGOT_MAX_MEDIA_SIZE allows fewer.",
            metadata={"limit_bytes": str(int(settings.max_media_size))},
        )


def check_duration(media: Media, announced_seconds: float | None) -> None:
    """Raises Failure TRUNCATED when a file lasts not as long as its source announced.

    It may lack 2 s or 2 %, as announcements are rounded. What is longer lacks nothing: sources
    announce the length without the advertisements that they put in. By more than a minute and half
    of the length it is another media. None and zero announce nothing.
    """
    if not announced_seconds:
        return
    seconds = media.duration.ToTimedelta().total_seconds()
    shortest = announced_seconds - max(_TOLERANCE_SECONDS, _TOLERANCE * announced_seconds)
    longest = announced_seconds + max(_LONGER_SECONDS, _LONGER * announced_seconds)
    if not shortest <= seconds <= longest:
        raise Failure(
            reason_pb2.REASON_TRUNCATED,
            f"The source announced {announced_seconds:g} s, and what came lasts {seconds:g} s.",
        )


def check_stored(stored: StoredBlob, downloaded: Downloaded) -> None:
    """Raises Failure STORAGE_UNAVAILABLE when the bucket has another size than arrived."""
    if stored.size_bytes != downloaded.size_bytes:
        raise Failure(
            reason_pb2.REASON_STORAGE_UNAVAILABLE,
            f"The bucket holds {stored.size_bytes} bytes, not the {downloaded.size_bytes} sent.",
        )


def describe(
    media: Media, job: Job, identity: Identity, downloaded: Downloaded, *, blob_url: str
) -> None:
    """Fills a probed media with its identity, its origin and its blob."""
    now = datetime.now(UTC)
    media.MergeFrom(identity.media(job.media.id))
    media.selection.CopyFrom(job.selection)
    media.title = media.title or PurePosixPath(downloaded.filename).stem
    media.blob.url = blob_url
    media.blob.size_bytes = downloaded.size_bytes
    media.blob.sha256 = downloaded.sha256
    for video in media.video:
        video.url = blob_url
    for audio in media.audio:
        audio.url = blob_url
    media.web_playable = is_web_playable(media)
    media.labels.update(job.labels)
    media.create_time.FromDatetime(now)
    media.freshness.http_etag = downloaded.http_etag
    media.freshness.http_last_modified = downloaded.http_last_modified
    media.freshness.validate_time.FromDatetime(now)


def describe_extracted(media: Media, found: Resolved) -> None:
    """Adds what the source says about a media that was extracted."""
    media.title = found.title or media.title
    media.description = found.description
    media.tags.extend(found.tags)
    media.uploader = found.uploader
    if found.publish_time is not None:
        media.publish_time.FromDatetime(found.publish_time)
    media.thumbnail_url = found.thumbnail_url
    if found.page_url:
        media.source.page_url = found.page_url
    if found.chapters:
        del media.chapters[:]
        media.chapters.extend(found.chapters)
    media.extraction.CopyFrom(found.extraction)
