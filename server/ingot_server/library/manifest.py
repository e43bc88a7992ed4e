"""Manifests as the bucket holds them, and the files that they name."""

from __future__ import annotations

import time
from typing import Final

from google.protobuf import json_format

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.errors import Failure, written_by_newer_version
from ingot_server.foreign_json import parse_json
from ingot_server.library.bounds import LARGEST_MANIFEST
from ingot_server.library.early_manifest import from_early_manifest, is_early_manifest
from ingot_server.library.manifest_pb2 import Manifest

SCHEMA_VERSION: Final = 1
"""The newest schema version that is read, and the one that is written."""

UNREADABLE: Final = frozenset(
    {reason_pb2.REASON_INTERNAL, reason_pb2.REASON_WRITTEN_BY_NEWER_VERSION}
)
"""The reasons for which `parse` raises a Failure."""


def serialize(manifest: Manifest, key: str) -> bytes:
    """Return protobuf JSON without the etag, the same bytes for the same manifest.

    Raises Failure INTERNAL for more than LARGEST_MANIFEST bytes; `key` is the object's.
    """
    stored = Manifest()
    stored.CopyFrom(manifest)
    stored.schema_version = SCHEMA_VERSION
    if stored.HasField("media"):
        stored.media.ClearField("etag")
    text = json_format.MessageToJson(stored, sort_keys=True, ensure_ascii=False, indent=2)
    content = text.encode()
    if len(content) > LARGEST_MANIFEST:
        raise Failure(
            reason_pb2.REASON_INTERNAL,
            f"The manifest {key} would have {len(content)} bytes; {LARGEST_MANIFEST} are the most. "
            "Report this.",
        )
    return content


def has_expired(manifest: Manifest) -> bool:
    """Return whether the media item is not stored any more, because its expire_time has come.

    One that is pinned never expires.
    """
    media = manifest.media
    return is_past_expiry(media) and not media.pinned


def is_past_expiry(media: Media) -> bool:
    """Return whether the expire_time of a media item has come, also if it is pinned."""
    return media.HasField("expire_time") and media.expire_time.ToNanoseconds() <= time.time_ns()


def is_damaged(manifest: Manifest) -> bool:
    """Return whether the media item's own file is known not to be whole."""
    return manifest.HasField("damage") and bool(problem_of(manifest, manifest.media.blob.url))


def problem_of(manifest: Manifest, url: str) -> str:
    """Return what is known to be wrong with a file of the media item; empty if nothing."""
    return next((file.problem for file in manifest.damage.files if file.url == url), "")


def parse(media_id: str, key: str, content: bytes, etag: str) -> Manifest:
    """Return the manifest or tombstone of a media item; fields of a later version are skipped.

    Raises Failure INTERNAL if the object `key` is not a manifest, and WRITTEN_BY_NEWER_VERSION if
    it has a schema version that this process does not read.
    """
    try:
        stored = parse_json(content.decode())
        if not isinstance(stored, dict):
            raise json_format.ParseError("it is not a JSON object")
        version = stored.get("schemaVersion", SCHEMA_VERSION)
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise written_by_newer_version(key, version, SCHEMA_VERSION)
        if is_early_manifest(stored):
            stored = from_early_manifest(stored)
        manifest = json_format.ParseDict(stored, Manifest(), ignore_unknown_fields=True)
        if manifest.HasField("tombstone"):
            return manifest
        if not manifest.HasField("media"):
            raise json_format.ParseError("the field media is missing")
    except (json_format.ParseError, ValueError) as exc:
        raise Failure(
            reason_pb2.REASON_INTERNAL,
            f"The manifest {key} cannot be read: {exc}. Restore it or remove it.",
        ) from exc
    manifest.media.id = media_id
    manifest.media.etag = etag
    return manifest


def files_of(media: Media) -> set[str]:
    """Return the internal URLs of all files of a media item."""
    urls = {media.blob.url}
    urls.update(stream.url for stream in media.video)
    urls.update(stream.url for stream in media.audio)
    urls.update(file.url for file in media.side_files)
    return urls - {""}


def size_of(media: Media) -> int:
    """Return the bytes of all files of a media item."""
    return media.blob.size_bytes + sum(file.size_bytes for file in media.side_files)
