"""The client's methods for stored media items: read, list, change, delete, download."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from google.protobuf.field_mask_pb2 import FieldMask

from ingot.base_client import PAGE_SIZE, BaseClient
from ingot.download import ProgressCallback, download, find_file, resolve_destination
from ingot.errors import Conflict
from ingot.request import media_name, to_duration
from ingot.v1.media_pb2 import Media, MediaKind, Selection
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    CreateDownloadUrlResponse,
    DeleteMediaRequest,
    GetMediaRequest,
    GetStoryboardRequest,
    GetStoryboardResponse,
    ListMediaRequest,
    UpdateMediaRequest,
)

if TYPE_CHECKING:
    from ingot.notebook import MediaView


class MediaCalls(BaseClient):
    """The methods of the client for stored media items."""

    async def media(self, name: str, *, selection: Selection | None = None) -> Media:
        """Return the stored media item with this id or URL. Raises MediaNotFound."""
        request = GetMediaRequest(selection=selection, **media_name(name))
        response = await self._connection.call(self._connection.media.GetMedia, request)
        return response.media

    async def list_media(
        self,
        *,
        source: str = "",
        kind: MediaKind.ValueType = MediaKind.MEDIA_KIND_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
        text: str = "",
        derived_from_media_id: str = "",
    ) -> AsyncGenerator[Media, None]:
        """Yield the stored media items that match all filters, the latest first.

        `source` is the name of a source, `text` words in the title or the uploader.
        """
        request = ListMediaRequest(
            page_size=PAGE_SIZE,
            source=source,
            kind=kind,
            labels=labels,
            text=text,
            derived_from_media_id=derived_from_media_id,
        )
        async for page in self._connection.pages(self._connection.media.ListMedia, request):
            for media in page.media:
                yield media

    async def update_media(
        self,
        name: str,
        *,
        selection: Selection | None = None,
        title: str | None = None,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        expire_time: datetime | Literal["never"] | None = None,
        pinned: bool | None = None,
        etag: str = "",
    ) -> Media:
        """Change a media item, named by id, URL or internal address; return it as it is now.

        None leaves a field as it is; an empty value removes what it held. `expire_time` is aware,
        and from then on the media item is not stored; "never" removes it. A `pinned` one stays
        until it is deleted. With `etag`, raises Conflict if another version is stored now. Raises
        MediaNotFound.
        """
        fields = {
            "title": title,
            "description": description,
            "tags": tags,
            "labels": labels,
            "expire_time": expire_time,
            "pinned": pinned,
        }
        given = {field: value for field, value in fields.items() if value is not None}
        values = {field: value for field, value in given.items() if value != "never"}
        request = UpdateMediaRequest(
            selection=selection,
            media=Media(**values),  # type: ignore[arg-type] # the names and types are those above
            update_mask=FieldMask(paths=given),
            etag=etag,
            **media_name(name),
        )
        response = await self._connection.call(self._connection.media.UpdateMedia, request)
        return response.media

    async def delete_media(
        self,
        name: str,
        *,
        selection: Selection | None = None,
        etag: str = "",
        allow_missing: bool = False,
    ) -> None:
        """Delete a media item, named by id, URL or internal address.

        With `etag`, raises Conflict if another version is stored now. Raises MediaNotFound if it is
        not stored, unless `allow_missing` is set.
        """
        request = DeleteMediaRequest(
            selection=selection, etag=etag, allow_missing=allow_missing, **media_name(name)
        )
        await self._connection.call(self._connection.media.DeleteMedia, request)

    async def download(
        self,
        name: str,
        path: str | PathLike[str],
        *,
        selection: Selection | None = None,
        progress: ProgressCallback | None = None,
    ) -> Media:
        """Download the file of a media item, by id or URL, to `path`; return the media item.

        The internal address of a side file downloads that file. An existing file at `path` is
        replaced. After a lost connection the download continues. If anything else interrupts it,
        the received part stays in `<path>.part`, and the next download to the same path resumes
        from there. The file gets its name after its checksum is verified. `progress` is called with
        the number of bytes received and of all bytes. Raises OSError if the file cannot be written,
        or if another download is writing to it.
        """
        path = Path(path)
        await asyncio.to_thread(resolve_destination, path)
        media = await self.media(name, selection=selection)
        blob, request = find_file(media, name)
        try:
            await download(self._connection, blob, request, path, progress)
        except Conflict:
            if request.url:
                raise
            # A newer version was stored after the media item was read.
            media = await self.media(media.id)
            await download(self._connection, *find_file(media, name), path, progress)
        return media

    async def download_url(
        self,
        name: str,
        *,
        selection: Selection | None = None,
        lifetime: timedelta | None = None,
        filename: str = "",
    ) -> CreateDownloadUrlResponse:
        """Create a signed link to the file of a media item; return it and when it expires.

        `lifetime` is from 1 second to 7 days; None means 1 hour. `filename` is the name under which
        a browser saves the file; empty means one made from the title. Everyone who has the link can
        read the file.
        """
        request = CreateDownloadUrlRequest(
            selection=selection,
            lifetime=to_duration(lifetime),
            filename=filename,
            **media_name(name),
        )
        return await self._connection.call(self._connection.media.CreateDownloadUrl, request)

    async def storyboard(
        self,
        name: str,
        *,
        selection: Selection | None = None,
        lifetime: timedelta | None = None,
    ) -> GetStoryboardResponse:
        """Return the WebVTT index of a storyboard, whose links to its sheets work for `lifetime`.

        `name` is the id of the result of a recipe `storyboard`. `lifetime` is as that of
        `download_url`. Raises MediaNotFound if the media item is not stored or has no storyboard.
        """
        request = GetStoryboardRequest(
            selection=selection, lifetime=to_duration(lifetime), **media_name(name)
        )
        return await self._connection.call(self._connection.media.GetStoryboard, request)

    async def show(
        self,
        name: str,
        *,
        selection: Selection | None = None,
        lifetime: timedelta | None = None,
    ) -> MediaView:
        """Return a media item, named by id or URL, as a notebook shows it: a player and a table.

        The player uses a signed link, which works for `lifetime`, as that of `download_url`, and
        is stored with the notebook. Raises MediaNotFound.
        """
        from ingot.notebook import MediaView  # only notebooks need it

        media = await self.media(name, selection=selection)
        link = await self.download_url(media.id, lifetime=lifetime)
        return MediaView(media, link.url, link.expire_time.ToDatetime(UTC))
