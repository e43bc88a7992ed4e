"""How old a stored copy is: what `max_age` of a request is measured against."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ingot.v1.media_pb2 import Media


def entity_tag(etag: str) -> str:
    """An object's ETag as Freshness holds entity tags, quotes included."""
    return f'"{etag}"'


def age(media: Media) -> timedelta:
    """How long ago the source confirmed what is stored; since it was stored where it never did."""
    confirmed = (
        media.freshness.validate_time
        if media.freshness.HasField("validate_time")
        else media.create_time
    )
    return datetime.now(UTC) - confirmed.ToDatetime(UTC)
