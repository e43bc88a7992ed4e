"""The client with the API server of production; the tests play the worker."""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import ingot
from ingot import Client, Job, JobStage, JobState, Media, SnapshotEnd
from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.jobs.records import Records
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.redis import connect

pytestmark = pytest.mark.any_stores

URL = "http://127.0.0.1/clip.mp4"
CONTENT = random.randbytes(900_001)


class Worker:
    """The part of a worker: claims jobs, writes their records and commits media."""

    def __init__(self, records: Records, blobs: Blobs, catalog: Catalog) -> None:
        self._records = records
        self._blobs = blobs
        self._catalog = catalog

    async def claim(self, job_id: str) -> tuple[Job, str]:
        claim = await self._records.claim(job_id)
        assert claim is not None
        return claim.job, claim.token

    async def enter(self, job: Job, token: str, stage: JobStage.ValueType) -> Job:
        job.stage = stage
        return await self._records.write(job, token)

    async def succeed(self, job: Job, token: str) -> Job:
        media = Media()
        media.CopyFrom(job.media)
        key = f"media/{media.id}/1.mp4"
        await self._blobs.put(key, CONTENT, content_type="video/mp4")
        media.title = "Clip"
        media.duration.FromSeconds(2)
        media.create_time.GetCurrentTime()
        media.blob.url = self._blobs.url(key)
        media.blob.size_bytes = len(CONTENT)
        media.blob.content_type = "video/mp4"
        media.blob.sha256 = hashlib.sha256(CONTENT).hexdigest()
        job.media.CopyFrom((await self._catalog.commit(Manifest(media=media))).media)
        job.state = JobState.JOB_STATE_SUCCEEDED
        return await self._records.write(job, token)


class Server:
    """The API server on one address, which can be stopped and started."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._running = AsyncExitStack()

    async def start(self) -> None:
        await self._running.enter_async_context(running(self.settings))

    async def stop(self) -> None:
        await self._running.aclose()


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory(prefix="ingot-") as directory:
        server = Server(settings.replace(grpc_address=f"unix:{directory}/api"))
        await server.start()
        yield server
        await server.stop()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with Client(server.settings.grpc_address) as client:
        yield client


@pytest.fixture
async def worker(server: Server) -> AsyncIterator[Worker]:
    async with _worker(server.settings) as worker:
        yield worker


@asynccontextmanager
async def _worker(settings: Settings) -> AsyncIterator[Worker]:
    connections = connect(settings)
    blobs = Blobs(settings)
    catalog = Catalog(blobs, connections, settings)
    await catalog.start()
    yield Worker(Records(connections, settings), blobs, catalog)
    await catalog.close()
    await blobs.close()
    await connections.aclose()


async def test_a_job_is_watched_to_its_end_across_a_restart_of_the_server(
    server: Server, client: Client, worker: Worker, tmp_path: Path
) -> None:
    job = await client.ingest_video(URL, labels={"team": "news"})
    updates = aiter(job)
    seen = [await anext(updates)]

    state, token = await worker.claim(job.id)
    state = await worker.enter(state, token, JobStage.JOB_STAGE_DOWNLOADING)
    while seen[-1].stage != JobStage.JOB_STAGE_DOWNLOADING:
        seen.append(await anext(updates))
    await server.stop()
    state = await worker.enter(state, token, JobStage.JOB_STAGE_PROBING)
    await server.start()
    seen.append(await anext(updates))
    await worker.succeed(state, token)
    seen += [update async for update in updates]

    revisions = [update.revision for update in seen]
    assert revisions == sorted(set(revisions))
    assert JobStage.JOB_STAGE_PROBING in {update.stage for update in seen}
    assert seen[-1].state == JobState.JOB_STATE_SUCCEEDED
    media = await job
    assert media.title == "Clip"
    assert (await client.ingest_video(URL)).latest.cached
    assert (await client.media(URL)).blob == (await client.media(media.id)).blob == media.blob

    path = tmp_path / "clip.mp4"
    path.with_name("clip.mp4.part").write_bytes(CONTENT[: random.randrange(len(CONTENT))])
    await client.download(URL, path)
    assert path.read_bytes() == CONTENT


async def test_stored_media_is_listed_linked_updated_and_deleted(
    client: Client, worker: Worker
) -> None:
    job = await client.ingest_video(URL)
    await worker.succeed(*await worker.claim(job.id))
    media = await job

    assert [found.id async for found in client.list_media()] == [media.id]
    assert media.id in (await client.download_url(media.id, lifetime=timedelta(minutes=1))).url
    renamed = await client.update_media(URL, title="A bell", etag=(await client.media(URL)).etag)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert (await client.update_media(URL, expire_time=tomorrow)).HasField("expire_time")
    renamed = await client.update_media(URL, expire_time="never")
    assert not renamed.HasField("expire_time")
    assert (renamed.title, renamed.labels) == ("A bell", media.labels)
    with pytest.raises(ingot.Conflict):
        await client.delete_media(media.id, etag="another")
    await client.delete_media(media.id)
    with pytest.raises(ingot.MediaNotFound):
        await client.media(URL)


async def test_a_cancelled_job_raises_for_all_who_wait(client: Client) -> None:
    job = await client.ingest_video(URL, labels={"team": "news"})
    shared = await client.ingest_video(URL)

    assert shared.id == job.id
    assert [found.id async for found in client.jobs(labels={"team": "news"})] == [job.id]
    assert (await client.cancel(job.id)).state == JobState.JOB_STATE_CANCELLED
    for waiting in (job, shared, await client.job(job.id)):
        with pytest.raises(ingot.JobCancelled):
            await waiting


async def test_all_jobs_are_watched_from_now_on(client: Client) -> None:
    first = await client.ingest_video(URL)
    updates = client.watch_jobs()
    assert await anext(updates) == first.latest
    assert isinstance(await anext(updates), SnapshotEnd)
    second = await client.ingest_video(URL + "?second")
    assert await anext(updates) == second.latest
    await updates.aclose()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("", ingot.InvalidRequest),
        ("clip.mp4", ingot.InvalidRequest),
        ("file:///etc/passwd", ingot.UnsupportedUrl),
        ("http://10.0.0.1/", ingot.AddressForbidden),
    ],
)
async def test_a_url_that_is_refused_raises_its_own_exception(
    client: Client, url: str, kind: type[ingot.IngotError]
) -> None:
    for call in (client.validate, client.ingest_video):
        with pytest.raises(kind) as refused:
            await call(url)
        assert type(refused.value) is kind
        assert refused.value.message


async def test_unknown_ids_are_not_found(client: Client) -> None:
    with pytest.raises(ingot.MediaNotFound):
        await client.media("a" * 52)
    with pytest.raises(ingot.JobNotFound):
        await client.job("a" * 26)
    with pytest.raises(ingot.JobNotFound):
        await client.cancel("a" * 26)
