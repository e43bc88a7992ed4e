"""This version reads what earlier releases have stored: files of theirs are in tests/kept."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from ingot.v1 import (
    ingest_service_pb2,
    job_pb2,
    job_service_pb2,
    media_service_pb2,
    webhook_service_pb2,
)
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from ingot.v1.media_service_pb2_grpc import MediaServiceStub
from ingot.v1.webhook_service_pb2_grpc import WebhookServiceStub
from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.redis import Redis
from tests.kept_release import RELEASES, kept_json, restore_bucket, restore_redis

# Before the contract was what it is: its media items are read, its jobs are not.
FIRST = "0.1.0-first"


@contextlib.asynccontextmanager
async def server(settings: Settings) -> AsyncIterator[grpc.aio.Channel]:
    async with (
        running(settings.replace(http_address="")) as addresses,
        grpc.aio.insecure_channel(addresses.grpc) as channel,
    ):
        yield channel


async def read_media(channel: grpc.aio.Channel, media_id: str) -> dict[str, Any]:
    request = media_service_pb2.GetMediaRequest(media_id=media_id)
    return without_etag(json_format.MessageToDict((await media(channel).GetMedia(request)).media))


def media(channel: grpc.aio.Channel) -> Any:
    return MediaServiceStub(channel)


async def read_job(channel: grpc.aio.Channel, job_id: str) -> dict[str, Any]:
    jobs: Any = JobServiceStub(channel)
    response = await jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id))
    return json_format.MessageToDict(response.job)


def without_etag(kept: dict[str, Any]) -> dict[str, Any]:
    """It is the object's, which is another one here."""
    return {name: value for name, value in kept.items() if name != "etag"}


@pytest.mark.parametrize("release", RELEASES)
async def test_every_field_of_a_media_item_is_read(
    release: str, settings: Settings, blobs: Blobs
) -> None:
    await restore_bucket(release, blobs)
    kept = kept_json(release, "media.json")

    async with server(settings) as channel:
        assert [await read_media(channel, each["id"]) for each in kept] == [
            without_etag(each) for each in kept
        ]


@pytest.mark.parametrize("release", [each for each in RELEASES if each != FIRST])
async def test_every_field_of_what_redis_has_is_read(
    release: str, settings: Settings, blobs: Blobs, redis: Redis
) -> None:
    await restore_bucket(release, blobs)
    await restore_redis(release, redis)
    kept = kept_json(release, "jobs.json")

    async with server(settings) as channel:
        webhooks: Any = WebhookServiceStub(channel)
        listed = await media(channel).ListMedia(media_service_pb2.ListMediaRequest())
        deliveries = await webhooks.ListWebhookDeliveries(
            webhook_service_pb2.ListWebhookDeliveriesRequest()
        )

        assert [await read_job(channel, each["id"]) for each in kept] == kept
        assert [each.id for each in listed.media] == [
            each["id"] for each in kept_json(release, "media.json")
        ]
        assert [json_format.MessageToDict(each) for each in deliveries.deliveries] == kept_json(
            release, "webhooks.json"
        )


@pytest.mark.parametrize("release", [each for each in RELEASES if each != FIRST])
async def test_accepted_work_is_made_again_from_the_bucket_alone(
    release: str, settings: Settings, blobs: Blobs
) -> None:
    await restore_bucket(release, blobs)
    [unended] = [
        each for each in kept_json(release, "jobs.json") if each["state"] == "JOB_STATE_RUNNING"
    ]
    upload = kept_json(release, "upload.json")

    async with server(settings) as channel:
        ingest: Any = IngestServiceStub(channel)
        again = await read_job(channel, unended["id"])
        request = ingest_service_pb2.QueryUploadRequest(upload_id=upload["id"])
        queried = json_format.MessageToDict(await ingest.QueryUpload(request))

        requested = ("id", "kind", "url", "priority", "labels", "createTime", "requestedBy")
        assert again["state"] == job_pb2.JobState.Name(job_pb2.JOB_STATE_QUEUED)
        assert {name: again.get(name) for name in requested} == {
            name: unended.get(name) for name in requested
        }
        # The time of the object is that of the test.
        del queried["expireTime"], upload["query"]["expireTime"]
        assert queried == upload["query"]


async def test_jobs_of_the_first_builds_are_refused_with_what_to_do(
    settings: Settings, redis: Redis
) -> None:
    await restore_redis(FIRST, redis)

    with pytest.raises(Failure, match=r"has jobs of an older version .* Let its jobs end"):
        async with server(settings):
            pass
