"""Whose media and jobs a caller sees and changes: one cache for all, or one for each caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor

import ingot.v1
from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import ConvertRequest, IngestRequest
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import (
    CancelJobRequest,
    CancelJobsRequest,
    GetJobRequest,
    ListJobsRequest,
    RetryJobRequest,
    RetryJobsRequest,
    WatchJobRequest,
    WatchJobsRequest,
)
from ingot.v1.media_pb2 import Media
from ingot.v1.media_service_pb2 import (
    BatchGetMediaRequest,
    CreateDownloadUrlRequest,
    DeleteMediaRequest,
    DownloadRequest,
    GetMediaRequest,
    GetStoryboardRequest,
    ListMediaRequest,
    UpdateMediaRequest,
)
from ingot_server.access_tokens import SCOPES, entry, new_token
from ingot_server.config import Settings
from ingot_server.errors import Failure, reason_name
from ingot_server.setting_values import CacheSharing
from tests.harness import Harness, running_harness
from tests.mediasite import serve_presentation
from tests.origin import Origin, Page
from tests.recipes import make_recipe
from tests.refusals import refused
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.slow

SCOPES_OF_TENANTS: Final = [scope for scope in SCOPES if scope != "admin"]
MP3: Final = make_recipe("mp3")


@dataclass
class Caller:
    """A caller with a token."""

    harness: Harness
    name: str
    token: str

    def call(self, name: str, request: Any) -> Any:
        """Call a method, `jobs.GetJob`, with the caller's token."""
        service, _, method = name.partition(".")
        stub = getattr(getattr(self.harness, service), method)
        return stub(request, metadata=(("authorization", f"Bearer {self.token}"),))

    async def ingest(self, url: str, **fields: Any) -> Job:
        answer = await self.call("api.Ingest", IngestRequest(url=url, **fields))
        job: Job = answer.job
        return job if answer.job.cached else await self.harness.end(job)

    async def convert(self, **fields: Any) -> Job:
        answer = await self.call("api.Convert", ConvertRequest(recipe=MP3, **fields))
        job: Job = answer.job
        return job if answer.job.cached else await self.harness.end(job)

    async def listed(self) -> list[str]:
        answer = await self.call("media.ListMedia", ListMediaRequest())
        return sorted(media.id for media in answer.media)

    async def jobs(self) -> list[str]:
        answer = await self.call("jobs.ListJobs", ListJobsRequest())
        return sorted(job.id for job in answer.jobs)


@dataclass
class Callers:
    """Two callers and an administrator of one Ingot."""

    harness: Harness
    news: Caller
    archive: Caller
    admin: Caller


@asynccontextmanager
async def callers(settings: Settings, sharing: CacheSharing) -> AsyncIterator[Callers]:
    tokens = {name: new_token() for name in ("news", "archive", "admin")}
    entries = [
        entry(token, name, list(SCOPES) if name == "admin" else SCOPES_OF_TENANTS, None)
        for name, token in tokens.items()
    ]
    settings = settings.replace(tokens="".join(entries), cache_sharing=sharing, attempts=1)
    async with running_harness(settings) as harness:
        yield Callers(
            harness, **{name: Caller(harness, name, token) for name, token in tokens.items()}
        )


@pytest.fixture
async def private(settings: Settings) -> AsyncIterator[Callers]:
    async with callers(settings, CacheSharing.PRIVATE) as running:
        yield running


@pytest.fixture
async def shared(settings: Settings) -> AsyncIterator[Callers]:
    async with callers(settings, CacheSharing.SHARED) as running:
        yield running


def methods_with(field: str) -> set[str]:
    """The methods whose request names one media item or job by `field`."""
    return {method.name for method in _methods() if field in method.input_type.fields_by_name}


def _methods() -> list[MethodDescriptor]:
    return [
        method
        for path in sorted(Path(ingot.v1.__path__[0]).glob("*_service_pb2.py"))
        for service in import_module(f"ingot.v1.{path.stem}").DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


async def state_counts(caller: Caller) -> dict[int, int]:
    listing = await caller.call("jobs.ListJobs", ListJobsRequest(page_size=1))
    return {each.state: each.count for each in listing.state_counts}


def naming_media(media_id: str) -> dict[str, Any]:
    """A request of each method that takes the id of a media item."""
    update = UpdateMediaRequest(media_id=media_id, media=Media(title="Mine"))
    update.update_mask.paths.append("title")
    return {
        "media.GetMedia": GetMediaRequest(media_id=media_id),
        "media.UpdateMedia": update,
        "media.DeleteMedia": DeleteMediaRequest(media_id=media_id),
        "media.Download": DownloadRequest(media_id=media_id),
        "media.CreateDownloadUrl": CreateDownloadUrlRequest(media_id=media_id),
        "media.GetStoryboard": GetStoryboardRequest(media_id=media_id),
        "api.Convert": ConvertRequest(media_id=media_id, recipe=MP3),
    }


def naming_job(job_id: str) -> dict[str, Any]:
    """A request of each method that takes the id of a job."""
    return {
        "jobs.GetJob": GetJobRequest(job_id=job_id),
        "jobs.WatchJob": WatchJobRequest(job_id=job_id),
        "jobs.CancelJob": CancelJobRequest(job_id=job_id),
        "jobs.RetryJob": RetryJobRequest(job_id=job_id),
    }


# These are the filters of lists, and the webhooks, which only administrators see.
FILTERS: Final = {"ListJobs", "WatchJobs", "CancelJobs", "RetryJobs", "ListWebhookDeliveries"}


def test_every_method_that_names_media_or_a_job_is_tried_here() -> None:
    tried = {name.partition(".")[2] for name in naming_media("")}
    assert methods_with("media_id") - FILTERS == tried
    tried = {name.partition(".")[2] for name in naming_job("")}
    assert methods_with("job_id") - FILTERS == tried


async def test_tenants_share_nothing_of_one_url(
    private: Callers, origin: Origin, clip: bytes
) -> None:
    url = origin.serve("/clip.mp4", Page(clip))

    first = await private.news.ingest(url)
    second = await private.archive.ingest(url)

    assert first.media.id != second.media.id
    assert (first.media.owner, second.media.owner) == ("news", "archive")
    assert (first.requested_by, second.requested_by) == ("news", "archive")
    assert not second.cached
    assert (await private.news.ingest(url)).cached
    assert await private.news.listed() == [first.media.id]
    assert await private.archive.listed() == [second.media.id]
    assert await private.admin.listed() == sorted([first.media.id, second.media.id])
    by_url = await private.archive.call("media.GetMedia", GetMediaRequest(url=url))
    assert by_url.media.id == second.media.id


async def test_what_a_page_and_a_recipe_make_is_the_tenants_too(
    private: Callers, origin: Origin, clip: bytes
) -> None:
    page = serve_presentation(origin, clip)

    mine = await private.news.ingest(page, recipes=[MP3])
    other = await private.archive.ingest(page, recipes=[MP3])

    for job, owner in ((mine, "news"), (other, "archive")):
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.error
        assert job.media.owner == owner
        assert [made.owner for made in job.conversions] == [owner]
    assert mine.media.id != other.media.id
    assert mine.conversions[0].id != other.conversions[0].id
    assert set(await private.news.jobs()).isdisjoint(await private.archive.jobs())
    # An administrator converts for the tenant.
    made = await private.admin.convert(media_id=mine.media.id)
    assert (made.cached, made.media.owner) == (True, "news")


async def test_media_of_another_tenant_does_not_exist(
    private: Callers, origin: Origin, clip: bytes
) -> None:
    job = await private.news.ingest(origin.serve("/clip.mp4", Page(clip)))
    media = job.media
    unknown = "a" * 52
    for name, request in naming_media(media.id).items():
        found = await refused(private.archive.call(name, request))
        missing = await refused(private.archive.call(name, naming_media(unknown)[name]))
        assert found.reason == missing.reason == "MEDIA_NOT_FOUND", name
        assert found.message == missing.message.replace(unknown, media.id), name

    for url in (media.blob.url, media.blob.url.replace("s3:", "media:")):
        for request in (IngestRequest(url=url), ConvertRequest(url=url, recipe=MP3)):
            method = "api.Ingest" if isinstance(request, IngestRequest) else "api.Convert"
            assert await reason_of_call(private.archive, method, request) != "", url
    batch = BatchGetMediaRequest(requests=[GetMediaRequest(media_id=media.id)])
    answer = await private.archive.call("media.BatchGetMedia", batch)
    assert answer.results[0].HasField("error")

    assert await private.news.listed() == await private.admin.listed() == [media.id]
    for name in ("media.GetMedia", "media.CreateDownloadUrl", "media.DeleteMedia"):
        await private.admin.call(name, naming_media(media.id)[name])


async def reason_of_call(caller: Caller, method: str, request: Any) -> str:
    """The reason why a call, or the job that it began, failed; empty if it succeeded."""
    try:
        answer = await caller.call(method, request)
    except grpc.aio.AioRpcError:
        return (await refused(caller.call(method, request))).reason
    job = answer.job if answer.job.cached else await caller.harness.end(answer.job)
    return reason_name(Failure.from_status(job.error).reason) if job.HasField("error") else ""


async def test_jobs_of_another_tenant_do_not_exist(
    private: Callers, origin: Origin, clip: bytes
) -> None:
    url = origin.serve("/gone.mp4", Page(b"", status=404))
    waiting = await private.news.call(
        "api.Ingest", IngestRequest(url=origin.serve("/waits.mp4", Page(b"", status=404)))
    )
    failed = await private.news.ingest(url)
    unknown = "0" * 26
    for job in (failed, waiting.job):
        for name, request in naming_job(job.id).items():
            found = await refused(private.archive.call(name, request))
            missing = await refused(private.archive.call(name, naming_job(unknown)[name]))
            assert found.reason == missing.reason == "JOB_NOT_FOUND", name
            assert found.message == missing.message.replace(unknown, job.id), name
    stored = await private.news.ingest(origin.serve("/clip.mp4", Page(clip)))
    cached = await private.news.ingest(stored.url)
    for name, request in naming_job(cached.id).items():
        assert (await refused(private.archive.call(name, request))).reason == "JOB_NOT_FOUND", name
    await private.news.call("jobs.GetJob", GetJobRequest(job_id=cached.id))
    failed_states = [job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_QUEUED]
    cancelled = await private.archive.call(
        "jobs.CancelJobs", CancelJobsRequest(states=failed_states)
    )
    retried = await private.archive.call("jobs.RetryJobs", RetryJobsRequest(states=failed_states))
    assert (cancelled.cancelled_count, retried.retried_count) == (0, 0)
    listing = await private.archive.call("jobs.ListJobs", ListJobsRequest())
    assert (list(listing.jobs), list(listing.state_counts)) == ([], [])
    watch = private.archive.call("jobs.WatchJobs", WatchJobsRequest())
    assert (await watch.read()).HasField("snapshot_end")
    watch.cancel()

    assert len(await private.news.jobs()) == len(await private.admin.jobs()) == 3
    counts = await state_counts(private.news)
    assert sum(counts.values()) == 3
    assert counts == await state_counts(private.admin)
    # An administrator retries for the tenant.
    retry = await private.admin.call("jobs.RetryJob", RetryJobRequest(job_id=failed.id))
    assert retry.job.requested_by == "news"
    assert retry.job.media.id == failed.media.id


async def test_callers_of_a_shared_cache_have_one_copy_that_its_owner_changes(
    shared: Callers, origin: Origin, clip: bytes
) -> None:
    url = origin.serve("/clip.mp4", Page(clip))
    first = await shared.news.ingest(url)
    second = await shared.archive.ingest(url)

    assert second.cached
    assert second.media == first.media
    assert first.media.owner == "news"
    assert await shared.archive.listed() == [first.media.id]
    requests = naming_media(first.media.id)
    for name in ("media.GetMedia", "media.CreateDownloadUrl", "api.Convert"):
        await shared.archive.call(name, requests[name])
    for name in ("media.UpdateMedia", "media.DeleteMedia"):
        found = await refused(shared.archive.call(name, requests[name]))
        assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_OWNER")
        assert "belongs to news" in found.message
    await shared.news.call("media.UpdateMedia", requests["media.UpdateMedia"])
    await shared.admin.call("media.DeleteMedia", requests["media.DeleteMedia"])
    assert await shared.news.listed() == []


async def test_media_keeps_its_owner_when_another_caller_fetches_a_new_version(
    shared: Callers, origin: Origin, clip: bytes, other_clip: bytes
) -> None:
    url = origin.serve("/clip.mp4", Page(clip, etag='"1"'))
    await shared.news.ingest(url)
    origin.serve("/clip.mp4", Page(other_clip, etag='"2"'))

    newer = await shared.archive.ingest(url, max_age={"seconds": 0})

    assert not newer.cached
    assert newer.media.owner == "news"


async def test_a_download_goes_on_for_the_caller_that_has_not_cancelled_it(
    shared: Callers, origin: Origin, clip: bytes
) -> None:
    gate = asyncio.Event()
    url = origin.serve("/clip.mp4", Page(clip, gate=gate))
    asked = IngestRequest(url=url)
    jobs = [(await each.call("api.Ingest", asked)).job for each in (shared.news, shared.archive)]
    assert jobs[0].id == jobs[1].id
    ending = asyncio.create_task(shared.harness.end(jobs[0]))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await origin.asked_for("/clip.mp4")
    request = CancelJobRequest(job_id=jobs[0].id)

    left = (await shared.news.call("jobs.CancelJob", request)).job
    assert left.state == job_pb2.JOB_STATE_RUNNING
    gate.set()

    assert (await ending).state == job_pb2.JOB_STATE_SUCCEEDED


async def test_only_its_owner_retries_a_job(shared: Callers, origin: Origin) -> None:
    failed = await shared.news.ingest(origin.serve("/gone.mp4", Page(b"", status=404)))
    request = RetryJobRequest(job_id=failed.id)

    assert (await shared.archive.call("jobs.GetJob", GetJobRequest(job_id=failed.id))).job == failed
    assert (await refused(shared.archive.call("jobs.RetryJob", request))).reason == "NOT_OWNER"
    assert (await shared.news.call("jobs.RetryJob", request)).job.id
