# ruff: noqa: N802 - gRPC names the methods
"""A real gRPC server on a Unix socket that plays one scripted job and serves a few media items.

A test can stop and restart it at any point of the job. With a real worker behind it, that point
would be left to chance.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal, Never, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from grpc.aio import ServicerContext

from ingot import Job, JobStage, JobState, Media
from ingot.v1 import (
    ingest_service_pb2_grpc,
    job_service_pb2_grpc,
    media_service_pb2_grpc,
    reason_pb2,
)
from ingot.v1.ingest_service_pb2 import (
    BatchIngestRequest,
    BatchIngestResponse,
    ConvertRequest,
    ConvertResponse,
    IngestRequest,
    IngestResponse,
    ResolveRequest,
    ResolveResponse,
)
from ingot.v1.job_service_pb2 import (
    CancelJobRequest,
    CancelJobResponse,
    CancelJobsRequest,
    CancelJobsResponse,
    GetJobRequest,
    GetJobResponse,
    Heartbeat,
    ListJobsRequest,
    ListJobsResponse,
    RetryJobRequest,
    RetryJobResponse,
    RetryJobsRequest,
    RetryJobsResponse,
    SnapshotEnd,
    WatchJobRequest,
    WatchJobResponse,
    WatchJobsRequest,
    WatchJobsResponse,
)
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
from ingot_server.errors import Failure

URL = "http://origin.test/clip.mp4"
JOB_ID = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
MEDIA_ID = "m" * 52

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


def make_media(content: bytes = b"content", media_id: str = MEDIA_ID) -> Media:
    media = Media(id=media_id, url=URL, title="Clip")
    media.blob.content_type = "video/mp4"
    media.blob.size_bytes = len(content)
    media.blob.sha256 = hashlib.sha256(content).hexdigest()
    return media


def make_revisions(
    state: JobState.ValueType = JobState.JOB_STATE_SUCCEEDED, error: Status | None = None
) -> list[Job]:
    """Make the revisions of a job that ends in `state`."""
    updates = [
        Job(id=JOB_ID, revision=revision, url=URL, state=state, stage=stage, attempt=1)
        for revision, (state, stage) in enumerate(
            [
                (JobState.JOB_STATE_QUEUED, JobStage.JOB_STAGE_UNSPECIFIED),
                (JobState.JOB_STATE_RUNNING, JobStage.JOB_STAGE_RESOLVING),
                (JobState.JOB_STATE_RUNNING, JobStage.JOB_STAGE_DOWNLOADING),
                (JobState.JOB_STATE_RUNNING, JobStage.JOB_STAGE_DOWNLOADING),
                (JobState.JOB_STATE_RUNNING, JobStage.JOB_STAGE_COMMITTING),
            ],
            start=1,
        )
    ]
    updates[0].attempt = 0
    for update, done in zip(updates[2:4], (1_000_000, 2_500_000), strict=True):
        update.progress.stage.bytes_done = done
        update.progress.stage.bytes_total = 5_000_000
        update.progress.stage.bytes_per_second = 750_000
        update.progress.stage.eta.FromSeconds(4)
    end = Job(id=JOB_ID, revision=6, url=URL, state=state, error=error, media=make_media())
    return [*updates, end]


class ScriptedServer(
    ingest_service_pb2_grpc.IngestServiceServicer,
    job_service_pb2_grpc.JobServiceServicer,
    media_service_pb2_grpc.MediaServiceServicer,
):
    """A server that plays one job, revision by revision; all its media have the same content."""

    def __init__(self, directory: str) -> None:
        self.target = f"unix:{directory}/grpc"
        self.updates = make_revisions()
        self.resolved = ResolveResponse(kind=ResolveResponse.KIND_MEDIA, media=make_media())
        # The last revision that a watch sends. After it the stream stays open and idle.
        self.last_revision = 6
        self.content = b"content"
        self.media = [make_media()]
        # What the next calls do. The calls after them get a response.
        self.outcomes: list[Failure | Literal["respond", "hang"]] = []
        # How many bytes the next downloads send before they are cut off.
        self.cut_after_bytes: list[int] = []
        self.requests: list[Message] = []
        self._server: grpc.aio.Server | None = None

    # The tests in tests/integration/uploads run uploads against a complete server.
    def Upload(self, *_: object) -> NoReturn:
        raise NotImplementedError

    def QueryUpload(self, *_: object) -> NoReturn:
        raise NotImplementedError

    async def Resolve(
        self, request: ResolveRequest, context: ServicerContext[ResolveRequest, ResolveResponse]
    ) -> ResolveResponse:
        await self._receive(request, context)
        return self.resolved

    def CreateUploadUrl(self, *_: object) -> NoReturn:
        raise NotImplementedError

    def CompleteUpload(self, *_: object) -> NoReturn:
        raise NotImplementedError

    async def start(self) -> None:
        self._server = grpc.aio.server()
        ingest_service_pb2_grpc.add_IngestServiceServicer_to_server(self, self._server)
        job_service_pb2_grpc.add_JobServiceServicer_to_server(self, self._server)
        media_service_pb2_grpc.add_MediaServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.target)
        await self._server.start()

    async def stop(self) -> None:
        """Cut off every connection."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def store(self, size_bytes: int) -> bytes:
        """Store one media item with random content, and return the content."""
        self.content = random.randbytes(size_bytes)
        self.media = [make_media(self.content)]
        return self.content

    def received(self, kind: type[Request]) -> list[Request]:
        """Return the requests of one type, in the order in which they came."""
        return [request for request in self.requests if isinstance(request, kind)]

    async def Ingest(
        self, request: IngestRequest, context: ServicerContext[IngestRequest, IngestResponse]
    ) -> IngestResponse:
        await self._receive(request, context)
        return IngestResponse(job=self.updates[0])

    async def Convert(
        self, request: ConvertRequest, context: ServicerContext[ConvertRequest, ConvertResponse]
    ) -> ConvertResponse:
        await self._receive(request, context)
        return ConvertResponse(job=self.updates[0])

    async def GetJob(
        self, request: GetJobRequest, context: ServicerContext[GetJobRequest, GetJobResponse]
    ) -> GetJobResponse:
        await self._receive(request, context)
        if request.job_id != JOB_ID:
            await abort(context, Failure(reason_pb2.REASON_JOB_NOT_FOUND, "No such job."))
        return GetJobResponse(job=self.updates[0])

    async def ListJobs(
        self, request: ListJobsRequest, context: ServicerContext[ListJobsRequest, ListJobsResponse]
    ) -> ListJobsResponse:
        await self._receive(request, context)
        return ListJobsResponse(jobs=self.updates[-1:])

    async def CancelJobs(
        self,
        request: CancelJobsRequest,
        context: ServicerContext[CancelJobsRequest, CancelJobsResponse],
    ) -> CancelJobsResponse:
        await self._receive(request, context)
        return CancelJobsResponse(cancelled_count=3)

    async def RetryJob(
        self,
        request: RetryJobRequest,
        context: ServicerContext[RetryJobRequest, RetryJobResponse],
    ) -> RetryJobResponse:
        await self._receive(request, context)
        return RetryJobResponse(job=self.updates[0])

    async def RetryJobs(
        self,
        request: RetryJobsRequest,
        context: ServicerContext[RetryJobsRequest, RetryJobsResponse],
    ) -> RetryJobsResponse:
        await self._receive(request, context)
        return RetryJobsResponse(retried_count=2, refused_count=1)

    async def CancelJob(
        self,
        request: CancelJobRequest,
        context: ServicerContext[CancelJobRequest, CancelJobResponse],
    ) -> CancelJobResponse:
        await self._receive(request, context)
        return CancelJobResponse(job=self.updates[-1])

    async def WatchJob(
        self, request: WatchJobRequest, context: ServicerContext[WatchJobRequest, WatchJobResponse]
    ) -> AsyncGenerator[WatchJobResponse, None]:
        await self._receive(request, context)
        for job in self.updates[int(request.resume_token or 0) : self.last_revision]:
            yield WatchJobResponse(heartbeat=Heartbeat(), resume_token=str(job.revision - 1))
            yield WatchJobResponse(job=job, resume_token=str(job.revision))
        if self.last_revision < 6:
            await asyncio.Event().wait()

    async def WatchJobs(
        self,
        request: WatchJobsRequest,
        context: ServicerContext[WatchJobsRequest, WatchJobsResponse],
    ) -> AsyncGenerator[WatchJobsResponse, None]:
        await self._receive(request, context)
        for job in self.updates[int(request.resume_token or 0) : self.last_revision]:
            yield WatchJobsResponse(heartbeat=Heartbeat(), resume_token=str(job.revision - 1))
            yield WatchJobsResponse(job=job, resume_token=str(job.revision))
            if job.revision == 1:
                yield WatchJobsResponse(snapshot_end=SnapshotEnd(), resume_token="1")
        if self.last_revision == 6:
            yield WatchJobsResponse(removed_job_id=JOB_ID, resume_token="6")
        await asyncio.Event().wait()

    async def GetMedia(
        self, request: GetMediaRequest, context: ServicerContext[GetMediaRequest, GetMediaResponse]
    ) -> GetMediaResponse:
        await self._receive(request, context)
        if not self.media:
            await abort(context, Failure(reason_pb2.REASON_MEDIA_NOT_FOUND, "Not stored."))
        return GetMediaResponse(media=self.media[0])

    async def BatchGetMedia(
        self,
        request: BatchGetMediaRequest,
        context: ServicerContext[BatchGetMediaRequest, BatchGetMediaResponse],
    ) -> BatchGetMediaResponse:
        await self._receive(request, context)
        return BatchGetMediaResponse(
            results=[BatchGetMediaResponse.Result(media=each) for each in self.media]
        )

    async def BatchIngest(
        self,
        request: BatchIngestRequest,
        context: ServicerContext[BatchIngestRequest, BatchIngestResponse],
    ) -> BatchIngestResponse:
        await self._receive(request, context)
        return BatchIngestResponse(
            results=[BatchIngestResponse.Result(job=self.updates[-1]) for _ in request.requests]
        )

    async def ListMedia(
        self,
        request: ListMediaRequest,
        context: ServicerContext[ListMediaRequest, ListMediaResponse],
    ) -> ListMediaResponse:
        await self._receive(request, context)
        start = int(request.page_token or 0)
        end = start + request.page_size
        return ListMediaResponse(
            media=self.media[start:end],
            next_page_token=str(end) if end < len(self.media) else "",
        )

    async def UpdateMedia(
        self,
        request: UpdateMediaRequest,
        context: ServicerContext[UpdateMediaRequest, UpdateMediaResponse],
    ) -> UpdateMediaResponse:
        await self._receive(request, context)
        return UpdateMediaResponse(media=request.media)

    async def DeleteMedia(
        self,
        request: DeleteMediaRequest,
        context: ServicerContext[DeleteMediaRequest, DeleteMediaResponse],
    ) -> DeleteMediaResponse:
        await self._receive(request, context)
        return DeleteMediaResponse()

    async def CreateDownloadUrl(
        self,
        request: CreateDownloadUrlRequest,
        context: ServicerContext[CreateDownloadUrlRequest, CreateDownloadUrlResponse],
    ) -> CreateDownloadUrlResponse:
        await self._receive(request, context)
        return CreateDownloadUrlResponse(url="http://store.test/signed")

    async def GetStoryboard(
        self,
        request: GetStoryboardRequest,
        context: ServicerContext[GetStoryboardRequest, GetStoryboardResponse],
    ) -> GetStoryboardResponse:
        await self._receive(request, context)
        return GetStoryboardResponse(webvtt="WEBVTT\n")

    async def Download(
        self, request: DownloadRequest, context: ServicerContext[DownloadRequest, DownloadResponse]
    ) -> AsyncGenerator[DownloadResponse, None]:
        await self._receive(request, context)
        end = request.offset + (
            self.cut_after_bytes.pop(0) if self.cut_after_bytes else len(self.content)
        )
        for offset in range(request.offset, min(end, len(self.content)), 1 << 18):
            data = self.content[offset : min(offset + (1 << 18), end)]
            yield DownloadResponse(offset=offset, data=data)
        if end < len(self.content):
            await abort(context, Failure(reason_pb2.REASON_SHUTTING_DOWN, "Going down."))

    async def _receive(self, request: Request, context: ServicerContext[Request, Response]) -> None:
        """Record a request, then do what the test set for this call."""
        self.requests.append(request)
        outcome = self.outcomes.pop(0) if self.outcomes else "respond"
        if outcome == "hang":
            await asyncio.Event().wait()
        elif outcome != "respond":
            await abort(context, outcome)


async def abort(context: ServicerContext[Request, Response], failure: Failure) -> Never:
    status = failure.status()
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, status.message, details)


@asynccontextmanager
async def running_scripted_server() -> AsyncGenerator[ScriptedServer, None]:
    # Not pytest's tmp_path: the path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ingot-") as directory:
        server = ScriptedServer(directory)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
