"""What requests may do with internal URLs: read what is stored, adopt what others put there."""

from __future__ import annotations

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.freshness import entity_tag
from ingot_server.library.identity import media_id
from ingot_server.resolve import ResolvedUrl
from ingot_server.sources.internal import InternalSource, parse


def named_media(named: ResolvedUrl, blobs: Blobs) -> ResolvedUrl:
    """`named` as the installation has it: under one URL, with the media's id where a file is named.

    Any other than an internal URL is answered as it is. Raises Failure BUCKET_FORBIDDEN for a
    bucket that is not configured, and for what is not others' to name.
    """
    if named.source.name != InternalSource.name:
        return named
    address = parse(named.identity.url)
    assert address is not None
    bucket = blobs.bucket_named(address.scheme, address.bucket)
    if bucket is None:
        raise address.forbidden()
    if bucket is not blobs:
        return named
    address.check_key()
    if address.media_id is not None:
        return named._replace(media_id=address.media_id)
    identity = address._replace(scheme="s3").identity
    return named._replace(media_id=media_id(identity.key, named.selection), identity=identity)


async def check_adoptable(named: ResolvedUrl, stored: Media | None, blobs: Blobs) -> bool:
    """Whether `stored` is what lies behind an internal URL or an `upload:` one, or was made of it.

    False when a job has to take the object in, as it is new or has changed. Raises Failure when
    there is nothing to take in: MEDIA_NOT_FOUND, MEDIA_DOES_NOT_EXIST.
    """
    address = parse(named.identity.url)
    bucket = blobs.bucket_named(address.scheme, address.bucket) if address is not None else None
    if address is None or bucket is None or (bucket is blobs and address.media_id is not None):
        if stored is None:
            raise Failure(
                reason_pb2.REASON_MEDIA_NOT_FOUND,
                f"No media of {named.identity.url} is stored, and there is nothing to bring it in "
                "from. IngestService.Upload takes files.",
            )
        return True
    found = await bucket.stat(address.key)
    if found is None:
        raise Failure(
            reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
            f"The bucket {address.bucket} has no object {address.key}. Put it there first.",
        )
    return stored is not None and stored.freshness.http_etag == entity_tag(found.etag)
