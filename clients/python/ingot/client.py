"""The client: one object, one connection, every call of the API."""

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

from ingot.connection import Connection
from ingot.download import Progress, destination, download, named_file
from ingot.errors import Conflict
from ingot.job import IngestJob
from ingot.request import duration, ingest_request, is_media_id, named
from ingot.upload import upload
from ingot.v1.ingest_service_pb2 import ConvertRequest, IngestRequest
from ingot.v1.job_pb2 import IngestOptions, Job, JobState
from ingot.v1.job_service_pb2 import (
    CancelJobRequest,
    GetJobRequest,
    ListJobsRequest,
    WatchJobsRequest,
)
from ingot.v1.media_pb2 import Media, Selection
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    CreateDownloadUrlResponse,
    DeleteMediaRequest,
    GetMediaRequest,
    ListMediaRequest,
)
from ingot.v1.recipe_pb2 import Recipe
from ingot.v1.source_service_pb2 import ListSourcesRequest, SourceStatus

_PAGE_SIZE: Final = 200
# Jobs whose revision is remembered across a lost connection, to leave out what was yielded before.
_REMEMBERED_JOBS: Final = 10_000


class Client:
    """A connection to an Ingot server, open within `async with`.

    `target` is `HOST:PORT`, or `unix:PATH`. `credentials`, such as
    `grpc.ssl_channel_credentials()`, turn on TLS; without them the connection is in plain text.
    `metadata` goes with every call. `timeout` bounds one call, its retries included.
    `reconnect_timeout` is how long the connection may be gone before a watch or a download gives
    up.

    Every method raises IngotError, the subclass for its reason. Calls that are safe to repeat are
    repeated a few times while the server is unavailable.
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
            raise RuntimeError("This Client is open already; make another one.")
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
            raise RuntimeError("The Client is not open: use it within `async with Client(...)`.")
        return self._open

    async def ingest_video(
        self,
        url: str,
        *,
        selection: Selection | None = None,
        max_age: timedelta | None = None,
        priority: IngestRequest.Priority.ValueType = IngestRequest.PRIORITY_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
        options: IngestOptions | None = None,
        recipes: Iterable[Recipe] = (),
        request_id: str | None = None,
    ) -> IngestJob:
        """Has the media behind `url` stored; answers at once with the job that does it.

        `max_age` is how old a stored copy of a mutable URL may be; None takes any. `options` say
        what else to take, and of playlists and live streams; the job of a playlist has
        `child_job_ids` and no file of its own. `recipes` say what to convert the media to when it
        is stored; the job's `conversions` have what was made. `request_id` makes the call safe to
        repeat; one is made up when it is None. The job is shared with others who ask for the same
        media, and has ended already when all of it is stored.
        """
        request = ingest_request(
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
        priority: IngestRequest.Priority.ValueType = IngestRequest.PRIORITY_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> IngestJob:
        """Has another media made of one, by id, URL or internal address; answers at once.

        The job's media is the new one. What a URL names is ingested first if it is not stored;
        `selection` and `max_age` are about that, and all else is as in `ingest_video`. The same
        recipe of the same media is one media, made once. Raises InvalidRequest for a recipe that
        makes no sense, or that the media has nothing for: at once where that is known, else when
        the job is awaited.
        """
        request = ConvertRequest(
            selection=selection,
            recipe=recipe,
            max_age=duration(max_age),
            priority=priority,
            labels=labels,
            request_id=str(uuid.uuid4()) if request_id is None else request_id,
        )
        if is_media_id(name):
            request.media_id = name
        else:
            request.url = name
        connection = self._connection
        response = await connection.call(connection.ingest.Convert, request)
        return IngestJob(connection, response.job)

    async def upload_media(
        self,
        path: str | PathLike[str],
        *,
        progress: Progress | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> IngestJob:
        """Has the file at `path` stored; answers, once it is sent, with the job that stores it.

        A file that is stored already is not sent, and the job has ended. A lost connection is taken
        up again, where the bytes that arrived for good end, and so does another call for the same
        file. `progress` is called with the bytes sent and the bytes in all. Raises OSError when the
        file cannot be read.
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
        """Checks what `ingest_video` would be asked, without network or effect.

        Answers with the job that would be made: no id, its media's id, url and source filled in.
        """
        request = ingest_request(
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
        """The stored media with this id or URL; MediaNotFound when it is not in the system."""
        request = GetMediaRequest(selection=selection, **named(name))
        response = await self._connection.call(self._connection.media.GetMedia, request)
        return response.media

    async def list_media(self) -> AsyncGenerator[Media, None]:
        """All stored media, by id."""
        request = ListMediaRequest(page_size=_PAGE_SIZE)
        while True:
            page = await self._connection.call(self._connection.media.ListMedia, request)
            for media in page.media:
                yield media
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def delete_media(self, media_id: str, *, etag: str = "") -> None:
        """Deletes a media; with an `etag` only while that version is stored, else Conflict."""
        request = DeleteMediaRequest(media_id=media_id, etag=etag)
        await self._connection.call(self._connection.media.DeleteMedia, request)

    async def download(
        self,
        name: str,
        path: str | PathLike[str],
        *,
        selection: Selection | None = None,
        progress: Progress | None = None,
    ) -> Media:
        """Brings the file of a media, by id or URL, to `path`; answers with the media.

        The URL of one of its side files brings that. `path` is replaced if it is a file. A lost
        connection is taken up again. Whatever else stops it leaves `<path>.part`, and the next
        download to the same path goes on from there. The checksum is verified before the file gets
        its name. `progress` is called with the bytes that are there and the bytes in all.
        Raises OSError when the file cannot be written, or another download writes to it.
        """
        place = Path(path)
        await asyncio.to_thread(destination, place)
        media = await self.media(name, selection=selection)
        blob, wanted = named_file(media, name)
        try:
            await download(self._connection, blob, wanted, place, progress)
        except Conflict:
            if wanted.url:
                raise
            # Replaced by a newer version since it was looked up.
            media = await self.media(media.id)
            await download(self._connection, *named_file(media, name), place, progress)
        return media

    async def download_url(
        self,
        name: str,
        *,
        selection: Selection | None = None,
        lifetime: timedelta | None = None,
        filename: str = "",
    ) -> CreateDownloadUrlResponse:
        """A signed link to the file of a media, and when it stops working.

        `lifetime` is from 1 second to 7 days, None means 1 hour. `filename` is what a browser saves
        the file under. Whoever has the link can read the file.
        """
        request = CreateDownloadUrlRequest(
            selection=selection, lifetime=duration(lifetime), filename=filename, **named(name)
        )
        return await self._connection.call(self._connection.media.CreateDownloadUrl, request)

    async def job(self, job_id: str) -> IngestJob:
        """The job with this id, to look at, watch or wait for; JobNotFound if there is none."""
        connection = self._connection
        response = await connection.call(connection.jobs.GetJob, GetJobRequest(job_id=job_id))
        return IngestJob(connection, response.job)

    async def jobs(
        self,
        *,
        states: Iterable[JobState.ValueType] = (),
        labels: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Job, None]:
        """Jobs whose records live, latest first: those in one of `states`, with all `labels`."""
        request = ListJobsRequest(page_size=_PAGE_SIZE, states=states, labels=labels)
        while True:
            page = await self._connection.call(self._connection.jobs.ListJobs, request)
            for job in page.jobs:
                yield job
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def watch_jobs(
        self,
        *,
        states: Iterable[JobState.ValueType] = (),
        labels: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Job, None]:
        """All matching jobs as they stand, then every change, without an end of its own.

        A job that matched and no longer does is yielded once more. After a lost connection only
        what changed meanwhile is yielded.
        """
        request = WatchJobsRequest(states=states, labels=labels)
        seen: OrderedDict[str, int] = OrderedDict()
        stream = self._connection.stream(self._connection.jobs.WatchJobs, lambda: request)
        async with aclosing(stream):
            async for response in stream:
                job = response.job
                if job.revision <= seen.get(job.id, 0):
                    continue
                seen[job.id] = job.revision
                seen.move_to_end(job.id)
                if len(seen) > _REMEMBERED_JOBS:
                    seen.popitem(last=False)
                yield job

    async def cancel(self, job_id: str) -> Job:
        """Stops a job for all its callers; answers with it as it ended, perhaps not CANCELLED."""
        response = await self._connection.call(
            self._connection.jobs.CancelJob, CancelJobRequest(job_id=job_id)
        )
        return response.job

    async def sources(self) -> list[SourceStatus]:
        """Where media can come from, in the order in which a URL is tried, and how each does."""
        response = await self._connection.call(
            self._connection.sources.ListSources, ListSourcesRequest()
        )
        return list(response.sources)
