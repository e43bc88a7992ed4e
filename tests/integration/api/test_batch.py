"""Batches: each request has a result of its own, in the order of the requests."""

from __future__ import annotations

import pytest
from google.rpc.status_pb2 import Status

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import BatchIngestRequest, IngestRequest
from ingot.v1.job_pb2 import Job
from ingot.v1.media_service_pb2 import BatchGetMediaRequest, GetMediaRequest
from ingot_server.api.batch import shortened
from ingot_server.errors import Failure, reason_name
from tests.integration.api.running_api import URL, Api
from tests.refusals import refused

pytestmark = pytest.mark.any_stores


def reason_of(error: Status) -> str:
    return reason_name(Failure.from_status(error).reason)


async def test_each_request_of_a_batch_has_its_job_or_its_refusal(api: Api) -> None:
    stored = await api.store()
    urls = (URL, "http://127.0.0.1/new.mp4", "ftp://example.com/", "", "http://10.0.0.1/x.mp4")

    response = await api.ingest.BatchIngest(
        BatchIngestRequest(requests=[IngestRequest(url=url) for url in urls])
    )

    cached, new, *refusals = response.results
    assert cached.job.cached
    assert cached.job.media == stored
    assert new.job.state == job_pb2.JOB_STATE_QUEUED
    assert (await api.records.get(new.job.id)) is not None
    assert [reason_of(each.error) for each in refusals] == [
        "UNSUPPORTED_URL",
        "INVALID_REQUEST",
        "ADDRESS_FORBIDDEN",
    ]


async def test_the_same_url_twice_in_a_batch_is_one_job(api: Api) -> None:
    response = await api.ingest.BatchIngest(
        BatchIngestRequest(requests=[IngestRequest(url=URL)] * 200)
    )

    assert len(response.results) == 200
    assert len({result.job.id for result in response.results}) == 1


async def test_a_batch_has_one_to_two_hundred_requests(api: Api) -> None:
    for count in 0, 201:
        request = BatchIngestRequest(requests=[IngestRequest(url=URL)] * count)
        found = await refused(api.ingest.BatchIngest(request))
        assert (found.reason, found.fields) == ("INVALID_REQUEST", {"requests"})


async def test_media_items_are_read_in_batches(api: Api) -> None:
    media = await api.store()

    response = await api.media.BatchGetMedia(
        BatchGetMediaRequest(
            requests=[
                GetMediaRequest(media_id=media.id),
                GetMediaRequest(url="http://127.0.0.1/unknown.mp4"),
                GetMediaRequest(),
                GetMediaRequest(url=URL),
            ]
        )
    )

    by_id, unknown, unnamed, by_url = response.results
    assert by_id.media == by_url.media == media
    assert reason_of(unknown.error) == "MEDIA_NOT_FOUND"
    assert reason_of(unnamed.error) == "INVALID_REQUEST"


def test_a_batch_is_not_too_large_for_its_caller() -> None:
    large = Job(id="one", url="http://127.0.0.1/", state=job_pb2.JOB_STATE_SUCCEEDED)
    large.media.id = "two"
    large.media.description = "x" * 250_000

    results = [job for job in shortened([large] * 200) if isinstance(job, Job)]

    assert len(results) == 200
    assert sum(job.ByteSize() for job in results) < 3 << 20
    assert results[0] == large
    last = results[-1]
    assert (last.id, last.media.id, last.url, last.state) == ("one", "two", large.url, large.state)
