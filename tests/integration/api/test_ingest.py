"""IngestService: what it refuses, what it answers from the stores, what it makes a job of."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import CompleteUploadRequest, ConvertRequest, IngestRequest
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.job_service_pb2 import (
    CancelJobRequest,
    GetJobRequest,
    ListJobsRequest,
    WatchJobRequest,
)
from ingot.v1.media_pb2 import Selection
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    DeleteMediaRequest,
    DownloadRequest,
    GetMediaRequest,
    ListMediaRequest,
)
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.placement import Work
from tests.integration.api.running_api import URL, Api, media_key, serving
from tests.refusals import refused
from tests.waiting import TIMEOUT_SECONDS

MP3 = Recipe(mp3=Recipe.Mp3())

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
    (
        "Ingest",
        IngestRequest(
            url=URL, options=IngestOptions(record_duration=Duration(seconds=5, nanos=1 << 30))
        ),
        "INVALID_REQUEST",
        "options.record_duration",
    ),
    *(
        (
            "Ingest",
            IngestRequest(
                url=URL, selection=Selection(start_offset=Duration(seconds=5)), options=options
            ),
            "INVALID_REQUEST",
            "selection.start_offset",
        )
        for options in [
            IngestOptions(record_duration=Duration(seconds=5)),
            IngestOptions(subtitle_languages=["en"]),
        ]
    ),
    (
        "Ingest",
        IngestRequest(url=URL, selection=Selection(exact_offsets=True)),
        "INVALID_REQUEST",
        "selection.exact_offsets",
    ),
    (
        "Convert",
        ConvertRequest(url=URL, recipe=MP3, labels={"A b": ""}),
        "INVALID_REQUEST",
        "labels['A b']",
    ),
    (
        "Convert",
        ConvertRequest(media_id="a", recipe=MP3, labels={"a": "b" * 256}),
        "INVALID_REQUEST",
        "labels['a']",
    ),
    (
        "CompleteUpload",
        CompleteUploadRequest(upload_id="a", labels={"A b": ""}),
        "INVALID_REQUEST",
        "labels['A b']",
    ),
    ("ListJobs", ListJobsRequest(labels={"": "a"}), "INVALID_REQUEST", "labels['']"),
    ("GetMedia", GetMediaRequest(), "INVALID_REQUEST", "name"),
    ("Convert", ConvertRequest(recipe=MP3), "INVALID_REQUEST", "name"),
    ("DeleteMedia", DeleteMediaRequest(), "INVALID_REQUEST", "name"),
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


async def test_bad_input_is_reported_by_field(api: Api) -> None:
    for method, request, reason, field in BAD_INPUT:
        stub = next(s for s in (api.ingest, api.media, api.jobs) if hasattr(s, method))
        found = await refused(getattr(stub, method)(request))
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason), request
        assert field in found.fields, request
        assert len(found.message) > 20


async def test_an_invalid_request_is_refused_every_time(api: Api) -> None:
    for _ in range(2):
        for path in ("MediaService/GetMedia", "IngestService/Ingest", "JobService/CancelJob"):
            call: Any = api.channel.unary_unary(f"/ingot.v1.{path}")
            found = await refused(call(b"\xff\xff"))
            assert found.code is grpc.StatusCode.INVALID_ARGUMENT, path
            assert found.reason == "INVALID_REQUEST", path
        watch: Any = api.channel.unary_stream("/ingot.v1.JobService/WatchJob")
        found = await refused(watch(b"\xff"))
        assert found.code is grpc.StatusCode.INVALID_ARGUMENT
        upload: Any = api.channel.stream_unary("/ingot.v1.IngestService/Upload")
        found = await refused(upload(iter([b"\xff"])))
        assert found.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_forbidden_address_is_refused_before_any_job(api: Api) -> None:
    for host in ("10.0.0.1", "169.254.169.254", "[::ffff:10.0.0.1]", "0xa.1"):
        found = await refused(api.ingest.Ingest(IngestRequest(url=f"http://{host}/")))
        assert (found.code, found.reason) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "ADDRESS_FORBIDDEN",
        )
    assert not (await api.jobs.ListJobs(ListJobsRequest())).jobs


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


async def test_a_call_that_gets_a_job_may_raise_its_priority_and_does_not_change_its_labels(
    api: Api,
) -> None:
    first = await api.submit(labels={"team": "news"}, priority=job_pb2.JOB_PRIORITY_LOW)
    second = await api.submit(labels={"team": "archive"}, priority=job_pb2.JOB_PRIORITY_HIGH)
    assert second.id == first.id
    assert dict(second.labels) == {"team": "news"}
    assert second.priority == job_pb2.JOB_PRIORITY_HIGH
    assert await api.submit(priority=job_pb2.JOB_PRIORITY_LOW) == second


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
    await api.catalog.remember_failure(
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


async def test_a_request_id_returns_its_job_even_if_the_media_is_known_not_to_exist(
    api: Api,
) -> None:
    first = await api.submit(request_id="r-2")
    failure = Failure(reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, "The source says 404.")
    await api.catalog.remember_failure(media_key(), failure)

    assert (await api.submit(request_id="r-2")).id == first.id


async def test_a_source_that_refused_leaves_the_media_merely_not_found(api: Api) -> None:
    await api.catalog.remember_failure(
        media_key(), Failure(reason_pb2.REASON_PRIVATE, "The source says 403.")
    )

    found = await refused(api.media.GetMedia(GetMediaRequest(url=URL)))

    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "MEDIA_NOT_FOUND")


async def test_a_job_that_cannot_be_queued_is_reported_and_not_left_behind(
    settings: Settings, closed_port: int
) -> None:
    broker = f"redis://127.0.0.1:{closed_port}/0"
    async with serving(settings.replace(broker_url=broker)) as api:
        await api.records.dispatch.announce("worker", Work.FETCH, 16)
        for _ in range(2):
            found = await refused(
                api.ingest.Ingest(IngestRequest(url=URL), timeout=TIMEOUT_SECONDS)
            )
            assert (found.code, found.reason) == (
                grpc.StatusCode.UNAVAILABLE,
                "QUEUE_UNAVAILABLE",
            )
        jobs = await api.records.list(limit=10)
        assert {job.state for job in jobs} <= {job_pb2.JOB_STATE_FAILED}
        assert not await api.records.dispatch.sweep(10)


async def test_a_request_id_whose_job_could_not_be_queued_makes_another(
    settings: Settings, closed_port: int
) -> None:
    broker = f"redis://127.0.0.1:{closed_port}/0"
    async with serving(settings.replace(broker_url=broker)) as api:
        await api.records.dispatch.announce("worker", Work.FETCH, 16)
        request = IngestRequest(url=URL, request_id="r-3")
        assert (await refused(api.ingest.Ingest(request))).reason == "QUEUE_UNAVAILABLE"
    async with serving(settings) as api:
        job = await api.submit(request_id="r-3")
        assert job.state == job_pb2.JOB_STATE_QUEUED
        assert (await api.submit(request_id="r-3")).id == job.id


async def test_a_media_is_converted_by_any_id_that_reads_it(api: Api) -> None:
    stored = await api.store()
    await api.catalog.put_alias("a" * 52, stored.id, source_key="http:another")
    for media_id in (stored.id, "a" * 52):
        found = await refused(api.ingest.Convert(ConvertRequest(media_id=media_id, recipe=MP3)))
        assert found.fields == {"recipe.mp3"}, "it is there, and has no sound"
