"""The copy of the index that the bucket has, so that a lost one is built within seconds.

    index/<character>       an IndexPart: the entries of the media items whose ids begin with it

An entry counts only while the manifest in the bucket has the ETag that it was made of. So a copy
that is old, damaged or missing costs time and never makes a list wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf.message import DecodeError

from ingot_server.event_log import EventLogger
from ingot_server.library.blobs import Blobs
from ingot_server.library.manifest_pb2 import IndexEntry, IndexPart
from ingot_server.log_events import Event

logger = EventLogger(__name__)

_FOLDER: Final = "index/"
# To be increased when entries of the same manifest become different.
_SCHEMA_VERSION: Final = 2


async def read_part(blobs: Blobs, part: str) -> Mapping[str, IndexEntry]:
    """Return the entries of a part by media id. Raises Failure STORAGE_UNAVAILABLE."""
    found = await blobs.get(_FOLDER + part)
    if found is None:
        return {}
    try:
        read = IndexPart.FromString(found[0])
    except DecodeError:
        logger.warning(
            Event.INDEX_COPY_DAMAGED, "%s is damaged and is written again", _FOLDER + part
        )
        return {}
    return (
        {entry.media_id: entry for entry in read.entries}
        if read.schema_version == _SCHEMA_VERSION
        else {}
    )


async def write_part(blobs: Blobs, part: str, entries: Iterable[IndexEntry]) -> None:
    """Write the entries of a part. Raises Failure STORAGE_UNAVAILABLE."""
    written = IndexPart(
        schema_version=_SCHEMA_VERSION, entries=sorted(entries, key=lambda entry: entry.media_id)
    )
    content = written.SerializeToString(deterministic=True)
    await blobs.put(_FOLDER + part, content, content_type="application/x-protobuf")
