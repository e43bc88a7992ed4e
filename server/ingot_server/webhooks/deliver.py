"""The delivery of webhooks by one worker: what is due is taken, sent, and noted."""

from __future__ import annotations

import asyncio
from typing import Final

from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.jobs.webhook_deliveries import Delivery, Sent, WebhookDeliveries
from ingot_server.log_events import Event
from ingot_server.outage import Outage
from ingot_server.webhooks.sender import LONGEST_DELAY, Sender, connected_sender

logger = EventLogger(__name__)

AT_ONCE: Final = 32
"""Requests that a worker makes at the same time."""
_SWEEP_SECONDS: Final = 1.0
_DELIVERING: Final = "delivery of webhooks"


async def keep_delivering(
    deliveries: WebhookDeliveries, settings: Settings, guard: EgressProxy, redis_outage: Outage
) -> None:
    """Send what is due, every second and while there is more; until cancelled."""
    sending: set[asyncio.Task[None]] = set()
    async with connected_sender(settings, guard) as sender:
        try:
            while True:
                try:
                    await _begin(deliveries, sender, sending)
                except Failure as failure:
                    await asyncio.sleep(redis_outage.failed(_DELIVERING, failure))
                    continue
                redis_outage.succeeded(_DELIVERING)
                if sending:
                    await asyncio.wait(
                        sending, timeout=_SWEEP_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                else:
                    await asyncio.sleep(_SWEEP_SECONDS)
        finally:
            await cancel_and_wait(*sending)


async def _begin(
    deliveries: WebhookDeliveries, sender: Sender, sending: set[asyncio.Task[None]]
) -> None:
    """Begin to send as many as fit, and leave their tasks in `sending` until they end."""
    if len(sending) >= AT_ONCE:
        return
    for delivery in await deliveries.take(AT_ONCE - len(sending), sender.lease):
        task = asyncio.create_task(deliver(deliveries, sender, delivery))
        sending.add(task)
        task.add_done_callback(sending.discard)


async def deliver(deliveries: WebhookDeliveries, sender: Sender, delivery: Delivery) -> None:
    """Make one attempt, and note what came of it.

    If that cannot be noted, the delivery is due again when its lease has ended.
    """
    try:
        sent = await sender.send(delivery)
    except Exception:
        # One that cannot be sent must not stop the others.
        logger.exception(Event.DELIVERY_DEFECT, "webhook %s", delivery.id, delivery_id=delivery.id)
        sent = Sent("Ingot has a defect; the worker's log has it.", LONGEST_DELAY)
    if sent.problem:
        logger.info(
            Event.DELIVERY_FAILED,
            "webhook %s, attempt %d: %s",
            delivery.id,
            delivery.attempts,
            sent.problem,
            delivery_id=delivery.id,
            attempt=delivery.attempts,
        )
    try:
        await deliveries.record(delivery, sent)
    except Failure as failure:
        logger.warning(
            Event.DELIVERY_FAILED,
            "webhook %s: %s",
            delivery.id,
            failure.message,
            delivery_id=delivery.id,
            reason=failure.reason,
        )
