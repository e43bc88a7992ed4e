"""The deliveries of webhooks on the command line: their list, and sending them again."""

from __future__ import annotations

from argparse import Namespace
from typing import Final

from ingot.client import Client
from ingot.enums import name_of
from ingot.output import write_stream_table, write_table
from ingot.v1.webhook_pb2 import WebhookDelivery

_COLUMNS: Final = ("id", "event", "state", "attempts", "url", "problem")


async def list_deliveries(client: Client, options: Namespace) -> None:
    """Print the deliveries that match the options."""
    state = f"STATE_{(options.state or 'unspecified').upper()}"
    found = client.webhook_deliveries(job_id=options.job, state=WebhookDelivery.State.Value(state))
    await write_stream_table(options, found, _COLUMNS, _row)


async def replay_deliveries(client: Client, options: Namespace) -> None:
    """Have deliveries sent again, until one fails, and print them."""
    replayed = [await client.replay_webhook(each) for each in options.delivery_ids]
    write_table(options, replayed, _COLUMNS, _row)


def _row(delivery: WebhookDelivery) -> tuple[str, ...]:
    return (
        delivery.id,
        delivery.event.type,
        name_of(WebhookDelivery.State, delivery.state).lower(),
        str(delivery.attempt_count),
        delivery.url,
        delivery.last_problem,
    )
