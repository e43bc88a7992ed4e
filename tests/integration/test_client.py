"""The client with a gRPC server that is interrupted, restarted, slow, or wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest

import ingot
from ingot import Client, Job, JobNotFound, JobPriority, JobState, RemovedJob, SnapshotEnd
from ingot.v1 import reason_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.job_service_pb2 import (
    CancelJobRequest,
    ListJobsRequest,
    WatchJobRequest,
    WatchJobsRequest,
)
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    DeleteMediaRequest,
    DownloadRequest,
    GetMediaRequest,
    ListMediaRequest,
)
from ingot_server.errors import Failure
from tests.scripted_server import (
    JOB_ID,
    MEDIA_ID,
    URL,
    ScriptedServer,
    make_media,
    make_revisions,
    running_scripted_server,
)


@pytest.fixture
async def server() -> AsyncGenerator[ScriptedServer, None]:
    async with running_scripted_server() as server:
        yield server


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncGenerator[Client, None]:
    async with Client(server.target, reconnect_timeout=timedelta(seconds=20)) as client:
        yield client


async def test_an_ingest_is_watched_to_its_media(server: ScriptedServer, client: Client) -> None:
    job = await client.ingest_video(
        URL,
        selection=ingot.Selection(mode=ingot.Selection.MODE_AUDIO_ONLY, max_height=720),
        max_age=timedelta(minutes=1.5),
        priority=JobPriority.JOB_PRIORITY_HIGH,
        labels={"team": "news"},
    )
    revisions = [update.revision async for update in job]

    assert revisions == [1, 2, 3, 4, 5, 6]
    assert await job == make_media()
    assert job.done
    request = server.received(IngestRequest)[0]
    assert (request.url, request.max_age.seconds) == (URL, 90)
    assert request.labels == {"team": "news"}
    assert (request.priority, request.selection.max_height) == (JobPriority.JOB_PRIORITY_HIGH, 720)
    assert len(request.request_id) == 36


async def test_an_ended_job_needs_no_call(server: ScriptedServer, client: Client) -> None:
    server.updates = server.updates[-1:]

    job = await client.ingest_video(URL)

    assert await job == make_media()
    assert [update.state async for update in job] == [JobState.JOB_STATE_SUCCEEDED]
    assert not server.received(WatchJobRequest)


async def test_a_watch_continues_after_a_restart_of_the_server(
    server: ScriptedServer, client: Client
) -> None:
    server.last_revision = 3
    revisions = []

    async for update in await client.ingest_video(URL):
        revisions.append(update.revision)
        if update.revision in {3, 4}:
            await server.stop()
            server.last_revision += 1 if update.revision == 3 else 2
            await server.start()

    assert revisions == [1, 2, 3, 4, 5, 6]
    tokens = [request.resume_token for request in server.received(WatchJobRequest)]
    assert tokens[0] == ""
    assert {"3", "4"} <= set(tokens)


async def test_all_jobs_are_watched_over_a_restart_without_repeats(
    server: ScriptedServer, client: Client
) -> None:
    server.last_revision = 3
    updates: list[Job | RemovedJob | SnapshotEnd] = []

    async for update in client.watch_jobs(labels={"team": "news"}):
        updates.append(update)
        if update == server.updates[2]:
            await server.stop()
            server.last_revision = 6
            await server.start()
        if isinstance(update, RemovedJob):
            break

    first, *others = server.updates
    assert updates == [first, SnapshotEnd(), *others, RemovedJob(JOB_ID)]
    last_request = server.received(WatchJobsRequest)[-1]
    assert last_request.labels == {"team": "news"}
    assert last_request.resume_token == "3"


async def test_a_watch_that_cannot_be_resumed_starts_over(
    server: ScriptedServer, client: Client
) -> None:
    server.last_revision = 3
    expired = Failure(reason_pb2.REASON_RESUME_TOKEN_EXPIRED, "Watch again.")
    revisions = []
    async for update in await client.ingest_video(URL):
        revisions.append(update.revision)
        if update.revision == 3:
            await server.stop()
            server.last_revision = 6
            server.outcomes = [expired]
            await server.start()
    assert revisions == [1, 2, 3, 4, 5, 6]
    assert [each.resume_token for each in server.received(WatchJobRequest)][-2:] == ["3", ""]


async def test_a_job_that_the_server_has_lost_is_requested_again_once(
    server: ScriptedServer, client: Client
) -> None:
    lost = Failure(reason_pb2.REASON_JOB_NOT_FOUND, "There is no such job.")
    job = await client.ingest_video(URL)
    server.outcomes = [lost]
    assert (await job).id == MEDIA_ID
    first, again = server.received(IngestRequest)
    assert first == again

    job = await client.ingest_video(URL)
    server.outcomes = [lost, "respond", lost]
    with pytest.raises(JobNotFound):
        await job
    job = await client.job(job.id)
    server.outcomes = [lost]
    with pytest.raises(JobNotFound):
        await job
    assert len(server.received(IngestRequest)) == 4


async def test_a_watch_fails_if_the_server_does_not_come_back(server: ScriptedServer) -> None:
    server.last_revision = 3
    async with Client(server.target, reconnect_timeout=timedelta(seconds=0.3)) as client:
        job = await client.ingest_video(URL)
        updates = aiter(job)
        assert [(await anext(updates)).revision for _ in range(3)] == [1, 2, 3]
        await server.stop()
        with pytest.raises(ingot.ServiceUnavailable):
            await anext(updates)


@pytest.mark.parametrize(
    ("state", "reason", "kind"),
    [
        (
            JobState.JOB_STATE_FAILED,
            reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
            ingot.MediaDoesNotExist,
        ),
        (JobState.JOB_STATE_FAILED, reason_pb2.REASON_STALLED, ingot.SourceUnavailable),
        (JobState.JOB_STATE_CANCELLED, reason_pb2.REASON_CANCELLED, ingot.JobCancelled),
    ],
)
async def test_awaiting_a_job_raises_what_ended_it(
    server: ScriptedServer,
    client: Client,
    state: JobState.ValueType,
    reason: reason_pb2.Reason.ValueType,
    kind: type[ingot.IngotError],
) -> None:
    failure = Failure(reason, "What happened.")
    server.updates = make_revisions(state, failure.status())

    with pytest.raises(kind, match="What happened"):
        await (await client.ingest_video(URL))


async def test_an_interrupted_ingest_is_repeated_with_the_same_request_id(
    server: ScriptedServer, client: Client
) -> None:
    server.outcomes = [
        Failure(reason_pb2.REASON_SHUTTING_DOWN, "Going down."),
        Failure(reason_pb2.REASON_TOO_MANY_CALLS, "Busy."),
    ]

    await client.ingest_video(URL)

    assert len(server.received(IngestRequest)) == 3
    assert len({request.request_id for request in server.received(IngestRequest)}) == 1


async def test_reads_are_repeated_and_deletions_are_not(
    server: ScriptedServer, client: Client
) -> None:
    unavailable = Failure(reason_pb2.REASON_CACHE_UNAVAILABLE, "No Redis.")

    server.outcomes = [unavailable]
    assert await client.media(URL) == make_media()
    server.outcomes = [unavailable]
    with pytest.raises(ingot.ServiceUnavailable):
        await client.delete_media(MEDIA_ID, etag="1")

    assert len(server.received(GetMediaRequest)) == 2
    assert [request.etag for request in server.received(DeleteMediaRequest)] == ["1"]


async def test_a_call_ends_at_the_timeout(server: ScriptedServer) -> None:
    server.outcomes = ["hang"]
    async with Client(server.target, timeout=timedelta(seconds=0.1)) as client:
        with pytest.raises(ingot.DeadlineExceeded):
            await client.media(URL)


async def test_a_media_item_is_named_by_its_id_or_its_url(
    server: ScriptedServer, client: Client
) -> None:
    await client.media(MEDIA_ID)
    await client.media(URL)
    link = await client.download_url("s3://ingot/media/x", lifetime=timedelta(minutes=1))

    assert [(r.media_id, r.url) for r in server.received(GetMediaRequest)] == [
        (MEDIA_ID, ""),
        ("", URL),
    ]
    assert server.received(CreateDownloadUrlRequest)[0].url == "s3://ingot/media/x"
    assert link.url == "http://store.test/signed"
    server.media = []
    with pytest.raises(ingot.MediaNotFound):
        await client.media(URL)


async def test_lists_yield_all_pages(server: ScriptedServer, client: Client) -> None:
    server.media = [make_media(media_id=f"{number:052}") for number in range(450)]

    assert [media.id async for media in client.list_media()] == [m.id for m in server.media]
    assert len(server.received(ListMediaRequest)) == 3
    states = [JobState.JOB_STATE_FAILED]
    assert [job.id async for job in client.jobs(states=states)] == [JOB_ID]
    assert server.received(ListJobsRequest)[0].states == states


async def test_a_job_is_found_validated_and_cancelled(
    server: ScriptedServer, client: Client
) -> None:
    assert (await client.validate(URL)).url == URL
    assert server.received(IngestRequest)[0].validate_only
    job = await client.job(JOB_ID)
    assert (await client.cancel(JOB_ID)).revision == 6
    assert (await job.cancel()).revision == job.latest.revision == 6
    assert len(server.received(CancelJobRequest)) == 2
    with pytest.raises(ingot.JobNotFound):
        await client.job("another")


async def test_the_client_is_used_within_async_with(server: ScriptedServer) -> None:
    client = Client(server.target, metadata={"authorization": "Bearer secret"})

    with pytest.raises(RuntimeError, match="async with"):
        await client.media(URL)
    assert "secret" not in repr(client)


async def test_the_client_is_connected_and_closed_without_async_with(
    server: ScriptedServer,
) -> None:
    client = Client(server.target)
    assert await client.connect() is client
    assert await client.media(URL) == make_media()
    with pytest.raises(RuntimeError, match="connected already"):
        await client.connect()

    await client.close()
    await client.close()
    with pytest.raises(RuntimeError, match="not connected"):
        await client.media(URL)
    async with client:
        assert await client.media(URL) == make_media()


async def test_a_download_resumes_at_any_offset_and_after_every_interruption(
    server: ScriptedServer, client: Client, tmp_path: Path
) -> None:
    content = server.store(3_000_001)
    there = random.randrange(1, len(content))
    path = tmp_path / "clip.mp4"
    path.with_name("clip.mp4.part").write_bytes(content[:there])
    server.cut_after_bytes = [0, 100_000, 400_000]
    seen: list[int] = []

    media = await client.download(URL, path, progress=lambda done, total: seen.append(done))

    assert media == server.media[0]
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (there, len(content))
    requests = server.received(DownloadRequest)
    assert requests[0].offset == requests[1].offset == there
    assert {request.sha256 for request in requests} == {media.blob.sha256}


@pytest.mark.parametrize("there", [1000, 300_000, 300_001])
async def test_a_part_of_another_file_is_discarded(
    server: ScriptedServer, client: Client, tmp_path: Path, there: int
) -> None:
    content = server.store(300_000)
    (tmp_path / "clip.mp4.part").write_bytes(b"x" * there)

    await client.download(URL, tmp_path / "clip.mp4")

    assert (tmp_path / "clip.mp4").read_bytes() == content


async def test_a_damaged_file_never_gets_its_name(
    server: ScriptedServer, client: Client, tmp_path: Path
) -> None:
    server.content = b"CONTENT"

    with pytest.raises(ingot.ChecksumMismatch):
        await client.download(URL, tmp_path / "clip.mp4")

    assert not list(tmp_path.iterdir())


async def test_media_replaced_during_a_download_is_downloaded_again(
    server: ScriptedServer, client: Client, tmp_path: Path
) -> None:
    content = server.store(1000)
    (tmp_path / "clip.mp4.part").write_bytes(b"the old content")
    server.outcomes = ["respond", Failure(reason_pb2.REASON_ETAG_MISMATCH, "Another content.")]

    await client.download(URL, tmp_path / "clip.mp4")

    assert (tmp_path / "clip.mp4").read_bytes() == content
    assert len(server.received(GetMediaRequest)) == 2


async def test_a_download_that_never_began_leaves_nothing(
    server: ScriptedServer, client: Client, tmp_path: Path
) -> None:
    server.outcomes = ["respond", Failure(reason_pb2.REASON_MEDIA_NOT_FOUND, "Deleted meanwhile.")]

    with pytest.raises(ingot.MediaNotFound):
        await client.download(URL, tmp_path / "clip.mp4")

    assert not list(tmp_path.iterdir())


async def test_a_cancelled_download_keeps_what_it_has(
    server: ScriptedServer, client: Client, tmp_path: Path
) -> None:
    content = server.store(3_000_000)
    server.cut_after_bytes = [1_500_000, *[0] * 1000]
    enough = asyncio.Event()

    def progress(done: int, total: int) -> None:
        if done == 1_500_000:
            enough.set()

    task = asyncio.create_task(client.download(URL, tmp_path / "clip", progress=progress))
    await enough.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (tmp_path / "clip.part").read_bytes() == content[:1_500_000]
