"""The API over a real gRPC connection, on real Redis and S3; a test does the worker's part."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest, IngestResponse
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from ingot.v1.media_pb2 import Media
from ingot.v1.media_service_pb2_grpc import MediaServiceStub
from ingot_server.api.admission import Admission
from ingot_server.api.authentication import Authentication
from ingot_server.api.cached_jobs import CachedJobs
from ingot_server.api.grpc_server import ApiServer
from ingot_server.api.ingest_service import IngestService
from ingot_server.api.job_service import JobService
from ingot_server.api.media_service import MediaService
from ingot_server.api.open_watches import OpenWatches
from ingot_server.api.retries import Retries
from ingot_server.config import Settings
from ingot_server.intake import Intake
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.previews import Previews
from ingot_server.jobs.queue import Queue, celery_app
from ingot_server.jobs.records import Records
from ingot_server.journal.writer import JournalWriter
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.identity import canonical_selection, media_id
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.media_list import MediaList
from ingot_server.redis import connect
from ingot_server.sources import pick

URL = "http://127.0.0.1/clip.mp4"
CONTENT = bytes(range(256)) * 3000


@dataclass
class Api:
    """A running server, the stores behind it, and stubs to call it."""

    address: str
    server: ApiServer
    records: Records
    catalog: Catalog
    blobs: Blobs
    settings: Settings
    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.ingest: Any = IngestServiceStub(self.channel)
        self.jobs: Any = JobServiceStub(self.channel)
        self.media: Any = MediaServiceStub(self.channel)

    async def store(self, url: str = URL, content: bytes = CONTENT) -> Media:
        """Commit media as a worker does."""
        _, identity = pick(url)
        media = Media(url=identity.url, title="A clip", labels={"made": "here"})
        media.selection.CopyFrom(canonical_selection(media.selection))
        media.id = media_id(identity.key, media.selection)
        media.source.name = identity.source
        media.source.key = identity.key
        media.source.page_url = identity.page_url
        media.duration.FromSeconds(1)
        media.create_time.GetCurrentTime()
        key = f"media/{media.id}/1.mp4"
        await self.blobs.put(key, content, content_type="video/mp4")
        media.blob.url = self.blobs.url(key)
        media.blob.size_bytes = len(content)
        media.blob.content_type = "video/mp4"
        media.blob.sha256 = hashlib.sha256(content).hexdigest()
        return (await self.catalog.commit(Manifest(media=media))).media

    async def submit(self, url: str = URL, **fields: Any) -> Job:
        response: IngestResponse = await self.ingest.Ingest(IngestRequest(url=url, **fields))
        return response.job

    async def claim(self, job: Job, stage: job_pb2.JobStage.ValueType) -> tuple[Job, str]:
        """Takes the job as a worker does, up to a stage."""
        claim = await self.records.claim(job.id)
        assert claim is not None
        running, token = claim.job, claim.token
        running.stage = stage
        return await self.records.write(running, token), token


@asynccontextmanager
async def serving(
    settings: Settings, media_service: type[MediaService] = MediaService
) -> AsyncIterator[Api]:
    store = connect(settings)
    records = Records(store, settings)
    blobs = Blobs(settings)
    journal = JournalWriter(records.journal, blobs)
    feed = Feed(store, records, settings, restore=journal.restorer.ensure)
    catalog = Catalog(blobs, store, settings)
    await blobs.prepare()
    await catalog.start()
    await feed.start()
    queue = Queue(celery_app(settings))
    server = ApiServer(
        [
            IngestService(
                catalog, records, queue, blobs, feed, Previews(store, settings), journal, settings
            ),
            media_service(catalog, blobs, MediaList(catalog, blobs, store)),
            JobService(
                records,
                CachedJobs(catalog),
                feed,
                Retries(
                    catalog,
                    Intake(catalog, blobs, settings),
                    Admission(records, queue, journal),
                ),
                journal,
                settings,
                OpenWatches(),
            ),
        ],
        feed,
        settings,
        Authentication(settings),
    )
    try:
        with tempfile.TemporaryDirectory(prefix="ingot") as directory:
            address = await server.start(f"unix:{directory}/api")
            async with grpc.aio.insecure_channel(address) as channel:
                yield Api(address, server, records, catalog, blobs, settings, channel)
    finally:
        await server.stop()
        await queue.close()
        await catalog.close()
        await blobs.close()
        await store.aclose()


def media_key(url: str = URL) -> str:
    return media_id(pick(url)[1].key, canonical_selection(Media().selection))
