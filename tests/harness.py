"""A whole Ingot in this process: the API over gRPC, and a worker that a test gives jobs to."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format

from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import CancelJobRequest
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from ingot.v1.media_pb2 import Media
from ingot.v1.media_service_pb2 import DeleteMediaRequest, DownloadRequest, GetMediaRequest
from ingot.v1.media_service_pb2_grpc import MediaServiceStub
from ingot.v1.webhook_service_pb2_grpc import WebhookServiceStub
from ingot_server.api.admission import Admission
from ingot_server.api.authentication import Authentication
from ingot_server.api.cached_jobs import CachedJobs
from ingot_server.api.grpc_server import ApiServer
from ingot_server.api.ingest_service import IngestService
from ingot_server.api.job_service import JobService
from ingot_server.api.media_service import MediaService
from ingot_server.api.open_watches import OpenWatches
from ingot_server.api.retries import Retries
from ingot_server.api.webhook_service import WebhookService
from ingot_server.config import Settings
from ingot_server.intake import Intake
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.jobs.previews import Previews
from ingot_server.jobs.queue import Queue, celery_app
from ingot_server.jobs.records import Records
from ingot_server.jobs.webhook_deliveries import WebhookDeliveries
from ingot_server.journal.writer import JournalWriter
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.media_list import MediaList
from ingot_server.redis import connect
from ingot_server.worker import Worker
from tests.installation import descendants, files_below
from tests.waiting import JOB_SECONDS, until

# Between two looks at a job that waits for another one.
FOLLOWING_SECONDS = 0.05


class Harness:
    """A running Ingot: stubs to call it with, and access to its stores."""

    def __init__(
        self,
        settings: Settings,
        channel: grpc.aio.Channel,
        worker: Worker,
        older: frozenset[int],
    ) -> None:
        """`older` are the processes that ran before the worker."""
        self.settings = settings
        self.worker = worker
        self.redis = connect(settings)
        self.records = Records(self.redis, settings)
        self.blobs = Blobs(settings)
        self.api: Any = IngestServiceStub(channel)
        self.jobs: Any = JobServiceStub(channel)
        self.media: Any = MediaServiceStub(channel)
        self.webhooks: Any = WebhookServiceStub(channel)
        self._older = older

    async def ask(self, url: str, **fields: Any) -> Job:
        """Return the job in the response of Ingest."""
        answer = await self.api.Ingest(IngestRequest(url=url, **fields))
        job: Job = answer.job
        return job

    async def ingest(self, url: str, **fields: Any) -> Job:
        """Ingest `url` and return its job after it has ended."""
        return await self.end(await self.ask(url, **fields))

    async def end(self, job: Job) -> Job:
        """Run a job with all its attempts and children, as the queue would, and return its end."""
        while not has_ended(job):
            if job.waiting.job_id:
                await asyncio.sleep(FOLLOWING_SECONDS)
            if job.waiting.HasField("end_time"):
                left = job.waiting.end_time.ToDatetime(UTC) - datetime.now(UTC)
                await asyncio.sleep(max(0.0, left.total_seconds()))
            async with asyncio.timeout(JOB_SECONDS):
                await self.worker.run_job(job.id)
            for child_id in (await self.record(job.id)).child_job_ids:
                await self.end(await self.record(child_id))
            job = await self.record(job.id)
        return job

    async def record(self, job_id: str) -> Job:
        job = await self.records.get(job_id)
        assert job is not None
        return job

    async def get(self, **request: Any) -> Media:
        answer = await self.media.GetMedia(GetMediaRequest(**request))
        media: Media = answer.media
        return media

    async def manifest(self, media_id: str) -> Manifest:
        """What the bucket says about a stored media item."""
        found = await self.blobs.get(f"media/{media_id}/media.json")
        assert found is not None
        return json_format.Parse(found[0], Manifest())

    async def delete(self, media_id: str) -> None:
        await self.media.DeleteMedia(DeleteMediaRequest(media_id=media_id))

    async def cancel(self, job: Job) -> None:
        await self.jobs.CancelJob(CancelJobRequest(job_id=job.id))

    async def download(self, **request: Any) -> bytes:
        stream = self.media.Download(DownloadRequest(**request))
        return b"".join([part.data async for part in stream])

    async def keys(self, prefix: str = "") -> list[str]:
        """What the bucket holds."""
        return [found.key for found in await self.blobs.list_objects(prefix)]

    async def assert_nothing_is_left(self) -> None:
        """No object and no unfinished upload in the bucket, no file in scratch, no ffmpeg."""
        assert await self.keys("media/") == []
        assert await self.blobs._s3.calls.run(self._unfinished) == []
        await self.assert_idle()

    async def assert_idle(self) -> None:
        """No file of a job in scratch, and no process but the one that waits for the next job.

        On a busy machine the kernel takes a while to end a process that was killed.
        """
        files = {path.name for path in files_below(self.settings.scratch_dir)}
        assert files <= {"lock", "sweep.lock", "authorities.pem"}
        await until(lambda: not self._running(b"ffmpeg", but=b"child_main.py"))
        await until(lambda: len(self._running(b"child_main.py")) <= 1)

    def _running(self, program: bytes, *, but: bytes = b"\n") -> list[bytes]:
        """Return the command lines with `program` and not `but` that began after this harness."""
        began = set(descendants(os.getpid())) - self._older
        commands = map(_command_line, began)
        return [command for command in commands if program in command and but not in command]

    def _unfinished(self) -> list[str]:
        listed = self.blobs._s3.calls.client._list_multipart_uploads(self.blobs.bucket)
        return [str(upload.object_name) for upload in listed.uploads]


@asynccontextmanager
async def running_harness(settings: Settings) -> AsyncIterator[Harness]:
    """Run a Harness on the stores that `settings` name, and remove all of it afterwards."""
    older = frozenset(descendants(os.getpid()))
    worker = Worker(settings.replace(extractor_prewarm=True))
    await worker.start()
    redis = connect(settings)
    records = Records(redis, settings)
    blobs = Blobs(settings)
    journal = JournalWriter(records.journal, blobs)
    feed = Feed(redis, records, settings, restore=journal.restorer.ensure)
    catalog = Catalog(blobs, redis, settings)
    await catalog.start()
    await feed.start()
    queue = Queue(celery_app(settings))
    services = [
        IngestService(
            catalog, records, queue, blobs, feed, Previews(redis, settings), journal, settings
        ),
        MediaService(catalog, blobs, MediaList(catalog, blobs, redis)),
        JobService(
            records,
            CachedJobs(catalog),
            feed,
            Retries(catalog, Intake(catalog, blobs, settings), Admission(records, queue, journal)),
            journal,
            settings,
            OpenWatches(),
        ),
        WebhookService(WebhookDeliveries(redis, settings), settings),
    ]
    server = ApiServer(services, feed, settings, Authentication(settings))
    try:
        with tempfile.TemporaryDirectory(prefix="ingot") as directory:
            address = await server.start(f"unix:{directory}/api")
            async with grpc.aio.insecure_channel(address) as channel:
                harness = Harness(settings, channel, worker, older)
                try:
                    yield harness
                finally:
                    await harness.blobs.close()
                    await harness.redis.aclose()
            await server.stop()
    finally:
        await queue.close()
        await feed.close()
        await catalog.close()
        await blobs.close()
        await redis.aclose()
        await worker.stop()


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
