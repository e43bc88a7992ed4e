"""Deliveries of webhooks: what one attempt does, what is tried again, and what Redis may lose."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import WebhookVerificationError

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.webhook_pb2 import WebhookDelivery
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure, reason_name
from ingot_server.jobs.changes import failed
from ingot_server.jobs.journal_index import Accepted
from ingot_server.jobs.records import Records
from ingot_server.jobs.webhook_deliveries import PER_HOST, Delivery, WebhookDeliveries
from ingot_server.journal.ends import EndsWriter
from ingot_server.journal.removal import remove_due
from ingot_server.journal.writer import JournalWriter
from ingot_server.library.blobs import Blobs
from ingot_server.library.webhook_objects import WebhookObjects
from ingot_server.redis import Redis
from ingot_server.setting_values import Secret
from ingot_server.webhooks.deliver import deliver, keep_delivering
from ingot_server.webhooks.sender import connected_sender
from ingot_server.webhooks.signature import secrets_of
from ingot_server.webhooks.storage import remove_empty, restore_lost, write_lasting
from tests.records import new_job
from tests.waiting import TIMEOUT_SECONDS
from tests.webhook_receiver import Receiver, receiver

LEASE = timedelta(minutes=1)


def secret(fill: bytes) -> str:
    return "whsec_" + base64.b64encode(fill * 32).decode()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.replace(webhook_secrets=Secret(secret(b"n")), retry_backoff=timedelta(0))


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    async with receiver() as running:
        yield running


@pytest.fixture
def deliveries(redis: Redis, settings: Settings) -> WebhookDeliveries:
    return WebhookDeliveries(redis, settings)


async def ended(records: Records, url: str = "", media_id: str = "media") -> Job:
    """A job that a call with a webhook got, and that has failed."""
    creation = await records.create(new_job(media_id), webhook_url=url)
    failure = Failure(reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, "The source has no such media.")
    claim = await records.claim(creation.job.id)
    assert claim is not None
    failed(failure)(claim.job)
    return await records.write(claim.job, claim.token)


async def attempt(deliveries: WebhookDeliveries, settings: Settings) -> Sequence[Delivery]:
    """Send all that is due once, and return what is on record then."""
    guard = EgressProxy(settings)
    await guard.start()
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS), connected_sender(settings, guard) as sender:
            for delivery in await deliveries.take(10, LEASE):
                await deliver(deliveries, sender, delivery)
    finally:
        await guard.close()
    return await deliveries.page(limit=10)


async def make_due(redis: Redis) -> None:
    """Let the groups of the journal be due for removal."""
    for group in await redis.zrange("ingot:journal-due", 0, -1):
        assert isinstance(group, bytes)
        await redis.zadd("ingot:journal-due", {group: 1})


@pytest.mark.any_stores
async def test_the_end_of_a_job_is_signed_and_sent_once(
    records: Records, settings: Settings, deliveries: WebhookDeliveries, hook: Receiver
) -> None:
    job = await ended(records, hook.url("/hook?token=1"))

    [delivery] = await attempt(deliveries, settings)

    assert (delivery.state, delivery.attempts) == (WebhookDelivery.STATE_DELIVERED, 1)
    assert await deliveries.take(1, LEASE) == []
    [received] = hook.received
    received.verify(secrets_of(hook.url(), settings))
    assert received.id == delivery.id
    assert received.path == "/hook?token=1"
    assert len(received.body) < 1024
    event = received.event
    assert (event.type, event.data.job_id, event.data.media_id) == ("job.failed", job.id, "media")
    assert event.data.state == job_pb2.JOB_STATE_FAILED
    assert event.data.reason == reason_pb2.REASON_MEDIA_DOES_NOT_EXIST
    assert event.timestamp == job.end_time


@pytest.mark.any_stores
async def test_callers_that_share_a_job_have_a_webhook_each_and_secrets_of_their_own(
    records: Records, settings: Settings, deliveries: WebhookDeliveries, hook: Receiver
) -> None:
    one, other = hook.url("/one"), hook.url("/other")
    first = (await records.create(new_job(), webhook_url=one)).job
    assert (await records.create(new_job(), webhook_url=other)).job.id == first.id
    await records.create(new_job(), webhook_url=one)
    await records.cancel(first.id)

    await attempt(deliveries, settings)

    by_path = {received.path: received for received in hook.received}
    assert sorted(by_path) == ["/one", "/other"]
    by_path["/one"].verify(secrets_of(one, settings))
    assert by_path["/one"].event.type == "job.cancelled"
    with pytest.raises(WebhookVerificationError):
        by_path["/one"].verify(secrets_of(other, settings))


@pytest.mark.any_stores
async def test_the_operator_hears_of_jobs_and_not_of_their_parts(
    redis: Redis, settings: Settings, hook: Receiver
) -> None:
    settings = settings.replace(webhook_url=hook.url("/all"))
    records, deliveries = Records(redis, settings), WebhookDeliveries(redis, settings)
    job = await ended(records)
    part = new_job("part", state=job_pb2.JOB_STATE_CANCELLED)
    part.parent_job_id = job.id
    await records.create(part)

    await attempt(deliveries, settings)

    [received] = hook.received
    assert received.event.data.job_id == job.id
    # The operator's own webhook is signed with the secret itself.
    received.verify([secret(b"n")])


@pytest.mark.any_stores
async def test_a_receiver_accepts_both_secrets_while_they_are_replaced(
    records: Records, settings: Settings, deliveries: WebhookDeliveries, hook: Receiver
) -> None:
    both = settings.replace(webhook_secrets=Secret(f"{secret(b'n')},{secret(b'o')}"))
    await ended(records, hook.url())

    await attempt(deliveries, both)

    [received] = hook.received
    for own in secrets_of(hook.url(), both):
        received.verify([own])
    assert len(received.headers["webhook-signature"].split()) == 2


@pytest.mark.any_stores
@pytest.mark.parametrize(
    ("status", "headers", "least_delay", "state"),
    [
        (500, {}, timedelta(0), WebhookDelivery.STATE_PENDING),
        (404, {}, timedelta(0), WebhookDelivery.STATE_PENDING),
        (429, {"Retry-After": "300"}, timedelta(minutes=4), WebhookDelivery.STATE_PENDING),
        (307, {"Location": "/elsewhere"}, timedelta(0), WebhookDelivery.STATE_PENDING),
        (410, {}, timedelta(0), WebhookDelivery.STATE_FAILED),
    ],
)
async def test_what_a_response_means(
    records: Records,
    settings: Settings,
    deliveries: WebhookDeliveries,
    hook: Receiver,
    status: int,
    headers: dict[str, str],
    least_delay: timedelta,
    state: WebhookDelivery.State.ValueType,
) -> None:
    hook.answers.append((status, headers))
    await ended(records, hook.url("/secret-path"))

    [delivery] = await attempt(deliveries, settings)

    assert len(hook.received) == 1
    assert delivery.state == state
    assert delivery.problem == f"127.0.0.1 returned the status {status}."
    assert delivery.due - datetime.now(UTC) >= least_delay or state != WebhookDelivery.STATE_PENDING


@pytest.mark.any_stores
async def test_410_disables_the_url_until_a_delivery_is_replayed(
    records: Records, settings: Settings, deliveries: WebhookDeliveries, hook: Receiver
) -> None:
    hook.answers.append((410, {}))
    await ended(records, hook.url(), "one")
    await attempt(deliveries, settings)
    await ended(records, hook.url(), "two")
    latest, first = await attempt(deliveries, settings)
    assert len(hook.received) == 1
    assert latest.state == WebhookDelivery.STATE_FAILED

    replayed = await deliveries.replay(first.id)
    assert replayed is not None
    assert (replayed.state, replayed.attempts) == (WebhookDelivery.STATE_PENDING, 0)
    await ended(records, hook.url(), "three")
    await attempt(deliveries, settings)
    assert len(hook.received) == 3
    assert [received.id for received in hook.received].count(first.id) == 2


@pytest.mark.any_stores
async def test_a_delivery_is_given_up_when_its_time_is_over(
    redis: Redis, settings: Settings, hook: Receiver
) -> None:
    settings = settings.replace(webhook_ttl=timedelta(milliseconds=1), retry_backoff=LEASE)
    deliveries = WebhookDeliveries(redis, settings)
    hook.answers.append((500, {}))
    await ended(Records(redis, settings), hook.url())
    await attempt(deliveries, settings)
    # It is forgotten soon, as it is kept no longer than it was tried.
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while await deliveries.page(limit=1):
            # What takes the due ones forgets those that have expired.
            assert await deliveries.take(1, LEASE) == []


@pytest.mark.any_stores
@pytest.mark.parametrize("allow", ["127.0.0.0/8", "HOST"])
async def test_a_private_address_gets_a_webhook_only_if_a_setting_allows_it(
    redis: Redis, settings: Settings, hook: Receiver, allow: str
) -> None:
    settings = settings.replace(egress_allow_loopback=False)
    deliveries = WebhookDeliveries(redis, settings)
    await ended(Records(redis, settings), hook.url())

    [refused] = await attempt(deliveries, settings)
    assert refused.state == WebhookDelivery.STATE_PENDING
    assert "127.0.0.1 is never contacted" in refused.problem
    assert hook.received == []

    host = hook.base.removeprefix("http://")
    open_settings = settings.replace(egress_allow=allow.replace("HOST", host))
    await deliveries.replay(refused.id)
    [sent] = await attempt(deliveries, open_settings)
    assert sent.state == WebhookDelivery.STATE_DELIVERED


@pytest.mark.any_stores
async def test_a_name_that_leads_out_of_an_allowed_network_is_refused_when_it_is_dialled(
    redis: Redis, settings: Settings, hook: Receiver
) -> None:
    settings = settings.replace(egress_allow_loopback=False, egress_allow="10.0.0.0/8")
    deliveries = WebhookDeliveries(redis, settings)
    await ended(Records(redis, settings), hook.url().replace("127.0.0.1", "localhost"))
    [refused] = await attempt(deliveries, settings)
    assert refused.state == WebhookDelivery.STATE_PENDING
    assert hook.received == []


@pytest.mark.any_stores
async def test_a_receiver_that_was_down_gets_it_when_it_is_up(
    records: Records, settings: Settings, deliveries: WebhookDeliveries, redis: Redis
) -> None:
    async with receiver() as down:
        url = down.url()
    await ended(records, url)
    [waiting] = await attempt(deliveries, settings)
    assert waiting.state == WebhookDelivery.STATE_PENDING
    assert "refused" in waiting.problem or "reached" in waiting.problem
    assert waiting.job_id in waiting.id


@pytest.mark.any_stores
async def test_workers_share_the_deliveries_and_a_host_gets_few_at_once(
    redis: Redis, settings: Settings, hook: Receiver
) -> None:
    records, deliveries = Records(redis, settings), WebhookDeliveries(redis, settings)
    hook.gate = asyncio.Event()
    count = 2 * PER_HOST
    for number in range(count):
        await ended(records, hook.url(f"/{number}"), f"media{number}")
    guards = [EgressProxy(settings) for _ in range(2)]
    for guard in guards:
        await guard.start()
    workers = [
        asyncio.create_task(keep_delivering(deliveries, settings, guard, redis.outage))
        for guard in guards
    ]
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert len(await hook.got(PER_HOST)) == PER_HOST
        assert await deliveries.take(count, LEASE) == []
        hook.gate.set()
        received = await hook.got(count)
    assert len({each.id for each in received}) == count
    await cancel_and_wait(*workers)
    for guard in guards:
        await guard.close()


@pytest.mark.any_stores
async def test_another_worker_sends_what_a_killed_one_has_taken(
    records: Records, settings: Settings, deliveries: WebhookDeliveries, hook: Receiver
) -> None:
    await ended(records, hook.url())
    [taken] = await deliveries.take(1, timedelta(0))  # and its worker is killed

    [delivery] = await attempt(deliveries, settings)

    assert delivery.state == WebhookDelivery.STATE_DELIVERED
    assert [received.id for received in hook.received] == [taken.id]
    assert delivery.attempts == 2


@pytest.mark.parametrize("when", ["accepted", "ended", "recorded"])
async def test_a_webhook_survives_the_loss_of_redis(
    records: Records,
    settings: Settings,
    deliveries: WebhookDeliveries,
    redis: Redis,
    blobs: Blobs,
    hook: Receiver,
    when: str,
) -> None:
    writer = JournalWriter(records.journal, blobs)
    job = (await records.create(new_job(), webhook_url=hook.url("/one"))).job
    await writer.enter(Accepted(job, "caller", "media", webhook_urls=(hook.url("/one"),)))
    joined = await records.create(new_job(), webhook_url=hook.url("/two"))
    assert not joined.in_journal
    await writer.ensure(joined.job)
    assert (await records.create(new_job())).in_journal
    if when != "accepted":
        await records.cancel(job.id)
    if when == "recorded":
        await EndsWriter(records.journal, blobs).record_due()
    await redis.flushall()

    await writer.restorer.restore()
    await records.cancel(job.id)
    await attempt(deliveries, settings)

    assert sorted(received.path for received in hook.received) == ["/one", "/two"]
    assert {received.event.data.job_id for received in hook.received} == {job.id}


async def test_a_delivery_that_lasts_is_in_the_bucket_until_it_ends(
    records: Records,
    settings: Settings,
    deliveries: WebhookDeliveries,
    redis: Redis,
    blobs: Blobs,
    hook: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ingot_server.jobs.webhook_deliveries.WRITTEN_AFTER", timedelta(0))
    objects = WebhookObjects(blobs)
    hook.answers.append((500, {}))
    await ended(records, hook.url())
    await ended(records, hook.url("/other"), "other")
    before = await attempt(deliveries, settings)
    assert await write_lasting(deliveries, objects) == 1
    assert await write_lasting(deliveries, objects) == 0
    [group] = await objects.list()
    await redis.flushall()

    assert await restore_lost(deliveries, objects) == 1
    assert await restore_lost(deliveries, objects) == 0
    [again] = await attempt(deliveries, settings)

    lost = next(each for each in before if each.id == again.id)
    assert again.state == WebhookDelivery.STATE_DELIVERED
    assert (again.body, again.create_time) == (lost.body, lost.create_time)
    await remove_empty(deliveries, objects)
    assert await objects.list() == []
    assert group


async def test_the_end_of_a_job_stays_in_the_journal_while_its_delivery_is_nowhere_else(
    records: Records, deliveries: WebhookDeliveries, redis: Redis, blobs: Blobs, hook: Receiver
) -> None:
    writer = JournalWriter(records.journal, blobs)
    job = (await records.create(new_job(), webhook_url=hook.url())).job
    await writer.enter(Accepted(job, "caller", "media", webhook_urls=(hook.url(),)))
    await records.cancel(job.id)
    await EndsWriter(records.journal, blobs).record_due()
    [delivery] = await deliveries.page(limit=1)
    # Two minutes pass: the delivery is old, and the group of ends is due.
    await redis.zadd("ingot:webhook-unwritten", {delivery.id: 1})
    await make_due(redis)

    await remove_due(records.journal, blobs)
    kept = [found.key for found in await blobs.list_objects("journal/")]
    assert [key for key in kept if key.endswith("-ends")]

    assert await write_lasting(deliveries, WebhookObjects(blobs)) == 1
    await redis.delete("ingot:journal-removal")
    await make_due(redis)
    await remove_due(records.journal, blobs)
    assert await blobs.list_objects("journal/") == []


@pytest.mark.any_stores
async def test_a_job_has_a_bounded_number_of_webhooks(records: Records) -> None:
    for number in range(100):
        await records.create(new_job(), webhook_url=f"http://example.com/{number}")
    with pytest.raises(Failure) as refused:
        await records.create(new_job(), webhook_url="http://example.com/another")
    assert reason_name(refused.value.reason) == "TOO_MANY_WEBHOOKS"
    await records.create(new_job(), webhook_url="http://example.com/7")
