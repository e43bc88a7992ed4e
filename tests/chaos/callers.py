"""Callers of the API that know all servers, and repeat what got no answer with the same id."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import grpc

from ingot.errors import from_call
from ingot.v1.ingest_service_pb2 import (
    QueryUploadRequest,
    UploadChunk,
    UploadHeader,
    UploadRequest,
)
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import GetJobRequest, WatchJobRequest
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from ingot.v1.media_pb2 import Media
from ingot.v1.media_service_pb2 import DownloadRequest, GetMediaRequest, ListMediaRequest
from ingot.v1.media_service_pb2_grpc import MediaServiceStub
from tests.chaos.history import AcceptedJob, History

_CALL_SECONDS = 6.0
_REPEAT_SECONDS = 0.4
_GIVE_UP_SECONDS = 25.0
# A watch that says nothing for this long is tried elsewhere: its server may be stopped.
_SILENT_SECONDS = 5.0
_CHUNK = 1 << 18
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 1000))
# Another try may succeed, also on another server.
_TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
}

_Answer = TypeVar("_Answer")


class Server:
    """The services of one API server."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.ingests: Any = IngestServiceStub(channel)
        self.jobs: Any = JobServiceStub(channel)
        self.media: Any = MediaServiceStub(channel)


class Callers:
    """Makes calls to one server or another, and writes down the answers."""

    def __init__(self, servers: list[Server], history: History, chance: random.Random) -> None:
        self.servers = servers
        self.history = history
        self._chance = chance

    async def call(
        self,
        name: str,
        request: object,
        *,
        give_up_seconds: float = _GIVE_UP_SECONDS,
        server: Server | None = None,
    ) -> Any:
        """Return the answer to a call such as `jobs.GetJob`, repeated while it may help.

        Raises grpc.aio.AioRpcError for what another try does not help.
        """
        service, _, method = name.partition(".")

        def once() -> Awaitable[Any]:
            asked = server or self._chance.choice(self.servers)
            call: Awaitable[Any] = getattr(getattr(asked, service), method)(
                request, timeout=_CALL_SECONDS
            )
            return call

        return await self._repeat(method, once, give_up_seconds)

    async def upload(self, content: bytes, header: UploadHeader) -> Job:
        """Upload, and go on after interruptions where the servers say that the upload stands."""

        async def once() -> Job:
            server = self._chance.choice(self.servers)
            offset = await self._committed_size(server, header.upload_id)
            answer = await server.ingests.Upload(
                _upload_requests(header, content, offset), timeout=_CALL_SECONDS
            )
            job: Job = answer.job
            return job

        return await self._repeat("Upload", once, _GIVE_UP_SECONDS)

    async def watch(self, accepted: AcceptedJob) -> None:
        """Follow a job to its end across servers, until cancelled if it does not end."""
        token = ""
        loop = asyncio.get_running_loop()
        while accepted.end is None:
            server = self._chance.choice(self.servers)
            request = WatchJobRequest(job_id=accepted.id, resume_token=token)
            call = server.jobs.WatchJob(request)
            try:
                while True:
                    async with asyncio.timeout(_SILENT_SECONDS):
                        answer = await call.read()
                    if answer is grpc.aio.EOF:
                        break
                    token = answer.resume_token
                    if answer.HasField("job"):
                        accepted.note(answer.job)
            except TimeoutError:
                pass
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    accepted.unknown_since = accepted.unknown_since or loop.time()
                token = token if error.code() in _TRANSIENT else ""
            finally:
                call.cancel()
            if accepted.end is None:
                await asyncio.sleep(_REPEAT_SECONDS)

    async def download(self, media_id: str) -> bytes:
        """Return the bytes of a media item. Raises AioRpcError, also when it breaks off."""
        server = self._chance.choice(self.servers)
        stream = server.media.Download(DownloadRequest(media_id=media_id), timeout=20)
        return b"".join([part.data async for part in stream])

    async def job(self, server: Server, job_id: str) -> Job:
        answer = await self.call("jobs.GetJob", GetJobRequest(job_id=job_id), server=server)
        job: Job = answer.job
        return job

    async def media(self, media_id: str) -> Media | None:
        """Return a media item; None if there is none."""
        try:
            answer = await self.call("media.GetMedia", GetMediaRequest(media_id=media_id))
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise
        media: Media = answer.media
        return media

    async def all_media(self) -> list[Media]:
        """Return all media items that the list has."""
        found: list[Media] = []
        token = ""
        while True:
            request = ListMediaRequest(page_size=100, page_token=token)
            answer = await self.call("media.ListMedia", request)
            found.extend(answer.media)
            token = answer.next_page_token
            if not token:
                return found

    async def _committed_size(self, server: Server, upload_id: str) -> int:
        try:
            answer = await server.ingests.QueryUpload(
                QueryUploadRequest(upload_id=upload_id), timeout=_CALL_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return 0
            raise
        return int(answer.committed_size)

    async def _repeat(
        self, name: str, once: Callable[[], Awaitable[_Answer]], seconds: float
    ) -> _Answer:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            try:
                answer = await once()
            except grpc.aio.AioRpcError as error:
                reason = from_call(error).reason or error.code().name
                self.history.calls[f"{name} {reason}"] += 1
                if error.code() not in _TRANSIENT or loop.time() > deadline:
                    raise
                await asyncio.sleep(_REPEAT_SECONDS)
            else:
                self.history.calls[f"{name} OK"] += 1
                return answer


def _upload_requests(header: UploadHeader, content: bytes, offset: int) -> Iterator[UploadRequest]:
    yield UploadRequest(header=header)
    for begin in range(offset, len(content), _CHUNK):
        data = content[begin : begin + _CHUNK]
        yield UploadRequest(chunk=UploadChunk(offset=begin, data=data))


def new_id(chance: random.Random) -> str:
    """A request id or upload id that the seed decides."""
    return str(uuid.UUID(int=chance.getrandbits(128)))


@asynccontextmanager
async def callers(
    addresses: list[str], history: History, chance: random.Random
) -> AsyncIterator[Callers]:
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options=_OPTIONS))
            for address in addresses
        ]
        yield Callers([Server(channel) for channel in channels], history, chance)
