"""What requests may do with internal URLs: read what is stored, adopt what others put there."""

from __future__ import annotations

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.api.naming import Named
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.freshness import entity_tag
from ingot_server.sources.internal import InternalSource, parse


def named_media(named: Named, bucket: str) -> Named:
    """`named` with the id of the media whose file an internal URL names.

    Any other is answered as it is. Raises Failure BUCKET_FORBIDDEN for what is not others' to name.
    """
    if named.source.name != InternalSource.name:
        return named
    address = parse(named.identity.url)
    assert address is not None
    address.check_bucket(bucket)
    return named if address.media_id is None else named._replace(media_id=address.media_id)


async def check_adoptable(named: Named, stored: Media | None, blobs: Blobs) -> bool:
    """Whether `stored` is what lies behind an internal URL or an `upload:` one, or was made of it.

    False when a job has to take the object in, as it is new or has changed. Raises Failure when
    there is nothing to take in: MEDIA_NOT_FOUND, MEDIA_DOES_NOT_EXIST.
    """
    address = parse(named.identity.url)
    if address is None or address.media_id is not None:
        if stored is None:
            raise Failure(
                reason_pb2.REASON_MEDIA_NOT_FOUND,
                f"No media of {named.identity.url} is stored, and there is nothing to bring it in "
                "from. IngestService.Upload takes files.",
            )
        return True
    found = await blobs.stat(address.key)
    if found is None:
        raise Failure(
            reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
            f"The bucket {address.bucket} has no object {address.key}. Put it there first.",
        )
    return stored is not None and stored.freshness.http_etag == entity_tag(found.etag)
