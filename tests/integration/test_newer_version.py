"""Where a newer version of Ingot works or has worked, this one does no harm and says what to do."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from ingot.v1 import media_service_pb2
from ingot.v1.job_pb2 import JOB_KIND_INGEST_AND_CONVERT, Job
from ingot.v1.media_pb2 import Media
from ingot.v1.media_service_pb2_grpc import MediaServiceStub
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.api.store_health import StoreHealth, Stores
from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.doctor.examination import examine
from ingot_server.errors import Failure
from ingot_server.findings import Level
from ingot_server.jobs.placement import Work
from ingot_server.jobs.records import Records
from ingot_server.library.blobs import Blobs
from ingot_server.library.journal_objects import JournalObjects
from ingot_server.library.manifest_pb2 import JournalGroup, WebhookGroup
from ingot_server.library.webhook_objects import WebhookObjects
from ingot_server.redis import Redis
from ingot_server.redis_schema import SCHEMA_VERSION, SCHEMA_VERSION_KEY
from tests.harness import Harness
from tests.records import new_job
from tests.refusals import reason_name_of, refused
from tests.waiting import until

pytestmark = pytest.mark.any_stores

NEWER = "A newer version of Ingot works on this Redis.* Upgrade this process"
MEDIA_ID = "2fsozj2w2ztcfi73a2srw2iimg745kahj3ctttmusiprf22nmd7q"


@pytest.fixture
async def newer(redis: Redis) -> None:
    """Redis has the schema of a newer version."""
    await redis.set(redis.key(SCHEMA_VERSION_KEY), SCHEMA_VERSION + 1)


@pytest.mark.usefixtures("newer")
async def test_no_process_starts(settings: Settings) -> None:
    with pytest.raises(Failure, match=NEWER):
        async with running(settings):
            pass
    [found] = [each for each in await examine(settings) if each.check == "schema version of Redis"]
    assert found.level is Level.PROBLEM


async def test_a_process_that_starts_leaves_its_schema_version(
    settings: Settings, redis: Redis
) -> None:
    async with running(settings):
        assert await redis.get(redis.key(SCHEMA_VERSION_KEY)) == str(SCHEMA_VERSION).encode()


@pytest.mark.usefixtures("newer")
async def test_no_job_is_made_and_no_worker_gets_one(records: Records) -> None:
    with pytest.raises(Failure, match=NEWER):
        await records.create(new_job())
    with pytest.raises(Failure, match=NEWER):
        await records.dispatch.announce("worker", Work.FETCH, 1)


async def test_health_says_so(redis: Redis, blobs: Blobs) -> None:
    health = StoreHealth(redis, blobs)
    changes = []

    async def changed(usable: Stores) -> None:
        changes.append(usable)

    health.start(changed)
    await redis.set(redis.key(SCHEMA_VERSION_KEY), SCHEMA_VERSION + 1)
    await until(lambda: changes)
    await health.close()

    assert Stores.REDIS not in changes[0]


async def test_a_media_item_of_a_newer_version_is_left_alone(
    settings: Settings, blobs: Blobs
) -> None:
    key, content = f"media/{MEDIA_ID}/media.json", b'{"schemaVersion": 99, "media": {}}'
    await blobs.put(key, content, content_type="application/json")

    async with (
        running(settings.replace(http_address="")) as addresses,
        grpc.aio.insecure_channel(addresses.grpc) as channel,
    ):
        media: Any = MediaServiceStub(channel)
        read = await refused(media.GetMedia(media_service_pb2.GetMediaRequest(media_id=MEDIA_ID)))
        deletion = media_service_pb2.DeleteMediaRequest(media_id=MEDIA_ID)
        deleted = await refused(media.DeleteMedia(deletion))
        listed = await media.ListMedia(media_service_pb2.ListMediaRequest())

    for each in read, deleted:
        assert each.reason == "WRITTEN_BY_NEWER_VERSION"
        assert each.code == grpc.StatusCode.UNAVAILABLE
    assert not listed.media
    found = await blobs.get(key)
    assert found is not None
    assert found[0] == content


async def test_groups_of_a_newer_version_are_not_taken_for_empty(blobs: Blobs) -> None:
    await blobs.put(
        "journal/group",
        JournalGroup(schema_version=99).SerializeToString(),
        content_type="application/x",
    )
    await blobs.put(
        "webhooks/group",
        WebhookGroup(schema_version=99).SerializeToString(),
        content_type="application/x",
    )

    with pytest.raises(Failure, match="journal/group was written by a newer version"):
        await JournalObjects(blobs).read("group")
    with pytest.raises(Failure, match="webhooks/group was written by a newer version"):
        await WebhookObjects(blobs).read("group")


@pytest.mark.parametrize(
    "new",
    [
        # A field of a number that the contract does not have, without content.
        {"recipes": [Recipe.FromString(b"\xfa\x07\x00")], "kind": JOB_KIND_INGEST_AND_CONVERT},
        {"kind": 999},
    ],
)
async def test_a_job_that_a_newer_server_has_accepted_ends_with_what_to_do(
    harness: Harness, new: dict[str, Any]
) -> None:
    requested = Job(**new, media=Media(id="media"), url="http://127.0.0.1/clip.mp4")
    job = (await harness.records.create(requested)).job

    ended = await harness.end(job)

    assert reason_name_of(ended) == "WRITTEN_BY_NEWER_VERSION"
    assert "Upgrade the workers" in ended.error.message
