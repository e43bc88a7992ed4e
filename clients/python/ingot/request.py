"""Requests of more than one call, made of what Python callers give."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Selection
from ingot.v1.recipe_pb2 import Recipe


def ingest_request(
    url: str,
    *,
    selection: Selection | None,
    max_age: timedelta | None,
    labels: Mapping[str, str] | None,
    options: IngestOptions | None,
    recipes: Iterable[Recipe],
) -> IngestRequest:
    """What `ingest_video` asks for and `validate` asks about."""
    return IngestRequest(
        url=url,
        selection=selection,
        max_age=duration(max_age),
        labels=labels,
        options=options,
        recipes=recipes,
    )


def is_media_id(name: str) -> bool:
    """Whether a name is a media's id: 52 characters of base32; all else is a URL."""
    return re.fullmatch("[a-z2-7]{52}", name) is not None


def named(name: str) -> dict[str, str]:
    """The field that names a media."""
    return {"media_id" if is_media_id(name) else "url": name}


def duration(length: timedelta | None) -> Duration | None:
    """A length of time as a message; None stays unset."""
    if length is None:
        return None
    made = Duration()
    made.FromTimedelta(length)
    return made
