"""The deliveries in the bucket: they are written there if they last, and restored from there.

A delivery that is accepted within a minute costs no request: until then, the journal has the end of
its job. Those that last longer are written together, four times a minute at most. Once a minute one
process compares the bucket with Redis, for one LIST.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC
from typing import Final

from ingot_server.errors import Failure
from ingot_server.jobs.lifecycle import new_job_id
from ingot_server.jobs.webhook_deliveries import Delivery, WebhookDeliveries
from ingot_server.journal.outages import JournalOutages
from ingot_server.library.blobs import Blobs
from ingot_server.library.manifest_pb2 import PendingDelivery
from ingot_server.library.webhook_objects import WebhookObjects
from ingot_server.redis import Redis

_SECONDS: Final = 15.0
_STORING: Final = "storage of webhooks"
_CHUNK: Final = 500


async def keep_stored(deliveries: WebhookDeliveries, blobs: Blobs, redis: Redis) -> None:
    """Write, restore and remove what is due, every 15 seconds and when Redis may have lost data.

    Runs until it is cancelled.
    """
    objects = WebhookObjects(blobs)
    outages, wakeup = JournalOutages(_STORING, redis.outage), redis.losses.wakeup()
    while True:
        try:
            if await deliveries.begin_check():
                await restore_lost(deliveries, objects)
            await write_lasting(deliveries, objects)
            await remove_empty(deliveries, objects)
        except Failure as failure:
            await asyncio.sleep(outages.failed(failure))
        else:
            outages.succeeded()
            await wakeup.wait(_SECONDS)


async def write_lasting(deliveries: WebhookDeliveries, objects: WebhookObjects) -> int:
    """Write the pending deliveries that have lasted for a minute; return their number."""
    lasting = await deliveries.unwritten()
    if lasting:
        group = new_job_id()
        await objects.write(group, [_pending(each) for each in lasting])
        # If Redis has lost one since, the group is unknown, and restored with the next check.
        await deliveries.note(group, [each.id for each in lasting])
    return len(lasting)


async def restore_lost(deliveries: WebhookDeliveries, objects: WebhookObjects) -> int:
    """Make the deliveries again that only the bucket has; return how many groups were unknown."""
    groups = await objects.list()
    count = 0
    for begin in range(0, len(groups), _CHUNK):
        for group in await deliveries.unknown(groups[begin : begin + _CHUNK]):
            count += 1
            await _restore(deliveries, group, await objects.read(group))
    return count


async def remove_empty(deliveries: WebhookDeliveries, objects: WebhookObjects) -> None:
    """Remove the groups of which all deliveries have ended."""
    groups = await deliveries.empty()
    if groups:
        await objects.remove(groups)
        await deliveries.removed(groups)


async def _restore(
    deliveries: WebhookDeliveries, group: str, found: Sequence[PendingDelivery]
) -> None:
    for each in found:
        create_time = each.create_time.ToDatetime(UTC)
        await deliveries.restore(each.id, each.url, each.body, create_time, each.traceparent)
    if found:
        await deliveries.note(group, [each.id for each in found])


def _pending(delivery: Delivery) -> PendingDelivery:
    pending = PendingDelivery(
        id=delivery.id, url=delivery.url, body=delivery.body, traceparent=delivery.trace
    )
    pending.create_time.FromDatetime(delivery.since)
    return pending
