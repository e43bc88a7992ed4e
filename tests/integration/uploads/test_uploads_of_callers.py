"""The uploads of callers with names are their own."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from ingot.v1 import ingest_service_pb2, job_pb2
from ingot.v1.ingest_service_pb2 import (
    CompleteUploadRequest,
    ConvertRequest,
    CreateUploadUrlRequest,
    IngestRequest,
    QueryUploadRequest,
    ResolveRequest,
)
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import CancelJobRequest, RetryJobRequest
from ingot.v1.media_pb2 import Media
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    DeleteMediaRequest,
    DownloadRequest,
    GetMediaRequest,
    GetStoryboardRequest,
    UpdateMediaRequest,
)
from ingot_server.access_tokens import SCOPES, entry, new_token
from ingot_server.config import Settings
from ingot_server.library.upload_ids import stored_upload_id
from ingot_server.sources.upload import upload_url
from tests.harness import Harness, running_harness
from tests.integration.uploads.browser import put
from tests.integration.uploads.upload_servers import clip, requests
from tests.recipes import make_recipe
from tests.refusals import refused

UPLOAD_ID: Final = "episode-1"
MP3: Final = make_recipe("mp3")
FIRST: Final = clip(seed=1)
SECOND: Final = clip(seed=2)


@dataclass
class Uploader:
    """A caller with a name."""

    harness: Harness
    token: str

    def call(self, method: str, request: Any) -> Any:
        """Call a method, such as `api.Ingest`, with the caller's token."""
        service, _, name = method.partition(".")
        metadata = (("authorization", f"Bearer {self.token}"),)
        return getattr(getattr(self.harness, service), name)(request, metadata=metadata)

    async def send(self, content: bytes, **header: Any) -> Job:
        job: Job = (await self.call("api.Upload", requests(content, **header))).job
        return job

    async def sees_no_upload(self, upload_id: str) -> None:
        """Assert that an upload of another caller does not exist for this one."""
        for method, request in calls_that_take(upload_id).items():
            found = await refused(self.call(method, request))
            missing = await refused(self.call(method, calls_that_take("never")[method]))
            assert found.reason == missing.reason == "UPLOAD_NOT_FOUND", method
            assert found.message.replace(upload_id, "never") == missing.message, method

    async def query(self, upload_id: str) -> Any:
        return await self.call("api.QueryUpload", QueryUploadRequest(upload_id=upload_id))


@dataclass
class Uploaders:
    """Two callers and an administrator of one Ingot with one cache for all."""

    harness: Harness
    news: Uploader
    archive: Uploader
    admin: Uploader


@pytest.fixture
async def uploaders(settings: Settings) -> AsyncIterator[Uploaders]:
    names = ("news", "archive", "admin")
    tokens = [new_token() for _ in names]
    entries = [
        entry(token, name, [each for each in SCOPES if name == each or each != "admin"], None)
        for token, name in zip(tokens, names, strict=True)
    ]
    settings = settings.replace(tokens="".join(entries), upload_links_per_caller=1)
    async with running_harness(settings) as harness:
        yield Uploaders(harness, *(Uploader(harness, token) for token in tokens))


def calls_that_take(upload_id: str) -> dict[str, Any]:
    """A call of each method that takes an upload id and does not begin an upload with it."""
    return {
        "api.QueryUpload": QueryUploadRequest(upload_id=upload_id),
        "api.CreateUploadUrl": CreateUploadUrlRequest(upload_id=upload_id),
        "api.CompleteUpload": CompleteUploadRequest(upload_id=upload_id),
    }


def calls_that_take_url(url: str) -> dict[str, Any]:
    """A call of each method that takes the URL of a media item."""
    update = UpdateMediaRequest(url=url, media=Media(title="Mine"))
    update.update_mask.paths.append("title")
    return {
        "api.Ingest": IngestRequest(url=url),
        "api.Convert": ConvertRequest(url=url, recipe=MP3),
        "api.Resolve": ResolveRequest(url=url),
        "media.GetMedia": GetMediaRequest(url=url),
        "media.UpdateMedia": update,
        "media.DeleteMedia": DeleteMediaRequest(url=url),
        "media.CreateDownloadUrl": CreateDownloadUrlRequest(url=url),
        "media.GetStoryboard": GetStoryboardRequest(url=url),
        "media.Download": DownloadRequest(url=url),
    }


def test_every_method_that_takes_an_upload_id_is_tried_here() -> None:
    service = ingest_service_pb2.DESCRIPTOR.services_by_name["IngestService"]
    methods = {
        method.name
        for method in service.methods
        for message in (
            method.input_type,
            *(field.message_type for field in method.input_type.fields if field.message_type),
        )
        if "upload_id" in message.fields_by_name
    }
    assert methods == {"Upload"} | {name.partition(".")[2] for name in calls_that_take("")}


async def test_an_administrator_asks_for_the_upload_of_another_caller(
    uploaders: Uploaders,
) -> None:
    job = await uploaders.news.send(FIRST, upload_id=UPLOAD_ID)
    request = QueryUploadRequest(upload_id=UPLOAD_ID, owner="news")

    assert (await uploaders.admin.call("api.QueryUpload", request)).job.id == job.id
    assert (await uploaders.news.call("api.QueryUpload", request)).job.id == job.id
    assert (await refused(uploaders.archive.call("api.QueryUpload", request))).reason == (
        "SCOPE_MISSING"
    )
    await uploaders.admin.sees_no_upload(UPLOAD_ID)


async def test_two_callers_use_one_upload_id_for_two_files(uploaders: Uploaders) -> None:
    news, archive, harness = uploaders.news, uploaders.archive, uploaders.harness
    sent = news.send(FIRST[:1000], upload_id=UPLOAD_ID, size_bytes=len(FIRST))
    cut_off = await refused(sent)
    assert cut_off.reason == "TRUNCATED"
    assert f"upload {UPLOAD_ID} at byte 1000" in cut_off.message
    await archive.sees_no_upload(UPLOAD_ID)

    second = await archive.send(SECOND, upload_id=UPLOAD_ID, size_bytes=len(SECOND))
    first = await news.send(FIRST, offset=1000, upload_id=UPLOAD_ID, filename="first.mp4")
    assert first.id != second.id
    assert (first.display_name, second.display_name) == ("first.mp4", f"upload-id:{UPLOAD_ID}")
    other_size = await refused(news.send(b"", upload_id=UPLOAD_ID, size_bytes=1))
    assert f"The upload {UPLOAD_ID} began as a file" in other_size.message

    for uploader, job, content in ((news, first, FIRST), (archive, second, SECOND)):
        assert (await uploader.query(UPLOAD_ID)).job.id == job.id
        ended = await harness.end(job)
        assert ended.state == job_pb2.JOB_STATE_SUCCEEDED, ended.error
        assert ended.media.blob.sha256 == hashlib.sha256(content).hexdigest()
        assert (await uploader.query(UPLOAD_ID)).job.media.id == ended.media.id
    assert await harness.keys("uploads/") == []


async def test_no_url_names_the_upload_of_another_caller(uploaders: Uploaders) -> None:
    news, archive = uploaders.news, uploaders.archive
    job = await news.send(FIRST, upload_id=UPLOAD_ID)
    unknown = upload_url(stored_upload_id("never", "archive"))
    # Its caller may, and the server has the draft of that request in memory then.
    again = await news.call("api.Ingest", IngestRequest(url=job.url))
    assert again.job.id == job.id

    for url in (job.url, upload_url(UPLOAD_ID)):
        # Space around a URL does not change what it names.
        for space in ("", " "):
            missing_calls = calls_that_take_url(space + unknown)
            for method, request in calls_that_take_url(space + url).items():
                found = await refused(archive.call(method, request))
                missing = await refused(archive.call(method, missing_calls[method]))
                assert found.reason == missing.reason == "MEDIA_NOT_FOUND", method
                assert found.message.replace(url, unknown) == missing.message, method
    assert (await uploaders.harness.end(job)).state == job_pb2.JOB_STATE_SUCCEEDED


async def test_links_and_retries_are_those_of_the_caller(uploaders: Uploaders) -> None:
    news, archive, harness = uploaders.news, uploaders.archive, uploaders.harness
    begin = CreateUploadUrlRequest(
        filename="first.mp4",
        content_type="video/mp4",
        size_bytes=len(FIRST),
        request_id="r",
        part_size_bytes=len(FIRST),
    )
    link = await news.call("api.CreateUploadUrl", begin)
    assert (await news.call("api.CreateUploadUrl", begin)).upload_id == link.upload_id
    await archive.sees_no_upload(link.upload_id)
    assert await put(link.url, FIRST) == 200
    complete = CompleteUploadRequest(upload_id=link.upload_id)
    job = (await news.call("api.CompleteUpload", complete)).job
    # The one link that a caller may have here is closed.
    assert (await news.call("api.CreateUploadUrl", begin)).job.id == job.id
    begin.request_id = "another"
    assert (await news.call("api.CreateUploadUrl", begin)).url

    await news.call("jobs.CancelJob", CancelJobRequest(job_id=job.id))
    retried = (await news.call("jobs.RetryJob", RetryJobRequest(job_id=job.id))).job
    assert retried.id != job.id
    assert (await news.query(link.upload_id)).job.id == retried.id
    ended = await harness.end(retried)
    assert ended.state == job_pb2.JOB_STATE_SUCCEEDED, ended.error
    await archive.sees_no_upload(link.upload_id)


async def test_the_journal_knows_whose_an_upload_is(uploaders: Uploaders) -> None:
    news, archive, harness = uploaders.news, uploaders.archive, uploaders.harness
    jobs = [
        await uploader.send(content, upload_id=UPLOAD_ID)
        for uploader, content in ((news, FIRST), (archive, SECOND))
    ]
    await harness.redis.flushall()
    complete = CompleteUploadRequest(upload_id=UPLOAD_ID)
    for uploader, job in zip((news, archive), jobs, strict=True):
        assert (await uploader.call("api.CompleteUpload", complete)).job.id == job.id
        assert (await uploader.query(UPLOAD_ID)).job.id == job.id
