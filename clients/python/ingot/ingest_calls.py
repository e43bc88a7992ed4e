"""The client's methods that store media: ingest, convert, upload."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import timedelta
from os import PathLike
from pathlib import Path

from ingot.base_client import BaseClient
from ingot.download import ProgressCallback
from ingot.job import IngestJob
from ingot.request import make_ingest_request, media_name, to_duration
from ingot.upload import upload
from ingot.v1.ingest_service_pb2 import (
    ConvertRequest,
    ResolveRequest,
    ResolveResponse,
    UploadHeader,
)
from ingot.v1.job_pb2 import IngestOptions, Job, JobPriority
from ingot.v1.media_pb2 import Selection
from ingot.v1.recipe_pb2 import Recipe


class IngestCalls(BaseClient):
    """The methods of the client that store media."""

    async def ingest_video(
        self,
        url: str,
        *,
        selection: Selection | None = None,
        max_age: timedelta | None = None,
        priority: JobPriority.ValueType = JobPriority.JOB_PRIORITY_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
        options: IngestOptions | None = None,
        recipes: Iterable[Recipe] = (),
        webhook_url: str = "",
        request_id: str | None = None,
    ) -> IngestJob:
        """Start to store the media at `url`, and return the job.

        `max_age` is the oldest stored copy of a mutable URL to accept; None accepts any. `options`
        select side files, playlists and live streams; the job of a playlist has `child_job_ids`
        and no file of its own. `recipes` convert the media after it is stored; the results are in
        `conversions` of the job. `webhook_url` gets a signed request when the job ends, see
        docs/webhooks.md. `request_id` makes the call safe to repeat; None generates one.
        Callers that request the same media share the job. If all of it is stored already, the job
        has already ended.
        """
        request = make_ingest_request(
            url,
            selection=selection,
            max_age=max_age,
            labels=labels,
            options=options,
            recipes=recipes,
            webhook_url=webhook_url,
        )
        request.priority = priority
        request.request_id = str(uuid.uuid4()) if request_id is None else request_id
        connection = self._connection

        async def send() -> Job:
            return (await connection.call(connection.ingest.Ingest, request)).job

        return IngestJob(connection, await send(), send)

    async def convert(
        self,
        name: str,
        recipe: Recipe,
        *,
        selection: Selection | None = None,
        max_age: timedelta | None = None,
        priority: JobPriority.ValueType = JobPriority.JOB_PRIORITY_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
        webhook_url: str = "",
        request_id: str | None = None,
    ) -> IngestJob:
        """Start to convert a media item, named by id, URL or internal address; return the job.

        The job's media is the result. A URL that is not stored is ingested first; `selection` and
        `max_age` apply to that. The other arguments are as in `ingest_video`. Converting the same
        media item with the same recipe again returns the stored result. Raises InvalidRequest for a
        recipe that is not valid or does not fit the media, such as an image of audio: this method
        if that is known, otherwise awaiting the job.
        """
        request = ConvertRequest(
            selection=selection,
            recipe=recipe,
            max_age=to_duration(max_age),
            priority=priority,
            labels=labels,
            webhook_url=webhook_url,
            request_id=str(uuid.uuid4()) if request_id is None else request_id,
            **media_name(name),
        )
        connection = self._connection

        async def send() -> Job:
            return (await connection.call(connection.ingest.Convert, request)).job

        return IngestJob(connection, await send(), send)

    async def upload_media(
        self,
        path: str | PathLike[str],
        *,
        progress: ProgressCallback | None = None,
        priority: JobPriority.ValueType = JobPriority.JOB_PRIORITY_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
        recipes: Iterable[Recipe] = (),
        webhook_url: str = "",
    ) -> IngestJob:
        """Upload the file at `path`, and return the job that stores it.

        A file that is already stored is not sent, and its job has already ended unless a conversion
        is missing. An upload that was interrupted is resumed, also by a later call for the same
        file and recipes. `progress` is called with the number of bytes sent and of all bytes.
        `recipes` and `webhook_url` are as in `ingest_video`. Raises OSError if the file cannot be
        read, or changes during the upload.
        """
        connection = self._connection
        wanted = UploadHeader(
            priority=priority, labels=labels, recipes=recipes, webhook_url=webhook_url
        )
        return IngestJob(connection, await upload(connection, Path(path), progress, wanted))

    async def resolve(
        self,
        url: str,
        *,
        selection: Selection | None = None,
        options: IngestOptions | None = None,
    ) -> ResolveResponse:
        """Return what is behind `url`, without storing anything: a preview of `ingest_video`.

        The source is asked, unless it was asked the same a few minutes ago. With
        `options.playlist`, the URL of a video in a list means the list.
        """
        request = ResolveRequest(url=url, selection=selection, options=options)
        return await self._connection.call(self._connection.ingest.Resolve, request)

    async def validate(
        self,
        url: str,
        *,
        selection: Selection | None = None,
        max_age: timedelta | None = None,
        labels: Mapping[str, str] | None = None,
        options: IngestOptions | None = None,
        recipes: Iterable[Recipe] = (),
        webhook_url: str = "",
    ) -> Job:
        """Check the arguments of `ingest_video` without any effect or access to the source.

        Returns the job that `ingest_video` would create: it has no id, and its media has only id,
        url and source.
        """
        request = make_ingest_request(
            url,
            selection=selection,
            max_age=max_age,
            labels=labels,
            options=options,
            recipes=recipes,
            webhook_url=webhook_url,
        )
        request.validate_only = True
        response = await self._connection.call(self._connection.ingest.Ingest, request)
        return response.job
