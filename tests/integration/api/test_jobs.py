"""JobService: jobs are listed, watched and cancelled."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import (
    CancelJobRequest,
    ListJobsRequest,
    WatchJobRequest,
    WatchJobsRequest,
)
from ingot_server.config import Settings
from ingot_server.errors import Failure, reason_name
from tests.integration.api.running_api import Api, media_key, serving
from tests.refusals import refusal, refused, rest
from tests.waiting import TIMEOUT_SECONDS


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


async def test_a_watch_follows_a_job_to_its_end(api: Api) -> None:
    job = await api.submit()
    watch = api.jobs.WatchJob(WatchJobRequest(job_id=job.id))
    assert (await watch.read()).job == job
    every = api.jobs.WatchJobs(WatchJobsRequest())
    assert (await every.read()).job == job
    assert (await every.read()).HasField("snapshot_end")
    running, token = await api.claim(job, job_pb2.JOB_STAGE_DOWNLOADING)
    running.state = job_pb2.JOB_STATE_SUCCEEDED
    final = await api.records.write(running, token)
    responses = await rest(watch)
    seen = [response.job for response in responses]
    assert [update.revision for update in seen] == sorted({update.revision for update in seen})
    assert seen[-1] == final
    while (await every.read()).job != final:
        pass
    every.cancel()
    again = api.jobs.WatchJob(WatchJobRequest(job_id=job.id))
    assert [response.job for response in await rest(again)] == [final]
    resumed = WatchJobRequest(job_id=job.id, resume_token=responses[0].resume_token)
    assert await rest(api.jobs.WatchJob(resumed)) == responses[1:]
    ended = WatchJobRequest(job_id=job.id, resume_token=responses[-1].resume_token)
    assert await rest(api.jobs.WatchJob(ended)) == []


async def test_a_token_of_another_watch_is_refused(api: Api) -> None:
    job, other = await api.submit(), await api.submit("http://127.0.0.1/other.mp4")
    token = (await api.jobs.WatchJob(WatchJobRequest(job_id=job.id)).read()).resume_token
    every = (await api.jobs.WatchJobs(WatchJobsRequest()).read()).resume_token
    for wrong in (token, token[:-4], "not a token"):
        request = WatchJobRequest(job_id=other.id, resume_token=wrong)
        assert (await refused(api.jobs.WatchJob(request))).fields == {"resume_token"}
        filtered = WatchJobsRequest(text="clip", resume_token=every)
        assert (await refused(api.jobs.WatchJobs(filtered))).fields == {"resume_token"}


async def test_a_watch_of_all_jobs_is_resumed(api: Api) -> None:
    await api.submit()
    watch = api.jobs.WatchJobs(WatchJobsRequest())
    assert (await watch.read()).resume_token
    end = await watch.read()
    watch.cancel()
    new = await api.submit("http://127.0.0.1/other.mp4")
    resumed = api.jobs.WatchJobs(WatchJobsRequest(resume_token=end.resume_token))
    assert (await resumed.read()).job == new
    resumed.cancel()


@pytest.mark.parametrize(
    "filters",
    [
        {"states": [job_pb2.JOB_STATE_QUEUED]},
        {"kinds": [job_pb2.JOB_KIND_INGEST]},
        {"source": "http"},
        {"media_id": media_key()},
        {"labels": {"team": "news"}},
        {"text": "CLIP"},
        {"text": "127.0.0.1/cl"},
    ],
)
async def test_a_list_and_a_watch_have_the_same_filters(api: Api, filters: dict[str, Any]) -> None:
    job = await api.submit(labels={"team": "news"})
    other = Job(kind=job_pb2.JOB_KIND_CONVERT, state=job_pb2.JOB_STATE_FAILED, url="s3://x/y")
    await api.records.create(other)
    assert list((await api.jobs.ListJobs(ListJobsRequest(**filters))).jobs) == [job]
    watch = api.jobs.WatchJobs(WatchJobsRequest(**filters))
    assert (await watch.read()).job == job
    assert (await watch.read()).HasField("snapshot_end")
    watch.cancel()


async def test_a_list_counts_all_jobs_by_state(settings: Settings) -> None:
    async with serving(settings.replace(job_ttl=timedelta(seconds=4))) as api:

        async def counts() -> dict[int, int]:
            found = await api.jobs.ListJobs(ListJobsRequest(page_size=1, source="none"))
            assert not found.jobs
            return {each.state: each.count for each in found.state_counts}

        assert await counts() == {}
        jobs = [await api.submit(f"http://127.0.0.1/{number}.mp4") for number in range(3)]
        await api.claim(jobs[0], job_pb2.JOB_STAGE_DOWNLOADING)
        await api.jobs.CancelJob(CancelJobRequest(job_id=jobs[1].id))
        queued, running = job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING
        assert await counts() == {queued: 1, running: 1, job_pb2.JOB_STATE_CANCELLED: 1}
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while await counts() != {queued: 1, running: 1}:
                pass


async def test_the_children_of_a_job_are_listed(api: Api) -> None:
    parent = await api.submit()
    child = Job(parent_job_id=parent.id, state=job_pb2.JOB_STATE_FAILED)
    child = (await api.records.create(child)).job
    listed = await api.jobs.ListJobs(ListJobsRequest(parent_job_id=parent.id))
    assert list(listed.jobs) == [child]


async def watch_to_deadline(api: Api, job: Job) -> None:
    """Watches again until the server has noticed that the watch before is over."""
    while True:
        watch = api.jobs.WatchJob(WatchJobRequest(job_id=job.id), timeout=0.5)
        try:
            await rest(watch)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return
            if refusal(error).reason != "TOO_MANY_WATCHES":
                raise


async def test_watches_are_limited_and_end_with_their_deadline(settings: Settings) -> None:
    async with serving(settings.replace(watches_per_caller=1)) as api:
        job = await api.submit()
        watch = api.jobs.WatchJob(WatchJobRequest(job_id=job.id))
        await watch.read()
        found = await refused(api.jobs.WatchJobs(WatchJobsRequest()))
        assert (found.code, found.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "TOO_MANY_WATCHES",
        )
        watch.cancel()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for _ in range(2):
                await watch_to_deadline(api, job)


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
