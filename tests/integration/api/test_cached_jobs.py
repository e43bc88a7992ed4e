"""What is stored is returned without a record of a job; the job can be asked for all the same."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import BatchIngestRequest, ConvertRequest, IngestRequest
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import (
    CancelJobRequest,
    GetJobRequest,
    ListJobsRequest,
    RetryJobRequest,
    WatchJobRequest,
    WatchJobResponse,
)
from ingot.v1.media_pb2 import Media
from ingot.v1.media_service_pb2 import DeleteMediaRequest, UpdateMediaRequest
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure
from ingot_server.jobs.changes import failed
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.recipes import canonical_recipe, derived_id, derived_media
from ingot_server.redis import Redis
from tests.integration.api.running_api import URL, Api, media_key
from tests.recipes import make_recipe
from tests.refusals import refused, rest
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores

RECIPE = canonical_recipe(make_recipe("mp3"))


async def store_audio(api: Api) -> Media:
    manifest = Manifest(media=await api.store())
    manifest.media.audio.add(url=manifest.media.blob.url, codec="aac")
    return (await api.catalog.commit(manifest, replacing=manifest.media.etag)).media


async def store_conversion(api: Api, parent: Media, recipe: Recipe = RECIPE) -> Media:
    media = derived_media(parent, recipe)
    media.title = "A clip as MP3"
    media.derived_from_sha256 = parent.blob.sha256
    media.blob.CopyFrom(parent.blob)
    return (await api.catalog.commit(Manifest(media=media))).media


@pytest.fixture
async def stored(api: Api) -> Media:
    """A media item and its conversion."""
    parent = await store_audio(api)
    await store_conversion(api, parent)
    return parent


async def asked(api: Api) -> dict[str, Job]:
    """Return the jobs of all calls that can be answered from what is stored."""
    batch = await api.ingest.BatchIngest(BatchIngestRequest(requests=[IngestRequest(url=URL)]))
    by_id = ConvertRequest(media_id=media_key(), recipe=RECIPE)
    by_url = ConvertRequest(url=URL, recipe=RECIPE)
    return {
        "Ingest": await api.submit(),
        "Ingest with recipes": await api.submit(recipes=[RECIPE]),
        "BatchIngest": batch.results[0].job,
        "Convert by id": (await api.ingest.Convert(by_id)).job,
        "Convert by URL": (await api.ingest.Convert(by_url)).job,
    }


async def changes(redis: Redis) -> int:
    """Return how often anything was written."""
    return int((await redis.info("persistence"))["rdb_changes_since_last_save"])


async def watch(api: Api, **request: Any) -> list[WatchJobResponse]:
    return await rest(api.jobs.WatchJob(WatchJobRequest(**request)))


async def test_what_is_stored_is_returned_without_writing_anything(
    api: Api, redis: Redis, stored: Media
) -> None:
    await asked(api)
    before = await changes(redis)

    jobs = await asked(api)

    assert await changes(redis) == before
    for name, job in jobs.items():
        assert (job.state, job.cached) == (job_pb2.JOB_STATE_SUCCEEDED, True), name
    assert jobs["Ingest"].media == stored
    assert not (await api.jobs.ListJobs(ListJobsRequest())).jobs


async def test_a_retry_of_what_is_stored_by_now_makes_no_other_job(api: Api, redis: Redis) -> None:
    job = await api.submit()
    running, token = await api.claim(job, job_pb2.JOB_STAGE_RESOLVING)
    failed(Failure(reason_pb2.REASON_STALLED, "Nothing arrived."))(running)
    await api.records.write(running, token)
    await api.store()

    retried = (await api.jobs.RetryJob(RetryJobRequest(job_id=job.id))).job

    assert retried == await api.submit()
    assert [each.id for each in (await api.jobs.ListJobs(ListJobsRequest())).jobs] == [job.id]


async def test_the_job_can_be_asked_for_and_watched(api: Api, stored: Media) -> None:
    for name, job in (await asked(api)).items():
        assert (await api.jobs.GetJob(GetJobRequest(job_id=job.id))).job == job, name
        [only] = await watch(api, job_id=job.id)
        assert only.job == job, name
        assert not await watch(api, job_id=job.id, resume_token=only.resume_token), name


async def test_the_job_has_ended_for_those_who_cancel_or_retry_it(api: Api, stored: Media) -> None:
    for name, job in (await asked(api)).items():
        cancelled = await api.jobs.CancelJob(CancelJobRequest(job_id=job.id))
        assert cancelled.job == job, name
        found = await refused(api.jobs.RetryJob(RetryJobRequest(job_id=job.id)))
        assert found.reason == "JOB_NOT_FAILED", name


async def test_the_job_is_gone_with_what_it_returned(api: Api, stored: Media) -> None:
    jobs = await asked(api)
    await api.media.DeleteMedia(DeleteMediaRequest(media_id=derived_id(stored.id, RECIPE)))

    for name, job in jobs.items():
        if job.kind == job_pb2.JOB_KIND_INGEST:
            assert (await api.jobs.GetJob(GetJobRequest(job_id=job.id))).job == job
            continue
        for call in (
            api.jobs.GetJob(GetJobRequest(job_id=job.id)),
            api.jobs.WatchJob(WatchJobRequest(job_id=job.id)),
            api.jobs.CancelJob(CancelJobRequest(job_id=job.id)),
            api.jobs.RetryJob(RetryJobRequest(job_id=job.id)),
        ):
            found = await refused(call)
            assert (found.code, found.reason) == (
                grpc.StatusCode.NOT_FOUND,
                "JOB_NOT_FOUND",
            ), name


async def test_an_id_that_no_call_returned_names_no_job(api: Api, stored: Media) -> None:
    other = await api.store("http://127.0.0.1/other.mp4", content=b"other")
    made = derived_id(stored.id, RECIPE)
    for wrong in (
        f"cached-ingest-{'a' * 52}",  # not stored
        f"cached-ingest-{other.id}-{made}",  # made of another media item
        f"cached-ingest-{stored.id}-{other.id}",
        f"cached-convert-{stored.id}",  # not a conversion
        f"cached-convert-{made}-{made}",
        f"cached-ingest-{stored.id}{f'-{made}' * 17}",
        f"cached-ingest-{stored.id}/../../{made}",
        f"cached-ingest-{stored.id}\n",
        f"cached-ingest-{stored.id.upper()}",
        f"cached-ingest-{stored.id}-",
        "cached-ingest-",
        f"cached--{stored.id}",
    ):
        found = await refused(api.jobs.GetJob(GetJobRequest(job_id=wrong)))
        assert found.reason == "JOB_NOT_FOUND", wrong


async def test_a_request_with_all_recipes_has_an_id_that_is_accepted(
    api: Api, stored: Media
) -> None:
    recipes = [make_recipe("mp3", start=offset) for offset in range(1, 17)]
    parent = Manifest(media=stored)
    parent.media.duration.FromSeconds(60)
    replaced = await api.catalog.commit(parent, replacing=stored.etag)
    for recipe in recipes:
        await store_conversion(api, replaced.media, canonical_recipe(recipe))

    job = await api.submit(recipes=recipes)

    assert (job.cached, len(job.conversions)) == (True, 16)
    assert (await api.jobs.GetJob(GetJobRequest(job_id=job.id))).job == job


async def test_a_request_id_is_remembered_with_its_job(api: Api, stored: Media) -> None:
    first, again = [await api.submit(request_id="once") for _ in range(2)]

    assert (first.cached, again) == (True, first)
    assert await api.records.get(first.id) == first
    found = await refused(
        api.ingest.Ingest(IngestRequest(url=URL, request_id="once", recipes=[RECIPE]))
    )
    assert found.reason == "REQUEST_ID_REUSED"


async def test_each_caller_gets_what_it_requested_with_the_job(api: Api, stored: Media) -> None:
    for team in "a", "b", "a":
        job = await api.submit(labels={"team": team}, priority=job_pb2.JOB_PRIORITY_HIGH)
        assert (dict(job.labels), job.priority) == ({"team": team}, job_pb2.JOB_PRIORITY_HIGH)
    assert not (await api.jobs.GetJob(GetJobRequest(job_id=job.id))).job.labels


async def test_a_change_of_what_is_stored_is_in_the_next_job(api: Api, stored: Media) -> None:
    await asked(api)
    request = UpdateMediaRequest(media_id=stored.id, media=Media(title="Another title"))
    request.update_mask.paths.append("title")
    changed = (await api.media.UpdateMedia(request)).media

    job = await api.submit()

    assert (job.media, job.display_name) == (changed, "Another title")
    assert (await api.jobs.GetJob(GetJobRequest(job_id=job.id))).job == job


async def test_what_was_deleted_is_fetched_again(api: Api, stored: Media) -> None:
    assert (await api.submit()).cached
    await api.media.DeleteMedia(DeleteMediaRequest(media_id=stored.id))
    assert (await api.submit()).state == job_pb2.JOB_STATE_QUEUED


async def test_the_same_request_is_answered_until_the_copy_is_too_old(
    api: Api, stored: Media
) -> None:
    age = timedelta(seconds=2) + (datetime.now(UTC) - stored.create_time.ToDatetime(UTC))
    assert (await api.submit(max_age=age)).cached
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (await api.submit(max_age=age)).cached:  # noqa: ASYNC110 - time has to pass
            await asyncio.sleep(0.05)


async def test_an_alias_is_followed_wherever_it_leads(api: Api, stored: Media) -> None:
    alias = "http://127.0.0.1/alias.mp4"
    await api.catalog.put_alias(media_key(alias), stored.id, source_key=f"http:{alias}")

    job = await api.submit(alias)

    assert (job.cached, job.url, job.media) == (True, alias, stored)
    assert (await api.jobs.GetJob(GetJobRequest(job_id=job.id))).job.url == URL
    other = await api.store("http://127.0.0.1/other.mp4", content=b"other")
    await api.catalog.put_alias(media_key(alias), other.id, source_key=f"http:{alias}")
    assert (await api.submit(alias)).media == other


async def test_a_conversion_of_a_replaced_file_is_made_again(api: Api, stored: Media) -> None:
    job = await api.submit(recipes=[RECIPE])
    replacement = Manifest(media=stored)
    replacement.media.blob.sha256 = "0" * 64
    await api.catalog.commit(replacement, replacing=stored.etag)

    again = await api.submit(recipes=[RECIPE])

    assert (job.cached, again.cached) == (True, False)
    found = await refused(api.jobs.GetJob(GetJobRequest(job_id=job.id)))
    assert found.reason == "JOB_NOT_FOUND"
