"""The Media of a received file: its identity, its blob, and what its source says about it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Final, assert_never
from urllib.parse import urlsplit

from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Blob, Media
from ingot_server.extractor.result import Resolved
from ingot_server.intake import requested_side_files
from ingot_server.library.bounds import bound
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.playable import is_web_playable
from ingot_server.pipeline.received import Extracted, Received
from ingot_server.probe import chapters
from ingot_server.telegram.bot_files import TelegramFile

_EXTENSION: Final = re.compile(r"\.[a-z0-9]{1,8}")


def extension(url: str) -> str:
    """Return the file extension of a URL's path, as `name_extension` does."""
    return name_extension(urlsplit(url).path)


def name_extension(name: str) -> str:
    """Return the extension of a file name in lower case, with its dot; empty if it has none."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if _EXTENSION.fullmatch(suffix) else ""


def describe(media: Media, job: Job, received: Received, blob: Blob) -> Manifest:
    """Complete a probed Media, and return its manifest.

    `blob` has the URL, size and checksum of what is stored.
    """
    now = datetime.now(UTC)
    manifest = Manifest()
    media.MergeFrom(received.identity.media(received.media_id))
    media.selection.CopyFrom(job.selection)
    media.title = media.title or title_of(received.filename)
    set_blob(media, blob)
    media.web_playable = is_web_playable(media)
    media.labels.update(job.labels)
    media.create_time.FromDatetime(now)
    if received.mutable:
        manifest.source_version.http_etag = received.etag
        manifest.source_version.http_last_modified = received.last_modified
        manifest.source_version.confirm_time.FromDatetime(now)
    match received.details:
        case Extracted(resolved):
            manifest.requested_side_files.extend(requested_side_files(job.options))
            _describe_extracted(media, resolved)
        case TelegramFile():
            received.details.describe(media)
        case None:
            pass
        case _:
            assert_never(received.details)
    bound(media)
    manifest.media.CopyFrom(media)
    return manifest


def announced(resolved: Resolved) -> Media:
    """Return what a source says of a media item before it is downloaded, for people."""
    media = Media(
        title=resolved.title, uploader=resolved.uploader, thumbnail_url=resolved.thumbnail_url
    )
    if resolved.duration_seconds is not None:
        media.duration.FromTimedelta(timedelta(seconds=resolved.duration_seconds))
    return media


def title_of(filename: str) -> str:
    """Return the title that a file's name stands for."""
    return PurePosixPath(filename).stem


def set_blob(media: Media, blob: Blob) -> None:
    """Say where the file of `media` and its streams is stored."""
    media.blob.MergeFrom(blob)
    for video in media.video:
        video.url = blob.url
    for audio in media.audio:
        audio.url = blob.url


def _describe_extracted(media: Media, resolved: Resolved) -> None:
    media.title = resolved.title or media.title
    media.description = resolved.description
    media.tags.extend(resolved.tags)
    media.uploader = resolved.uploader
    if resolved.publish_time is not None:
        media.publish_time.FromDatetime(resolved.publish_time)
    media.thumbnail_url = resolved.thumbnail_url
    if resolved.page_url:
        media.source.page_url = resolved.page_url
    if resolved.chapters:
        del media.chapters[:]
        start = media.section.start_offset.ToTimedelta()
        found = chapters.shifted(resolved.chapters, start)
        media.chapters.extend(chapters.within(found, media.duration.ToTimedelta()))
    if len(media.audio) == len(resolved.audio):
        for stream, offered in zip(media.audio, resolved.audio, strict=True):
            # The codes in a file that was merged of several are those of the source, shortened.
            several = len(media.audio) > 1
            stream.language = (several and offered.language) or stream.language or offered.language
            stream.role = stream.role or offered.role
    media.extraction.CopyFrom(resolved.extraction)
