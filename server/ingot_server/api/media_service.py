"""MediaService: reads, lists and deletes what is stored."""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Final, cast

from ingot.v1 import media_service_pb2, reason_pb2
from ingot.v1.media_pb2 import Blob, Media
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    CreateDownloadUrlResponse,
    DeleteMediaRequest,
    DeleteMediaResponse,
    DownloadRequest,
    DownloadResponse,
    GetMediaRequest,
    GetMediaResponse,
    ListMediaRequest,
    ListMediaResponse,
)
from ingot_server.api import pagination as page
from ingot_server.api.caller import Caller, Serialized, Service
from ingot_server.api.internal import named_media
from ingot_server.api.status import OutOfRange, invalid
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.identity import is_media_id
from ingot_server.resolve import resolve
from ingot_server.sources.internal import parse

DEFAULT_LIFETIME: Final = timedelta(hours=1)

# Serialized answers that are kept, and the largest one that is: 32 MiB at most.
_PACKED: Final = 2048
_PACKED_BYTES: Final = 16 << 10

_NAME_CHARACTERS: Final = 120
# What the standard library does not know, or knows otherwise on each system.
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
    """Reads follow the manifest, and only that.

    `_packed` maps a media id to the object that the catalog holds for it and the serialized answer
    made from that; the answer is used for as long as the catalog holds that same object.
    """

    descriptor = media_service_pb2.DESCRIPTOR.services_by_name["MediaService"]

    def __init__(self, catalog: Catalog, blobs: Blobs) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._packed: dict[str, tuple[Media, Serialized]] = {}

    async def get_media(self, request: GetMediaRequest, _: Caller) -> GetMediaResponse | Serialized:
        media_id = request.media_id or self._resolve(request)
        held = self._catalog.get_from_memory(media_id)
        if held is None and (alias := self._catalog.alias_from_memory(media_id)) is not None:
            held = self._catalog.get_from_memory(alias)
        if held is None:
            return GetMediaResponse(media=await self._get(request, media_id))
        packed = self._packed.get(media_id)
        if packed is not None and packed[0] is held:
            return packed[1]
        answer = GetMediaResponse(media=held).SerializeToString()
        if len(answer) <= _PACKED_BYTES:
            if len(self._packed) >= _PACKED:
                self._packed.clear()
            self._packed[media_id] = held, answer
        return answer

    async def list_media(self, request: ListMediaRequest, _: Caller) -> ListMediaResponse:
        limit = page.size(request)
        found = await self._catalog.list(after=page.start(request), limit=limit + 1)
        media, more = page.fitting(found, limit)
        return ListMediaResponse(
            media=media, next_page_token=page.token(request, media[-1].id) if more else ""
        )

    async def delete_media(self, request: DeleteMediaRequest, _: Caller) -> DeleteMediaResponse:
        media_id = request.media_id
        if not is_media_id(media_id) or not await self._catalog.delete(media_id, etag=request.etag):
            raise _not_stored(media_id)
        return DeleteMediaResponse()

    async def download(
        self, request: DownloadRequest, _: Caller
    ) -> AsyncGenerator[DownloadResponse, None]:
        blob = _file(await self._named(request), request.url)
        if request.sha256 and request.sha256 != blob.sha256:
            raise Failure(
                reason_pb2.REASON_ETAG_MISMATCH,
                "The stored file is another one than the file being resumed: its SHA-256 is "
                f"{blob.sha256}. Download it again from offset 0.",
            )
        if request.offset > blob.size_bytes:
            raise OutOfRange(
                reason_pb2.REASON_INVALID_REQUEST,
                f"The file has {blob.size_bytes} bytes; offset {request.offset} is past its end.",
                metadata={"size_bytes": str(blob.size_bytes)},
                violations={"offset": f"must be at most {blob.size_bytes}"},
            )
        offset = request.offset
        left = min(request.limit or blob.size_bytes, blob.size_bytes - offset)
        if not left:
            return
        end = offset + left
        bucket, key = self._blobs.locate(blob.url)
        chunks = bucket.read_object(key, offset=offset, limit=left)
        # It is a generator; closed at once, it gives its connection back at once.
        async with aclosing(cast("AsyncGenerator[bytes, None]", chunks)):
            async for data in chunks:
                yield DownloadResponse(offset=offset, data=data)
                offset += len(data)
        if offset < end:
            raise Failure(
                reason_pb2.REASON_STORAGE_UNAVAILABLE,
                f"Object storage ended the file at {offset} of {blob.size_bytes} bytes. "
                "Resume the download from there.",
            )

    async def create_download_url(
        self, request: CreateDownloadUrlRequest, _: Caller
    ) -> CreateDownloadUrlResponse:
        if not request.filename.isprintable() or {"/", "\\"} & set(request.filename):
            raise invalid({"filename": "must be one name, without slashes or control characters"})
        media = await self._named(request)
        file = _file(media, request.url)
        lifetime = (
            request.lifetime.ToTimedelta() if request.HasField("lifetime") else DEFAULT_LIFETIME
        )
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

    async def _named(
        self, request: GetMediaRequest | DownloadRequest | CreateDownloadUrlRequest
    ) -> Media:
        media_id = request.media_id or self._resolve(request)
        return self._catalog.get_from_memory(media_id) or await self._get(request, media_id)

    def _resolve(
        self, request: GetMediaRequest | DownloadRequest | CreateDownloadUrlRequest
    ) -> str:
        """The id behind a request's URL, which may be an internal one."""
        return named_media(resolve(request.url, request.selection), self._blobs).media_id

    async def _get(
        self,
        request: GetMediaRequest | DownloadRequest | CreateDownloadUrlRequest,
        media_id: str,
    ) -> Media:
        """The stored media; raises Failure with MEDIA_NOT_FOUND or what its source lately said."""
        media_id, media = await self._catalog.find(media_id)
        if media is not None:
            return media
        if request.url and media_id:
            remembered = await self._catalog.remembered_failure(media_id)
            failure = remembered[0] if remembered is not None else None
            if failure and failure.reason == reason_pb2.REASON_MEDIA_DOES_NOT_EXIST:
                raise failure
        raise _not_stored(request.media_id, request.url)


def _file(media: Media, url: str) -> Blob:
    """The file of `media` that an internal URL names; the media's own for every other URL."""
    address = parse(url)
    if address is None:
        return media.blob
    for side in media.side_files:
        found = parse(side.url)
        if found is not None and found.key == address.key:
            return Blob(
                url=side.url,
                size_bytes=side.size_bytes,
                content_type=side.content_type,
                sha256=side.sha256,
            )
    return media.blob


def filename(media: Media, file: Blob | None = None) -> str:
    """What a browser saves the media as: its title, or its id, with the extension of its type.

    With `file`: that file of the media.
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


def _not_stored(media_id: str, url: str = "") -> Failure:
    if url:
        message = f"No media of {url} is stored. Ingest the URL first: IngestService.Ingest."
    else:
        message = (
            f"No media with the id {media_id} is stored. ListMedia shows what is; "
            "IngestService.Ingest brings a URL in."
        )
    return Failure(reason_pb2.REASON_MEDIA_NOT_FOUND, message)
