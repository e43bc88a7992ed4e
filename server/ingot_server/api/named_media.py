"""The media item that a request names: the oneof `name` with media_id or url, and `selection`.

Every method that takes a media item has these fields, and finds the media item here. What methods
that store something may not name is refused here, too.
"""

from __future__ import annotations

from typing import TypeAlias

from ingot.v1 import reason_pb2
from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    DeleteMediaRequest,
    DownloadRequest,
    GetMediaRequest,
    GetStoryboardRequest,
    UpdateMediaRequest,
)
from ingot_server.api.caller import CALLER
from ingot_server.errors import Failure
from ingot_server.intake import nothing_to_store
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.damage import refuse_damaged
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.upload_ids import is_own_upload
from ingot_server.resolve import resolve, resolve_internal
from ingot_server.sources.upload import upload_id_of

NamingRequest: TypeAlias = (
    GetMediaRequest
    | UpdateMediaRequest
    | DeleteMediaRequest
    | DownloadRequest
    | CreateDownloadUrlRequest
    | GetStoryboardRequest
    | ConvertRequest
)


def named_id(request: NamingRequest, blobs: Blobs) -> str:
    """Return the media id that a request names, which may be an alias. No I/O.

    Raises Failure: INVALID_REQUEST for a malformed URL, UNSUPPORTED_URL if no source accepts it,
    BUCKET_FORBIDDEN.
    """
    if media_id := request.media_id:
        return media_id
    return resolve_internal(resolve(request.url, request.selection), blobs).media_id


def check_own_upload(url: str) -> None:
    """Raise Failure MEDIA_NOT_FOUND if a canonical URL names an upload that is not the caller's.

    There is no difference between an upload of another caller and one that does not exist.
    """
    upload_id = upload_id_of(url)
    if upload_id and not is_own_upload(upload_id, CALLER.get().name):
        raise nothing_to_store(url)


async def find_named(request: NamingRequest, catalog: Catalog, blobs: Blobs) -> Manifest:
    """Return the manifest of the stored media item that a request names, if the caller may see it.

    Raises Failure as `named_id` does, MEDIA_NOT_FOUND, and MEDIA_DOES_NOT_EXIST if the source of
    its URL said so lately, and MEDIA_DAMAGED.
    """
    media_id, manifest = await catalog.find(named_id(request, blobs), damaged=True)
    if manifest is not None and CALLER.get().may_see(manifest.media.owner):
        refuse_damaged(manifest)
        return manifest
    if request.url:
        remembered = await catalog.remembered_failure(media_id)
        failure = remembered[0] if remembered is not None else None
        if failure and failure.reason == reason_pb2.REASON_MEDIA_DOES_NOT_EXIST:
            raise failure
    raise not_stored(request)


def not_stored(request: NamingRequest) -> Failure:
    """Return the failure of a request whose media item is not stored."""
    if request.url:
        message = f"No media item is stored for {request.url}. Ingest the URL first."
    else:
        message = (
            f"No media item with the id {request.media_id} is stored. List the stored ones, or "
            "ingest the URL."
        )
    return Failure(reason_pb2.REASON_MEDIA_NOT_FOUND, message)
