"""Resolve a URL: from what a caller writes to the media item that it stands for. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from typing import Final

from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Selection
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.bucket import Bucket
from ingot_server.library.identity import canonical_selection, media_id
from ingot_server.library.tenants import TENANT
from ingot_server.sources import Identity, Source, pick
from ingot_server.sources.internal import InternalSource, media_id_of, parse

# Normalizing and hashing cost more than the rest of GetMedia. URLs longer than this are rare. They
# are not cached, so that the cache stays below about ten megabytes.
_CACHED_URLS: Final = 8192
_CACHED_URL_LENGTH: Final = 512


@dataclass(frozen=True, slots=True)
class ResolvedUrl:
    """The media item that a URL and a selection name. Shared between calls: do not change it."""

    media_id: str
    source: Source
    identity: Identity
    selection: Selection
    record_duration: timedelta | None
    """How much of a live stream to record; None if the media item itself is wanted."""


def resolve(
    url: str,
    selection: Selection,
    *,
    playlist: bool = False,
    record_duration: timedelta | None = None,
) -> ResolvedUrl:
    """Return the media item behind any spelling of its URL.

    With `playlist`, return the list that the URL names or is part of. With `record_duration`,
    return a recording of that length if the source may have live streams.

    Raises Failure: INVALID_REQUEST for a malformed URL, UNSUPPORTED_URL if no source accepts it.
    """
    serialized = selection.SerializeToString(deterministic=True)
    arguments = url, serialized, playlist, record_duration, TENANT.get()
    return _cached(*arguments) if len(url) <= _CACHED_URL_LENGTH else _resolve(*arguments)


def resolve_internal(resolved_url: ResolvedUrl, blobs: Blobs) -> ResolvedUrl:
    """Return an internal URL as this installation knows it, and every other one unchanged.

    An object of the installation's bucket has one URL, `s3://...`. A file of a stored media item
    stands for that media item. Raises Failure BUCKET_FORBIDDEN for a bucket that is not
    configured, and for a folder that only Ingot uses.
    """
    if resolved_url.source.name != InternalSource.name:
        return resolved_url
    address = parse(resolved_url.identity.url)
    assert address is not None
    found = blobs.find(*address)
    if found is None:
        raise address.forbidden()
    bucket, key = found
    if bucket is not blobs:
        return resolved_url
    address.check_own(key)
    file_of = media_id_of(key)
    if file_of is not None:
        return replace(resolved_url, media_id=file_of)
    identity = address._replace(scheme="s3").identity
    name = media_id(identity.key, resolved_url.selection)
    return replace(resolved_url, media_id=name, identity=identity)


def is_media_file(place: tuple[Bucket, str], blobs: Blobs) -> bool:
    """Return whether an object, as `blobs.find` returns it, is a file of a stored media item."""
    bucket, key = place
    return bucket is blobs and media_id_of(key) is not None


def record_duration(options: IngestOptions) -> timedelta | None:
    """Return how much of a live stream `options` ask to record, or None."""
    return options.record_duration.ToTimedelta() if options.HasField("record_duration") else None


def may_be_list(resolved_url: ResolvedUrl, url: str) -> bool:
    """Return whether `url`, from which `resolved_url` came with `playlist`, may name a list."""
    if resolved_url.source.may_be_list:
        return True
    try:
        return pick(url)[1].key != resolved_url.identity.key
    except Failure:
        return True


def _resolve(
    url: str, serialized: bytes, playlist: bool, record_duration: timedelta | None, tenant: str
) -> ResolvedUrl:
    source, identity = pick(url, playlist=playlist)
    selection = canonical_selection(Selection.FromString(serialized))
    recorded = record_duration if source.may_be_live else None
    name = media_id(identity.key, selection, recorded, tenant=tenant)
    return ResolvedUrl(name, source, identity, selection, recorded)


_cached: Final = lru_cache(maxsize=_CACHED_URLS)(_resolve)
