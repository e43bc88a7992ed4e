"""Webhooks from the request to the receiver, and the calls that list and replay them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from ingot.v1.ingest_service_pb2 import (
    CompleteUploadRequest,
    UploadChunk,
    UploadHeader,
    UploadRequest,
)
from ingot.v1.job_service_pb2 import GetJobRequest, RetryJobRequest
from ingot.v1.webhook_pb2 import WebhookDelivery
from ingot.v1.webhook_service_pb2 import (
    ListWebhookDeliveriesRequest,
    ReplayWebhookDeliveryRequest,
)
from ingot_server.config import Settings
from ingot_server.setting_values import Secret
from ingot_server.webhooks.signature import secrets_of
from tests.harness import Harness, running_harness
from tests.media import media
from tests.origin import Origin, Page
from tests.refusals import refusal
from tests.waiting import JOB_SECONDS, TIMEOUT_SECONDS
from tests.webhook_receiver import Receiver, receiver

pytestmark = pytest.mark.any_stores

TINY = media("tiny.mp4").read_bytes()
SECRET = "whsec_" + base64.b64encode(b"n" * 32).decode()


@pytest.fixture
async def harness(settings: Settings) -> AsyncIterator[Harness]:
    async with running_harness(settings.replace(webhook_secrets=Secret(SECRET))) as running:
        yield running


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    async with receiver() as running:
        yield running


async def delivered(harness: Harness, **request: Any) -> list[WebhookDelivery]:
    """What is on record when nothing is pending."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            answer = await harness.webhooks.ListWebhookDeliveries(
                ListWebhookDeliveriesRequest(**request)
            )
            found = list(answer.deliveries)
            if found and all(each.state != WebhookDelivery.STATE_PENDING for each in found):
                return found
            await asyncio.sleep(0.01)


async def test_a_request_gets_a_webhook_also_if_everything_is_stored_already(
    harness: Harness, origin: Origin, hook: Receiver
) -> None:
    url = origin.serve("/clip.mp4", Page(TINY))
    target = hook.url("/hook?token=hidden")
    async with asyncio.timeout(JOB_SECONDS):
        first = await harness.ingest(url, webhook_url=target)
        [one] = await hook.got(1)
        again = await harness.ask(url, webhook_url=target)
        received = await hook.got(2)

    one.verify(secrets_of(target, harness.settings))
    assert one.event.type == "job.succeeded"
    assert one.event.data.media_id == first.media.id
    assert again.cached
    assert received[1].event.data.job_id == again.id != first.id

    later, earlier = await delivered(harness)
    assert (later.job_id, earlier.job_id) == (again.id, first.id)
    assert earlier.url == hook.url("/hook")
    assert earlier.event == one.event
    assert [earlier] == await delivered(harness, job_id=first.id)
    shown = await harness.jobs.GetJob(GetJobRequest(job_id=first.id))
    assert "hidden" not in str(shown)


async def test_pages_of_deliveries_and_a_replay(harness: Harness, hook: Receiver) -> None:
    jobs = [
        await harness.ask(f"http://example.invalid/{number}.mp4", webhook_url=hook.url())
        for number in range(3)
    ]
    for job in jobs:
        await harness.cancel(job)
    found = await delivered(harness)
    assert [each.job_id for each in found] == [job.id for job in reversed(jobs)]
    request = ListWebhookDeliveriesRequest(page_size=2, state=WebhookDelivery.STATE_DELIVERED)
    page = await harness.webhooks.ListWebhookDeliveries(request)
    request.page_token = page.next_page_token
    rest = await harness.webhooks.ListWebhookDeliveries(request)
    assert [*page.deliveries, *rest.deliveries] == found
    assert not rest.next_page_token

    answer = await harness.webhooks.ReplayWebhookDelivery(
        ReplayWebhookDeliveryRequest(delivery_id=found[0].id)
    )
    assert answer.delivery.state == WebhookDelivery.STATE_PENDING
    async with asyncio.timeout(TIMEOUT_SECONDS):
        received = await hook.got(4)
    assert [each.id for each in received].count(found[0].id) == 2
    assert len({each.body for each in received if each.id == found[0].id}) == 1

    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await harness.webhooks.ReplayWebhookDelivery(
            ReplayWebhookDeliveryRequest(delivery_id="nothing")
        )
    assert refusal(unknown.value).reason == "WEBHOOK_DELIVERY_NOT_FOUND"


async def test_uploads_and_retries_have_webhooks_too(
    harness: Harness, origin: Origin, hook: Receiver
) -> None:
    header = UploadHeader(filename="a.mp4", size_bytes=len(TINY), webhook_url=hook.url("/upload"))
    parts = [UploadRequest(header=header), UploadRequest(chunk=UploadChunk(data=TINY))]
    uploaded = (await harness.api.Upload(iter(parts))).job
    await harness.end(uploaded)
    failed = await harness.ingest(origin.serve("/clip.mp4", Page(b"", status=404)))
    origin.serve("/clip.mp4", Page(TINY))
    request = RetryJobRequest(job_id=failed.id, webhook_url=hook.url("/retry"))
    retried = (await harness.jobs.RetryJob(request)).job
    await harness.end(retried)

    async with asyncio.timeout(TIMEOUT_SECONDS):
        received = await hook.got(2)
    assert {each.event.data.job_id for each in received} == {uploaded.id, retried.id}

    for call, message in (
        (harness.jobs.RetryJob, RetryJobRequest(job_id="a", webhook_url="http://10.0.0.1/")),
        (
            harness.api.CompleteUpload,
            CompleteUploadRequest(upload_id="a", webhook_url="http://10.0.0.1/"),
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(message)
        assert refusal(refused.value).reason == "ADDRESS_FORBIDDEN"


async def test_a_url_that_is_forbidden_is_refused_before_there_is_a_job(harness: Harness) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await harness.ask("http://example.com/a.mp4", webhook_url="http://10.0.0.1/hook")
    assert refusal(refused.value).reason == "ADDRESS_FORBIDDEN"
    assert await harness.records.list(limit=1) == []


async def test_without_secrets_a_request_cannot_have_a_webhook(settings: Settings) -> None:
    async with running_harness(settings) as harness:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await harness.ask("http://example.com/a.mp4", webhook_url="https://example.com/hook")
    assert refusal(refused.value).reason == "WEBHOOKS_NOT_CONFIGURED"
