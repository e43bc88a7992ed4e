"""Failed jobs are retried, and many jobs are cancelled or retried in one call."""

from __future__ import annotations

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import (
    CancelJobRequest,
    CancelJobsRequest,
    RetryJobRequest,
    RetryJobsRequest,
)
from ingot_server.errors import Failure
from ingot_server.jobs.changes import failed
from ingot_server.library.manifest_pb2 import Manifest
from tests.integration.api.running_api import URL, Api
from tests.recipes import make_recipe
from tests.refusals import refused

pytestmark = pytest.mark.any_stores

GONE = Failure(reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, "It is gone.")


async def fail(api: Api, job: Job) -> Job:
    """Do what a worker does for a job whose source does not have the media."""
    running, token = await api.claim(job, job_pb2.JOB_STAGE_RESOLVING)
    failed(GONE)(running)
    await api.catalog.remember_failure(job.media.id, GONE)
    return await api.records.write(running, token)


async def test_a_failed_job_is_run_again_with_the_same_request(api: Api) -> None:
    recipe = make_recipe("mp3", bitrate_kbps=128)
    job = await fail(
        api,
        await api.submit(
            labels={"team": "a"}, recipes=[recipe], priority=job_pb2.JOB_PRIORITY_HIGH
        ),
    )

    again = (await api.jobs.RetryJob(RetryJobRequest(job_id=job.id))).job

    assert again.id != job.id
    assert again.state == job_pb2.JOB_STATE_QUEUED
    for name in "kind", "url", "selection", "recipes", "labels", "priority", "display_name":
        assert getattr(again, name) == getattr(job, name), name


async def test_a_retry_that_is_repeated_is_one_job(api: Api) -> None:
    job = await fail(api, await api.submit())
    request = RetryJobRequest(job_id=job.id, request_id="again")

    first, second = [(await api.jobs.RetryJob(request)).job for _ in range(2)]

    assert first.id == second.id


async def test_a_failed_conversion_is_run_again(api: Api) -> None:
    manifest = Manifest(media=await api.store())
    manifest.media.audio.add(url=manifest.media.blob.url, codec="aac")
    media = (await api.catalog.commit(manifest, replacing=manifest.media.etag)).media
    request = ConvertRequest(media_id=media.id, recipe=make_recipe("waveform"))
    job = await fail(api, (await api.ingest.Convert(request)).job)

    again = (await api.jobs.RetryJob(RetryJobRequest(job_id=job.id))).job

    assert (again.kind, again.media.id) == (job_pb2.JOB_KIND_CONVERT, job.media.id)
    assert again.id != job.id


async def test_a_conversion_by_url_is_run_again_for_its_result(api: Api) -> None:
    request = ConvertRequest(url=URL, recipe=make_recipe("mp3"))
    job = await fail(api, (await api.ingest.Convert(request)).job)

    again = (await api.jobs.RetryJob(RetryJobRequest(job_id=job.id))).job

    assert (again.kind, again.media.id) == (job.kind, job.media.id)
    assert again.state == job_pb2.JOB_STATE_QUEUED


async def test_media_that_is_stored_by_now_is_not_fetched_again(api: Api) -> None:
    job = await fail(api, await api.submit())
    media = await api.store()

    again = (await api.jobs.RetryJob(RetryJobRequest(job_id=job.id))).job

    assert (again.cached, again.media) == (True, media)


async def test_a_job_that_has_not_failed_is_not_retried(api: Api) -> None:
    job = await api.submit()

    found = await refused(api.jobs.RetryJob(RetryJobRequest(job_id=job.id)))
    assert (found.code.name, found.reason) == ("FAILED_PRECONDITION", "JOB_NOT_FAILED")
    found = await refused(api.jobs.RetryJob(RetryJobRequest(job_id="unknown")))
    assert found.reason == "JOB_NOT_FOUND"


async def test_matching_jobs_are_cancelled_in_one_call(api: Api) -> None:
    ours = [await api.submit(f"http://127.0.0.1/{n}.mp4", labels={"run": "1"}) for n in range(3)]
    other = await api.submit("http://127.0.0.1/other.mp4")
    await api.jobs.CancelJob(CancelJobRequest(job_id=ours[0].id))

    response = await api.jobs.CancelJobs(CancelJobsRequest(labels={"run": "1"}))

    assert response.cancelled_count == 2
    states = [job.state for job in await api.records.get_many([job.id for job in ours]) if job]
    assert states == [job_pb2.JOB_STATE_CANCELLED] * 3
    kept = await api.records.get(other.id)
    assert kept is not None
    assert kept.state == job_pb2.JOB_STATE_QUEUED


async def test_matching_failed_jobs_are_retried_in_one_call(api: Api) -> None:
    for number in range(3):
        await fail(api, await api.submit(f"http://127.0.0.1/{number}.mp4", labels={"run": "1"}))
    await fail(api, await api.submit("http://127.0.0.1/other.mp4"))
    cancelled = await api.submit("http://127.0.0.1/cancelled.mp4", labels={"run": "1"})
    await api.jobs.CancelJob(CancelJobRequest(job_id=cancelled.id))

    response = await api.jobs.RetryJobs(RetryJobsRequest(labels={"run": "1"}))

    assert (response.retried_count, response.refused_count) == (3, 0)
    queued = await api.records.list(
        limit=10, accepts=lambda job: job.state == job_pb2.JOB_STATE_QUEUED
    )
    assert sorted(job.url for job in queued) == [f"http://127.0.0.1/{n}.mp4" for n in range(3)]


async def test_all_jobs_at_once_need_a_filter(api: Api) -> None:
    for call in api.jobs.CancelJobs(CancelJobsRequest()), api.jobs.RetryJobs(RetryJobsRequest()):
        found = await refused(call)
        assert (found.reason, found.fields) == ("INVALID_REQUEST", {"states"})
