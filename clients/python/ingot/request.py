"""Parts of requests that more than one call of the client needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TypedDict

from google.protobuf.duration_pb2 import Duration

from ingot.ids import is_media_id
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Selection
from ingot.v1.recipe_pb2 import Recipe


def make_ingest_request(
    url: str,
    *,
    selection: Selection | None,
    max_age: timedelta | None,
    labels: Mapping[str, str] | None,
    options: IngestOptions | None,
    recipes: Iterable[Recipe],
    webhook_url: str,
) -> IngestRequest:
    """Make the request of `ingest_video` and of `validate`."""
    return IngestRequest(
        url=url,
        selection=selection,
        max_age=to_duration(max_age),
        labels=labels,
        options=options,
        recipes=recipes,
        webhook_url=webhook_url,
    )


class MediaName(TypedDict, total=False):
    """The fields of a request that name a media item. Exactly one is set."""

    media_id: str
    url: str


def media_name(name: str) -> MediaName:
    """Return the field for a name: what has the form of a media id is one, all else is a URL."""
    return {"media_id": name} if is_media_id(name) else {"url": name}


def to_duration(length: timedelta | None) -> Duration | None:
    """Convert a timedelta to a Duration; None stays None, which leaves the field unset."""
    if length is None:
        return None
    duration = Duration()
    duration.FromTimedelta(length)
    return duration
