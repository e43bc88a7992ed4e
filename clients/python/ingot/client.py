"""The client: one object with one connection, and a method for every call of the API."""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from datetime import timedelta
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from ingot.connection import Connection
from ingot.download import ProgressCallback, download, find_file, resolve_destination
from ingot.errors import Conflict
from ingot.job import IngestJob, RemovedJob, version
from ingot.request import make_ingest_request, media_name, to_duration
from ingot.upload import upload
from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.job_pb2 import IngestOptions, Job, JobKind, JobPriority, JobState
from ingot.v1.job_service_pb2 import (
    CancelJobRequest,
    GetJobRequest,
    ListJobsRequest,
    RetryJobRequest,
    SnapshotEnd,
    WatchJobsRequest,
)
from ingot.v1.media_pb2 import Media, MediaKind, Selection
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    CreateDownloadUrlResponse,
    DeleteMediaRequest,
    GetMediaRequest,
    ListMediaRequest,
    UpdateMediaRequest,
)
from ingot.v1.recipe_pb2 import Recipe
from ingot.v1.source_service_pb2 import ListSourcesRequest, SourceStatus
from ingot.v1.system_service_pb2 import GetSystemRequest, GetSystemResponse

_PAGE_SIZE: Final = 200
# How many jobs watch_jobs remembers, so that it does not repeat updates after a lost connection.
_REMEMBERED_JOBS: Final = 10_000


class Client:
    """A connection to an Ingot server, which is open within `async with`.

    `target` is `HOST:PORT` or `unix:PATH`. `credentials`, such as
    `grpc.ssl_channel_credentials()`, turn on TLS; without them the connection is not encrypted.
    `metadata` is sent with every call. `timeout` limits one call including its retries.
    `reconnect_timeout` limits how long a watch, an upload or a download tries to reconnect.

    Every method raises IngotError, as the subclass for the reason. Calls that are safe to repeat
    are repeated a few times while the server is unavailable.
    """

    def __init__(
        self,
        target: str = "localhost:50051",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: timedelta = timedelta(seconds=30),
        reconnect_timeout: timedelta = timedelta(seconds=60),
    ) -> None:
        self._target = target
        self._credentials = credentials
        self._metadata = dict(metadata or {})
        self._timeout = timeout
        self._reconnect_timeout = reconnect_timeout
        self._open: Connection | None = None

    def __repr__(self) -> str:
        return f"Client({self._target!r})"

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise RuntimeError("This Client is already open. Create another one.")
        self._open = Connection(
            self._target,
            credentials=self._credentials,
            metadata=self._metadata,
            timeout_seconds=self._timeout.total_seconds(),
            reconnect_seconds=self._reconnect_timeout.total_seconds(),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        connection, self._open = self._connection, None
        await connection.close()

    @property
    def _connection(self) -> Connection:
        if self._open is None:
            raise RuntimeError("The Client is not open. Use it within `async with Client(...)`.")
        return self._open

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
        request_id: str | None = None,
    ) -> IngestJob:
        """Start to store the media at `url`, and return the job.

        `max_age` is the oldest stored copy of a mutable URL to accept; None accepts any. `options`
        select side files, playlists and live streams; the job of a playlist has `child_job_ids`
        and no file of its own. `recipes` convert the media after it is stored; the results are in
        `conversions` of the job. `request_id` makes the call safe to repeat; None generates one.
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
        )
        request.priority = priority
        request.request_id = str(uuid.uuid4()) if request_id is None else request_id
        connection = self._connection
        response = await connection.call(connection.ingest.Ingest, request)
        return IngestJob(connection, response.job)

    async def convert(
        self,
        name: str,
        recipe: Recipe,
        *,
        selection: Selection | None = None,
        max_age: timedelta | None = None,
        priority: JobPriority.ValueType = JobPriority.JOB_PRIORITY_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
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
            request_id=str(uuid.uuid4()) if request_id is None else request_id,
            **media_name(name),
        )
        connection = self._connection
        response = await connection.call(connection.ingest.Convert, request)
        return IngestJob(connection, response.job)

    async def upload_media(
        self,
        path: str | PathLike[str],
        *,
        progress: ProgressCallback | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> IngestJob:
        """Upload the file at `path`, and return the job that stores it.

        A file that is already stored is not sent, and its job has already ended. An upload that was
        interrupted is resumed, also by a later call for the same file. `progress` is called with
        the number of bytes sent and of all bytes. Raises OSError if the file cannot be read, or
        changes during the upload.
        """
        connection = self._connection
        return IngestJob(connection, await upload(connection, Path(path), progress, labels))

    async def validate(
        self,
        url: str,
        *,
        selection: Selection | None = None,
        max_age: timedelta | None = None,
        labels: Mapping[str, str] | None = None,
        options: IngestOptions | None = None,
        recipes: Iterable[Recipe] = (),
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
        )
        request.validate_only = True
        response = await self._connection.call(self._connection.ingest.Ingest, request)
        return response.job

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
            page_size=_PAGE_SIZE,
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
        etag: str = "",
    ) -> Media:
        """Change a media item, named by id, URL or internal address; return it as it is now.

        None leaves a field as it is; an empty value removes what it held. With `etag`, raises
        Conflict if another version is stored now. Raises MediaNotFound.
        """
        fields = {"title": title, "description": description, "tags": tags, "labels": labels}
        given = {field: value for field, value in fields.items() if value is not None}
        request = UpdateMediaRequest(
            selection=selection,
            media=Media(**given),  # type: ignore[arg-type] # the names and types are those above
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

    async def job(self, job_id: str) -> IngestJob:
        """Return a handle of the job with this id. Raises JobNotFound."""
        connection = self._connection
        response = await connection.call(connection.jobs.GetJob, GetJobRequest(job_id=job_id))
        return IngestJob(connection, response.job)

    async def jobs(
        self,
        *,
        states: Iterable[JobState.ValueType] = (),
        kinds: Iterable[JobKind.ValueType] = (),
        source: str = "",
        parent_job_id: str = "",
        media_id: str = "",
        labels: Mapping[str, str] | None = None,
        text: str = "",
    ) -> AsyncGenerator[Job, None]:
        """Yield the jobs on record that match every argument, latest first.

        They are in one of `states`, of one of `kinds`, of the source with this name, children of
        this parent, about this media item, with all `labels`, and with `text` in their title,
        uploader or URL. An empty argument matches every job.
        """
        request = ListJobsRequest(
            page_size=_PAGE_SIZE,
            states=states,
            kinds=kinds,
            source=source,
            parent_job_id=parent_job_id,
            media_id=media_id,
            labels=labels,
            text=text,
        )
        async for page in self._connection.pages(self._connection.jobs.ListJobs, request):
            for job in page.jobs:
                yield job

    async def watch_jobs(
        self,
        *,
        states: Iterable[JobState.ValueType] = (),
        kinds: Iterable[JobKind.ValueType] = (),
        source: str = "",
        parent_job_id: str = "",
        media_id: str = "",
        labels: Mapping[str, str] | None = None,
        text: str = "",
        snapshot_size: int = 0,
    ) -> AsyncGenerator[Job | RemovedJob | SnapshotEnd, None]:
        """Yield all jobs that match every argument, then every change and removal, without end.

        The arguments are those of `jobs`. First come at most `snapshot_size` jobs that are on
        record, latest first, and SnapshotEnd; 0 means 1000. A job that stops matching is yielded
        one last time, and a RemovedJob when its record has expired. After a lost connection, what
        happened meanwhile is yielded; if that was too long, everything from the beginning, with
        another SnapshotEnd.
        """
        request = WatchJobsRequest(
            states=states,
            kinds=kinds,
            source=source,
            parent_job_id=parent_job_id,
            media_id=media_id,
            labels=labels,
            text=text,
            snapshot_size=snapshot_size,
        )
        seen: OrderedDict[str, tuple[int, int]] = OrderedDict()
        watch = self._connection.watch(self._connection.jobs.WatchJobs, request)
        async with aclosing(watch):
            async for response in watch:
                if response.HasField("snapshot_end"):
                    yield response.snapshot_end
                    continue
                if response.removed_job_id:
                    seen.pop(response.removed_job_id, None)
                    yield RemovedJob(response.removed_job_id)
                    continue
                job = response.job
                if version(job) <= seen.get(job.id, (0, 0)):
                    continue
                seen[job.id] = version(job)
                seen.move_to_end(job.id)
                if len(seen) > _REMEMBERED_JOBS:
                    seen.popitem(last=False)
                yield job

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job for all its callers, and return how it ended.

        A job that ended before it could be cancelled is returned as it ended.
        """
        response = await self._connection.call(
            self._connection.jobs.CancelJob, CancelJobRequest(job_id=job_id)
        )
        return response.job

    async def retry(self, job_id: str) -> IngestJob:
        """Return a job like one that failed or was cancelled. Raises an error for any other job."""
        request = RetryJobRequest(job_id=job_id, request_id=str(uuid.uuid4()))
        response = await self._connection.call(self._connection.jobs.RetryJob, request)
        return IngestJob(self._connection, response.job)

    async def sources(self) -> list[SourceStatus]:
        """Return the sources and their status, in the order in which they are tried for a URL."""
        response = await self._connection.call(
            self._connection.sources.ListSources, ListSourcesRequest()
        )
        return list(response.sources)

    async def system(self) -> GetSystemResponse:
        """Return what waits and runs in the installation, and what is wrong with it."""
        return await self._connection.call(self._connection.system.GetSystem, GetSystemRequest())
