"""MediaService: reads, lists, updates, downloads and deletes stored media items."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Final, cast

from google.rpc.status_pb2 import Status

from ingot.v1 import media_service_pb2, reason_pb2
from ingot.v1.media_pb2 import Blob, Media
from ingot.v1.media_service_pb2 import (
    BatchGetMediaRequest,
    BatchGetMediaResponse,
    CreateDownloadUrlRequest,
    CreateDownloadUrlResponse,
    DeleteMediaRequest,
    DeleteMediaResponse,
    DownloadRequest,
    DownloadResponse,
    GetMediaRequest,
    GetMediaResponse,
    GetStoryboardRequest,
    GetStoryboardResponse,
    ListMediaRequest,
    ListMediaResponse,
    UpdateMediaRequest,
    UpdateMediaResponse,
)
from ingot_server.api import pagination as page
from ingot_server.api.batch import run_batch
from ingot_server.api.caller import Caller, Serialized, Service
from ingot_server.api.media_update import updated
from ingot_server.api.named_media import find_named, named_id, not_stored
from ingot_server.api.status import OutOfRange, invalid
from ingot_server.api.store_health import Stores
from ingot_server.api.storyboard import linked_storyboard
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.damage import check_read, refuse_damaged
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.media_index import MediaFilter, member_of
from ingot_server.library.media_list import MediaList
from ingot_server.sources.internal import parse

DEFAULT_LIFETIME: Final = timedelta(hours=1)

# How many serialized responses are cached, and the size of the largest: 32 MiB at most.
_SERIALIZED: Final = 2048
_SERIALIZED_BYTES: Final = 16 << 10

# The field DownloadResponse.data in a serialized message: its number, and that its length follows,
# which is written seven bits at a time (https://protobuf.dev/programming-guides/encoding).
_DATA_TAG: Final = bytes([DownloadResponse.DATA_FIELD_NUMBER << 3 | 2])
_VARINT_LIMIT: Final = 1 << 7

# Of two updates at the same time, one has to read the media item again.
_UPDATE_ATTEMPTS: Final = 5

_NAME_CHARACTERS: Final = 120
# Extensions that the standard library does not know, or that differ between systems.
_EXTENSIONS: Final = {
    "application/ttml+xml": ".ttml",
    "application/x-subrip": ".srt",
    "audio/aac": ".aac",
    "audio/flac": ".flac",
    "audio/mpeg": ".mp3",
    "audio/mp4": ".m4a",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "audio/webm": ".weba",
    "audio/x-wav": ".wav",
    "image/avif": ".avif",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "text/vtt": ".vtt",
    "video/matroska": ".mkv",
    "video/mp2t": ".ts",
    "video/mp4": ".mp4",
    "video/ogg": ".ogv",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
}


class MediaService(Service):
    """The service that reads stored media items. Every read follows a manifest.

    `_serialized` maps a media id to the object that the catalog has in memory for it, and to the
    serialized response made from that. The response is valid while the catalog has the same object.
    """

    descriptor = media_service_pb2.DESCRIPTOR.services_by_name["MediaService"]
    needs = Stores.S3

    def __init__(self, catalog: Catalog, blobs: Blobs, media_list: MediaList) -> None:
        self._catalog = catalog
        self._media_list = media_list
        self._blobs = blobs
        self._serialized: dict[str, tuple[Manifest, Serialized]] = {}

    async def get_media(
        self, request: GetMediaRequest, caller: Caller
    ) -> GetMediaResponse | Serialized:
        media_id = named_id(request, self._blobs)
        manifest = self._catalog.get_from_memory(media_id)
        if manifest is None and (alias := self._catalog.alias_from_memory(media_id)) is not None:
            manifest = self._catalog.get_from_memory(alias)
        if manifest is None or not caller.may_see(manifest.media.owner):
            return GetMediaResponse(media=await self._find(request))
        serialized = self._serialized.get(media_id)
        if serialized is not None and serialized[0] is manifest:
            return serialized[1]
        response = GetMediaResponse(media=manifest.media).SerializeToString()
        if len(response) <= _SERIALIZED_BYTES:
            if len(self._serialized) >= _SERIALIZED:
                self._serialized.clear()
            self._serialized[media_id] = manifest, response
        return response

    async def batch_get_media(
        self, request: BatchGetMediaRequest, _: Caller
    ) -> BatchGetMediaResponse:
        results = [
            BatchGetMediaResponse.Result(error=found)
            if isinstance(found, Status)
            else BatchGetMediaResponse.Result(media=found)
            for found in await run_batch(request.requests, self._find)
        ]
        return BatchGetMediaResponse(results=page.fitting(results, len(results))[0])

    async def list_media(self, request: ListMediaRequest, caller: Caller) -> ListMediaResponse:
        limit = page.size(request)
        cursor = page.start(request)
        found = await self._media_list.page(_filter(request, caller), limit=limit, cursor=cursor)
        media, is_cut = page.fitting(found.media, limit)
        next_cursor = member_of(media[-1]) if is_cut else found.cursor
        return ListMediaResponse(
            media=media,
            next_page_token=page.token(request, next_cursor) if next_cursor else "",
            rebuilding=not found.is_complete,
        )

    async def update_media(
        self, request: UpdateMediaRequest, caller: Caller
    ) -> UpdateMediaResponse:
        if not request.update_mask.paths:
            raise invalid({"update_mask": "must name at least one field to change"})
        for _attempt in range(_UPDATE_ATTEMPTS):
            stored = await find_named(request, self._catalog, self._blobs)
            caller.require_ownership(stored.media.owner, f"The media item {stored.media.id}")
            etag = stored.media.etag
            if request.etag and request.etag != etag:
                raise Failure(
                    reason_pb2.REASON_ETAG_MISMATCH,
                    f"The media item has the etag {etag!r}, not {request.etag!r}. Get it again.",
                )
            changed = updated(stored, request.media, request.update_mask)
            if (replaced := await self._catalog.replace(changed)) is not None:
                return UpdateMediaResponse(media=replaced.media)
        raise Failure(
            reason_pb2.REASON_ETAG_MISMATCH,
            "The media item was changed by others again and again. Repeat the call later.",
        )

    async def delete_media(
        self, request: DeleteMediaRequest, caller: Caller
    ) -> DeleteMediaResponse:
        media_id = named_id(request, self._blobs)
        deleted = False
        if await self._is_deletable(media_id, caller):
            deleted = await self._catalog.delete(media_id, etag=request.etag)
            if not deleted and (target := await self._catalog.alias_of(media_id)) is not None:
                deleted = await self._catalog.delete(target, etag=request.etag)
        if not (deleted or request.allow_missing):
            raise not_stored(request)
        return DeleteMediaResponse()

    async def download(
        self, request: DownloadRequest, _: Caller
    ) -> AsyncGenerator[Serialized, None]:
        manifest = await find_named(request, self._catalog, self._blobs)
        blob = _file(manifest, request.url)
        if request.sha256 and request.sha256 != blob.sha256:
            raise Failure(
                reason_pb2.REASON_ETAG_MISMATCH,
                "The stored file is not the one whose download you resume: its SHA-256 is "
                f"{blob.sha256}. Download it again from the beginning.",
            )
        if request.offset > blob.size_bytes:
            raise OutOfRange(
                reason_pb2.REASON_INVALID_REQUEST,
                f"The file has {blob.size_bytes} bytes, and offset {request.offset} is past its "
                "end. Begin at a smaller offset.",
                metadata={"size_bytes": str(blob.size_bytes)},
                violations={"offset": f"must be at most {blob.size_bytes}"},
            )
        offset = request.offset
        left = min(request.limit or blob.size_bytes, blob.size_bytes - offset)
        if not left:
            return
        end = offset + left
        bucket, key = self._blobs.locate(blob.url)
        digest = hashlib.sha256() if left == blob.size_bytes else None
        chunks = bucket.read_object(key, offset=offset, limit=left, digest=digest)
        # Closing the generator returns its connection at once.
        async with aclosing(cast("AsyncGenerator[bytes, None]", chunks)):
            async for data in chunks:
                yield next_bytes(offset, data)
                offset += len(data)
        if offset == end:
            if digest is not None and blob.sha256 not in ("", digest.hexdigest()):
                await check_read(self._catalog, self._blobs, manifest.media, blob, digest)
        else:
            await check_read(self._catalog, self._blobs, manifest.media, blob, None)
            raise Failure(
                reason_pb2.REASON_STORAGE_UNAVAILABLE,
                f"Object storage ended the file after {offset} of {blob.size_bytes} bytes. "
                f"Resume the download at byte {offset}.",
            )

    async def create_download_url(
        self, request: CreateDownloadUrlRequest, _: Caller
    ) -> CreateDownloadUrlResponse:
        if not request.filename.isprintable() or {"/", "\\"} & set(request.filename):
            raise invalid({"filename": "must be one name, without slashes or control characters"})
        manifest = await find_named(request, self._catalog, self._blobs)
        media, file = manifest.media, _file(manifest, request.url)
        lifetime = _lifetime(request)
        response = CreateDownloadUrlResponse()
        response.expire_time.FromDatetime(datetime.now(UTC) + lifetime)
        bucket, key = self._blobs.locate(file.url)
        response.url = await bucket.download_url(
            key,
            lifetime=lifetime,
            filename=request.filename or filename(media, file),
            content_type=file.content_type,
        )
        return response

    async def get_storyboard(
        self, request: GetStoryboardRequest, _: Caller
    ) -> GetStoryboardResponse:
        manifest = await find_named(request, self._catalog, self._blobs)
        lifetime = _lifetime(request)
        response = GetStoryboardResponse(
            webvtt=await linked_storyboard(manifest, self._blobs, lifetime)
        )
        response.expire_time.FromDatetime(datetime.now(UTC) + lifetime)
        return response

    async def _is_deletable(self, media_id: str, caller: Caller) -> bool:
        """Return whether the media item may be there. Raises Failure NOT_OWNER."""
        if caller.is_admin:
            return True
        _, manifest = await self._catalog.find(media_id, damaged=True)
        if manifest is None or not caller.may_see(manifest.media.owner):
            return False
        caller.require_ownership(manifest.media.owner, f"The media item {manifest.media.id}")
        return True

    async def _find(
        self, request: GetMediaRequest | DownloadRequest | CreateDownloadUrlRequest
    ) -> Media:
        return (await find_named(request, self._catalog, self._blobs)).media


def next_bytes(offset: int, data: bytes) -> Serialized:
    """Return a DownloadResponse. Its bytes are copied once; a message would copy them twice."""
    head = DownloadResponse(offset=offset).SerializeToString()
    size, length = len(data), bytearray()
    while size >= _VARINT_LIMIT:
        length.append(size % _VARINT_LIMIT | _VARINT_LIMIT)
        size //= _VARINT_LIMIT
    length.append(size)
    return b"".join((head, _DATA_TAG, length, data))


def _lifetime(request: CreateDownloadUrlRequest | GetStoryboardRequest) -> timedelta:
    return request.lifetime.ToTimedelta() if request.HasField("lifetime") else DEFAULT_LIFETIME


def _filter(request: ListMediaRequest, caller: Caller) -> MediaFilter:
    return MediaFilter(
        owner="" if caller.is_admin else caller.tenant,
        source=request.source,
        derived_from_media_id=request.derived_from_media_id,
        kind=request.kind,
        labels=request.labels,
        text=request.text,
        created_after=request.created_after.ToDatetime(UTC)
        if request.HasField("created_after")
        else None,
        created_before=request.created_before.ToDatetime(UTC)
        if request.HasField("created_before")
        else None,
    )


def _file(manifest: Manifest, url: str) -> Blob:
    """Return the side file that an internal URL names, or else the media item's own file.

    Raises Failure MEDIA_DAMAGED if it is known to be damaged.
    """
    media = manifest.media
    address = parse(url)
    if address is None:
        return media.blob
    for side in media.side_files:
        found = parse(side.url)
        if found is not None and found.key == address.key:
            refuse_damaged(manifest, side.url)
            return Blob(
                url=side.url,
                size_bytes=side.size_bytes,
                content_type=side.content_type,
                sha256=side.sha256,
            )
    return media.blob


def filename(media: Media, file: Blob | None = None) -> str:
    """Return the name for saving a media item: its title or id, and the extension of its type.

    With `file`, the name for that file of it.
    """
    blob = media.blob if file is None else file
    title = "".join(
        " " if character in '/\\:*?"<>|' or not character.isprintable() else character
        for character in media.title
    )
    stem = " ".join(title.split()).strip(". ")[:_NAME_CHARACTERS] or media.id
    content_type = blob.content_type
    extension = (
        _EXTENSIONS.get(content_type)
        or mimetypes.guess_extension(content_type)
        or PurePosixPath(blob.url).suffix
    )
    return stem if stem.lower().endswith(extension) else stem + extension
