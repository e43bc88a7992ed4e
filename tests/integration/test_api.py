"""The API over a real gRPC connection, on real Redis and S3; these tests do the worker's part."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import tempfile
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import redis.asyncio
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest, IngestResponse
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import (
    CancelJobRequest,
    GetJobRequest,
    ListJobsRequest,
    WatchJobRequest,
    WatchJobsRequest,
)
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from ingot.v1.media_pb2 import Media
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    DeleteMediaRequest,
    DownloadRequest,
    GetMediaRequest,
    GetMediaResponse,
    ListMediaRequest,
)
from ingot.v1.media_service_pb2_grpc import MediaServiceStub
from ingot_server.api.caller import Caller
from ingot_server.api.ingest import IngestService
from ingot_server.api.job import JobService
from ingot_server.api.media import MediaService
from ingot_server.api.server import ApiServer
from ingot_server.config import SettingError, Settings
from ingot_server.errors import Failure, reason_name
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.queue import Queue, celery_app
from ingot_server.jobs.records import Records
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.identity import canonical_selection, media_id
from ingot_server.sources import pick

URL = "http://127.0.0.1/clip.mp4"
SERVICES = ("ingot.v1.IngestService", "ingot.v1.JobService", "ingot.v1.MediaService")
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
        """Commits a media as a worker does."""
        _, identity = pick(url)
        media = Media(url=identity.url, title="A clip", labels={"made": "here"})
        media.selection.CopyFrom(canonical_selection(media.selection))
        media.id = media_id(identity.key, media.selection)
        media.source.name = identity.source
        media.source.key = identity.key
        media.source.page_url = identity.page_url
        media.duration.FromSeconds(1)
        media.create_time.GetCurrentTime()
        media.freshness.validate_time.GetCurrentTime()
        key = f"media/{media.id}/1.mp4"
        await self.blobs.put(key, content, content_type="video/mp4")
        media.blob.url = self.blobs.url(key)
        media.blob.size_bytes = len(content)
        media.blob.content_type = "video/mp4"
        media.blob.sha256 = hashlib.sha256(content).hexdigest()
        return await self.catalog.commit(media)

    async def submit(self, url: str = URL, **fields: Any) -> Job:
        response: IngestResponse = await self.ingest.Ingest(IngestRequest(url=url, **fields))
        return response.job

    async def claim(self, job: Job, stage: job_pb2.JobStage.ValueType) -> tuple[Job, str]:
        """Takes the job as a worker does, up to a stage."""
        claimed = await self.records.claim(job.id)
        assert claimed is not None
        running, token = claimed
        running.stage = stage
        return await self.records.write(running, token), token


@asynccontextmanager
async def serving(
    settings: Settings, media_service: type[MediaService] = MediaService
) -> AsyncIterator[Api]:
    # A thousand callers wait for a connection in turn; redis-py's usual pool refuses the 101st.
    store = redis.asyncio.Redis.from_pool(
        redis.asyncio.BlockingConnectionPool.from_url(settings.redis_url, max_connections=32)
    )
    records = Records(store, settings)
    feed = Feed(store, records, settings)
    blobs = Blobs(settings)
    catalog = Catalog(blobs, store, settings)
    await blobs.prepare()
    await catalog.start()
    await feed.start()
    queue = Queue(celery_app(settings))
    server = ApiServer(
        [
            IngestService(catalog, records, queue, blobs, settings),
            media_service(catalog, blobs),
            JobService(records, feed, settings),
        ],
        feed,
        settings,
    )
    with tempfile.TemporaryDirectory(prefix="ingot") as directory:
        address = await server.start(f"unix:{directory}/api")
        async with grpc.aio.insecure_channel(address) as channel:
            yield Api(address, server, records, catalog, blobs, settings, channel)
        await server.stop()
    await queue.close()
    await catalog.close()
    await blobs.close()
    await store.aclose()


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    async with serving(settings) as running:
        yield running


@dataclass
class Refusal:
    """What a caller learns from an error."""

    code: grpc.StatusCode
    reason: str
    message: str
    fields: set[str]


def refusal(error: grpc.aio.AioRpcError) -> Refusal:
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    status = Status.FromString(details)
    assert error.code().value[0] == status.code
    assert error.details() == status.message
    bad = BadRequest()
    fields = [v.field for d in status.details if d.Unpack(bad) for v in bad.field_violations]
    reason = reason_name(Failure.from_status(status).reason)
    return Refusal(error.code(), reason, status.message, set(fields))


async def rest(stream: Any) -> list[Any]:
    """What is left of a stream that `read` may have begun."""
    responses = []
    while (response := await stream.read()) is not grpc.aio.EOF:
        responses.append(response)
    return responses


async def refused(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (rest(call) if hasattr(call, "read") else call)
    return refusal(caught.value)


def media_key(url: str = URL) -> str:
    return media_id(pick(url)[1].key, canonical_selection(Media().selection))


BAD_INPUT: list[tuple[str, Message, str, str]] = [
    ("Ingest", IngestRequest(), "INVALID_REQUEST", "url"),
    ("Ingest", IngestRequest(url="http://a/" + "x" * 10_000), "INVALID_REQUEST", "url"),
    ("Ingest", IngestRequest(url="example.com/clip.mp4"), "INVALID_REQUEST", "url"),
    ("Ingest", IngestRequest(url="http://a/\x01"), "INVALID_REQUEST", "url"),
    ("Ingest", IngestRequest(url="http://me:pw@example.com/"), "INVALID_REQUEST", "url"),
    ("Ingest", IngestRequest(url="file:///etc/passwd"), "UNSUPPORTED_URL", "url"),
    ("Ingest", IngestRequest(url="ftp://example.com/a"), "UNSUPPORTED_URL", "url"),
    ("Ingest", IngestRequest(url="javascript:alert(1)"), "UNSUPPORTED_URL", "url"),
    ("Ingest", IngestRequest(url=URL, request_id="?"), "INVALID_REQUEST", "request_id"),
    (
        "Ingest",
        IngestRequest(url=URL, max_age=Duration(seconds=1 << 60)),
        "INVALID_REQUEST",
        "max_age",
    ),
    ("GetMedia", GetMediaRequest(), "INVALID_REQUEST", "name"),
    ("GetMedia", GetMediaRequest(url="file:///etc/passwd"), "UNSUPPORTED_URL", "url"),
    ("ListMedia", ListMediaRequest(page_size=-1), "INVALID_REQUEST", "page_size"),
    ("ListMedia", ListMediaRequest(page_token="x"), "INVALID_REQUEST", "page_token"),
    ("ListJobs", ListJobsRequest(page_token="x"), "INVALID_REQUEST", "page_token"),
    ("Download", DownloadRequest(media_id="a", offset=-1), "INVALID_REQUEST", "offset"),
    ("WatchJob", WatchJobRequest(), "INVALID_REQUEST", "job_id"),
    (
        "CreateDownloadUrl",
        CreateDownloadUrlRequest(media_id="a", filename="../a"),
        "INVALID_REQUEST",
        "filename",
    ),
]


async def test_bad_input_is_told_by_field(api: Api) -> None:
    for method, request, reason, field in BAD_INPUT:
        stub = next(s for s in (api.ingest, api.media, api.jobs) if hasattr(s, method))
        found = await refused(getattr(stub, method)(request))
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason), request
        assert field in found.fields, request
        assert len(found.message) > 20


async def test_what_is_no_request_is_refused_every_time(api: Api) -> None:
    for _ in range(2):
        for path in ("MediaService/GetMedia", "IngestService/Ingest", "JobService/CancelJob"):
            call: Any = api.channel.unary_unary(f"/ingot.v1.{path}")
            found = await refused(call(b"\xff\xff"))
            assert found.code is grpc.StatusCode.INVALID_ARGUMENT, path
            assert found.reason == "INVALID_REQUEST", path
        watch: Any = api.channel.unary_stream("/ingot.v1.JobService/WatchJob")
        found = await refused(watch(b"\xff"))
        assert found.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_forbidden_address_is_refused_before_any_job(api: Api) -> None:
    for host in ("10.0.0.1", "169.254.169.254", "[::ffff:10.0.0.1]", "0xa.1"):
        found = await refused(api.ingest.Ingest(IngestRequest(url=f"http://{host}/")))
        assert (found.code, found.reason) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "ADDRESS_FORBIDDEN",
        )
    assert not (await api.jobs.ListJobs(ListJobsRequest())).jobs


async def test_what_is_unknown_is_not_found(api: Api) -> None:
    unknown = "a" * 52
    calls = {
        "MEDIA_NOT_FOUND": [
            api.media.GetMedia(GetMediaRequest(media_id=unknown)),
            api.media.GetMedia(GetMediaRequest(media_id="../../etc")),
            api.media.GetMedia(GetMediaRequest(url=URL)),
            api.media.DeleteMedia(DeleteMediaRequest(media_id=unknown)),
            api.media.DeleteMedia(DeleteMediaRequest(media_id="..")),
            api.media.Download(DownloadRequest(media_id=unknown)),
            api.media.CreateDownloadUrl(CreateDownloadUrlRequest(url=URL)),
        ],
        "JOB_NOT_FOUND": [
            api.jobs.GetJob(GetJobRequest(job_id="nothing")),
            api.jobs.CancelJob(CancelJobRequest(job_id="nothing")),
            api.jobs.WatchJob(WatchJobRequest(job_id="nothing")),
            api.jobs.WatchJob(WatchJobRequest(job_id="nothing", after_revision=7)),
        ],
    }
    for reason, each in calls.items():
        for call in each:
            found = await refused(call)
            assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, reason)


async def test_a_new_url_becomes_a_queued_job(api: Api) -> None:
    job = await api.submit(
        "HTTP://127.0.0.1:80/clip.mp4#t=3", labels={"team": "x"}, selection={"max_height": 720}
    )
    assert (job.kind, job.state) == (job_pb2.JOB_KIND_INGEST, job_pb2.JOB_STATE_QUEUED)
    assert (job.url, job.media.url, job.media.source.name) == (URL, URL, "http")
    assert job.labels == {"team": "x"}
    assert job.selection.max_height == 720
    assert not job.cached
    assert (await api.jobs.GetJob(GetJobRequest(job_id=job.id))).job == job


async def test_a_bots_file_is_taken_though_its_url_has_no_host(api: Api) -> None:
    url = "telegram://video/BAACAgIAAxkBAAIBQ2Fd"
    job = await api.submit(url, validate_only=True)
    assert (job.url, job.media.source.name) == (url, "telegram")


async def test_validate_only_has_no_effect(api: Api) -> None:
    job = await api.submit(validate_only=True, request_id="once", labels={"a": "b"})
    assert (job.id, job.state, job.url) == ("", job_pb2.JOB_STATE_UNSPECIFIED, URL)
    assert (job.media.id, job.media.source.key) == (media_key(), f"http:{URL}")
    assert not (await api.jobs.ListJobs(ListJobsRequest())).jobs
    assert (await api.submit(request_id="once")).id


async def test_a_thousand_callers_get_one_job(api: Api) -> None:
    channels = [
        grpc.aio.insecure_channel(api.address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(4)
    ]
    stubs: list[Any] = [IngestServiceStub(channel) for channel in channels]
    answers = await asyncio.gather(
        *(stubs[n % 4].Ingest(IngestRequest(url=URL)) for n in range(1000))
    )
    assert len({answer.job.id for answer in answers}) == 1
    assert len(await api.records.list(limit=10)) == 1
    media = await api.store()
    running, token = await api.claim(answers[0].job, job_pb2.JOB_STAGE_COMMITTING)
    running.state = job_pb2.JOB_STATE_SUCCEEDED
    await api.records.write(running, token)
    answers = await asyncio.gather(
        *(stubs[n % 4].Ingest(IngestRequest(url=URL)) for n in range(100))
    )
    assert all(answer.job.cached and answer.job.media == media for answer in answers)
    await asyncio.gather(*(channel.close() for channel in channels))


async def test_what_is_stored_answers_until_it_is_too_old(api: Api) -> None:
    media = await api.store()
    cached = await api.submit()
    assert (cached.state, cached.cached, cached.media) == (
        job_pb2.JOB_STATE_SUCCEEDED,
        True,
        media,
    )
    assert cached.id
    assert cached.HasField("end_time")
    assert (await api.submit(max_age={"seconds": 3600})).cached
    assert (await api.submit(max_age={"seconds": 0})).state == job_pb2.JOB_STATE_QUEUED


async def test_what_does_not_exist_is_remembered_within_max_age(api: Api) -> None:
    await api.catalog.remember_absence(
        media_key(), Failure(reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, "The source says 404.")
    )
    for call in (
        api.ingest.Ingest(IngestRequest(url=URL)),
        api.media.GetMedia(GetMediaRequest(url=URL)),
    ):
        found = await refused(call)
        assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "MEDIA_DOES_NOT_EXIST")
    await asyncio.sleep(0.01)
    assert (await api.submit(max_age={"seconds": 0})).state == job_pb2.JOB_STATE_QUEUED


async def test_a_request_id_makes_a_retry_safe(api: Api) -> None:
    first = await api.submit(request_id="r-1")
    await api.jobs.CancelJob(CancelJobRequest(job_id=first.id))
    assert (await api.submit(request_id="r-1")).id == first.id
    assert (await api.submit()).id != first.id
    found = await refused(
        api.ingest.Ingest(IngestRequest(url=URL, request_id="r-1", labels={"a": "b"}))
    )
    assert (found.code, found.reason) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_REUSED",
    )


async def test_a_request_id_answers_with_its_job_though_the_media_is_known_not_to_exist(
    api: Api,
) -> None:
    first = await api.submit(request_id="r-2")
    failure = Failure(reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, "The source says 404.")
    await api.catalog.remember_absence(media_key(), failure)

    assert (await api.submit(request_id="r-2")).id == first.id


async def test_a_source_that_refused_leaves_the_media_merely_not_found(api: Api) -> None:
    await api.catalog.remember_absence(
        media_key(), Failure(reason_pb2.REASON_PRIVATE, "The source says 403.")
    )

    found = await refused(api.media.GetMedia(GetMediaRequest(url=URL)))

    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "MEDIA_NOT_FOUND")


async def test_a_job_that_cannot_be_queued_is_reported_and_not_left_behind(
    settings: Settings,
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        broker = f"redis://127.0.0.1:{unused.getsockname()[1]}/0"
        async with serving(settings.replace(broker_url=broker)) as api:
            for _ in range(2):
                found = await refused(api.ingest.Ingest(IngestRequest(url=URL), timeout=10))
                assert (found.code, found.reason) == (
                    grpc.StatusCode.UNAVAILABLE,
                    "QUEUE_UNAVAILABLE",
                )
            jobs = await api.records.list(limit=10)
            assert {job.state for job in jobs} <= {job_pb2.JOB_STATE_FAILED}
            assert not await api.records.overdue(10)


async def test_media_are_read_by_any_of_their_names(api: Api) -> None:
    media = await api.store()
    assert media.etag
    for request in (
        GetMediaRequest(media_id=media.id),
        GetMediaRequest(url="http://127.0.0.1:80/./clip.mp4"),
        GetMediaRequest(url=media.blob.url),
    ):
        for _ in range(2):
            assert (await api.media.GetMedia(request)).media == media


async def test_media_are_listed_page_by_page(api: Api) -> None:
    stored = {(await api.store(f"http://127.0.0.1/{n}.mp4", b"x")).id for n in range(5)}
    found: list[str] = []
    request = ListMediaRequest(page_size=2)
    while True:
        response = await api.media.ListMedia(request)
        assert len(response.media) <= 2
        found += [media.id for media in response.media]
        if not response.next_page_token:
            break
        request.page_token = response.next_page_token
    assert found == sorted(stored)


async def test_jobs_are_listed_latest_first_and_filtered(api: Api) -> None:
    jobs = [
        await api.submit(f"http://127.0.0.1/{n}.mp4", labels={"odd": str(n % 2)}) for n in range(5)
    ]
    first = await api.jobs.ListJobs(ListJobsRequest(page_size=2, labels={"odd": "0"}))
    assert [job.id for job in first.jobs] == [jobs[4].id, jobs[2].id]
    rest = ListJobsRequest(page_token=first.next_page_token, labels={"odd": "0"})
    assert [job.id for job in (await api.jobs.ListJobs(rest)).jobs] == [jobs[0].id]
    other = ListJobsRequest(page_token=first.next_page_token, labels={"odd": "1"})
    assert (await refused(api.jobs.ListJobs(other))).fields == {"page_token"}
    running = ListJobsRequest(states=[job_pb2.JOB_STATE_RUNNING])
    assert not (await api.jobs.ListJobs(running)).jobs


async def download(api: Api, **fields: Any) -> bytes:
    content = b""
    offset = fields.get("offset", 0)
    async for response in api.media.Download(DownloadRequest(url=URL, **fields)):
        assert response.offset == offset + len(content)
        assert 0 < len(response.data) <= 256 << 10
        content += response.data
    return content


async def test_a_download_is_resumed_where_it_broke(api: Api) -> None:
    media = await api.store()
    size = len(CONTENT)
    assert await download(api) == CONTENT
    assert await download(api, offset=300_000, sha256=media.blob.sha256) == CONTENT[300_000:]
    assert await download(api, offset=5, limit=7) == CONTENT[5:12]
    assert await download(api, offset=size - 1, limit=1 << 62) == CONTENT[-1:]
    assert await download(api, offset=size) == b""
    past = await refused(api.media.Download(DownloadRequest(url=URL, offset=size + 1)))
    assert (past.code, past.fields) == (grpc.StatusCode.OUT_OF_RANGE, {"offset"})
    other = await refused(api.media.Download(DownloadRequest(url=URL, sha256="0" * 64)))
    assert (other.code, other.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")


async def test_a_download_url_works_for_anybody(api: Api) -> None:
    await api.store()
    response = await api.media.CreateDownloadUrl(
        CreateDownloadUrlRequest(url=URL, lifetime=Duration(seconds=60))
    )

    def fetch() -> tuple[bytes, str]:
        with urllib.request.urlopen(response.url) as answer:
            return answer.read(), answer.headers["Content-Disposition"]

    content, disposition = await asyncio.to_thread(fetch)
    assert content == CONTENT
    assert "A clip.mp4" in urllib.parse.unquote(disposition)
    assert response.HasField("expire_time")


async def test_a_deletion_is_guarded_by_the_etag(api: Api) -> None:
    media = await api.store()
    found = await refused(
        api.media.DeleteMedia(DeleteMediaRequest(media_id=media.id, etag="other"))
    )
    assert (found.code, found.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    await api.media.DeleteMedia(DeleteMediaRequest(media_id=media.id, etag=media.etag))
    found = await refused(api.media.GetMedia(GetMediaRequest(media_id=media.id)))
    assert found.reason == "MEDIA_NOT_FOUND"


async def test_a_watch_follows_a_job_to_its_end(api: Api) -> None:
    job = await api.submit()
    watch = api.jobs.WatchJob(WatchJobRequest(job_id=job.id))
    assert (await watch.read()).job == job
    every = api.jobs.WatchJobs(WatchJobsRequest())
    assert (await every.read()).job == job
    running, token = await api.claim(job, job_pb2.JOB_STAGE_DOWNLOADING)
    running.state = job_pb2.JOB_STATE_SUCCEEDED
    final = await api.records.write(running, token)
    seen = [response.job for response in await rest(watch)]
    assert [update.revision for update in seen] == sorted({update.revision for update in seen})
    assert seen[-1] == final
    while (await every.read()).job != final:
        pass
    every.cancel()
    again = api.jobs.WatchJob(WatchJobRequest(job_id=job.id))
    assert [response.job for response in await rest(again)] == [final]


async def first_update(api: Api, job: Job) -> None:
    """Watches again until the server has noticed that the watch before is over."""
    while True:
        try:
            await api.jobs.WatchJob(WatchJobRequest(job_id=job.id)).read()
        except grpc.aio.AioRpcError as error:
            if refusal(error).reason != "TOO_MANY_WATCHES":
                raise
        else:
            return


async def test_watches_are_limited_and_end_with_their_deadline(settings: Settings) -> None:
    async with serving(settings.replace(watches_per_caller=1)) as api:
        job = await api.submit()
        watch = api.jobs.WatchJob(WatchJobRequest(job_id=job.id), timeout=0.5)
        await watch.read()
        found = await refused(api.jobs.WatchJobs(WatchJobsRequest()))
        assert (found.code, found.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "TOO_MANY_WATCHES",
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(first_update(api, job), timeout=5)


async def test_cancel_stops_a_job_unless_it_has_ended(api: Api) -> None:
    job = await api.submit()
    cancelled = (await api.jobs.CancelJob(CancelJobRequest(job_id=job.id))).job
    assert cancelled.state == job_pb2.JOB_STATE_CANCELLED
    assert reason_name(Failure.from_status(cancelled.error).reason) == "CANCELLED"
    assert (await api.jobs.CancelJob(CancelJobRequest(job_id=job.id))).job == cancelled


async def test_cancel_waits_for_a_job_that_commits(api: Api) -> None:
    job = await api.submit()
    running, token = await api.claim(job, job_pb2.JOB_STAGE_COMMITTING)
    cancelling = asyncio.ensure_future(api.jobs.CancelJob(CancelJobRequest(job_id=job.id)))
    done, _ = await asyncio.wait([cancelling], timeout=0.1)
    assert not done
    running.state = job_pb2.JOB_STATE_SUCCEEDED
    final = await api.records.write(running, token)
    assert (await cancelling).job == final


async def test_health_knows_every_service(api: Api) -> None:
    health: Any = health_pb2_grpc.HealthStub(api.channel)
    for name in ("", *SERVICES):
        response = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert response.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_tells_the_whole_contract(api: Api, version: str) -> None:
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        *(
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
            for symbol in (*SERVICES, "ingot.v1.JobService.WatchJob", "google.rpc.ErrorInfo")
        ),
        reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="ingot.v1.JobService.Nothing"
        ),
    ]
    call = api.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(iter(requests))
    listed, *files, unknown = [response async for response in call]
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert {service.name for service in listed.list_services_response.service} >= set(SERVICES)
    for response in files:
        described = [
            FileDescriptorProto.FromString(content)
            for content in response.file_descriptor_response.file_descriptor_proto
        ]
        assert {name for file in described for name in file.dependency} <= {
            file.name for file in described
        }
        assert described


async def test_draining_ends_every_stream_and_says_why(settings: Settings) -> None:
    async with serving(settings) as api:
        job = await api.submit()
        health: Any = health_pb2_grpc.HealthStub(api.channel)
        ready = health.Watch(health_pb2.HealthCheckRequest())
        assert (await ready.read()).status == health_pb2.HealthCheckResponse.SERVING
        watches = [
            api.jobs.WatchJob(WatchJobRequest(job_id=job.id)),
            api.jobs.WatchJobs(WatchJobsRequest()),
        ]
        for watch in watches:
            await watch.read()
        stopping = asyncio.create_task(api.server.stop())
        assert (await ready.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for watch in watches:
            found = await refused(watch)
            assert (found.code, found.reason) == (
                grpc.StatusCode.UNAVAILABLE,
                "SHUTTING_DOWN",
            )
        async with asyncio.timeout(settings.shutdown_timeout.total_seconds() / 2):
            await stopping


class Broken(MediaService):
    """A service with a defect."""

    async def get_media(self, request: GetMediaRequest, _: Caller) -> GetMediaResponse:
        raise KeyError(f"secret {request.media_id}")


async def test_a_defect_is_told_without_internals(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(settings, Broken) as api:
        found = await refused(api.media.GetMedia(GetMediaRequest(media_id="abc")))
        assert (found.code, found.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert "secret" not in found.message
        (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
        assert "ingot.v1.MediaService.GetMedia" in record.getMessage()


async def test_a_port_in_use_is_named(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        store = redis.asyncio.Redis.from_url(settings.redis_url)
        feed = Feed(store, Records(store, settings), settings)
        server = ApiServer([], feed, settings.replace(grpc_address=f"127.0.0.1:{port}"))
        with pytest.raises(SettingError, match=f"port {port} is in use"):
            await server.start()
        await server.stop()
        await store.aclose()
