"""Subscriptions on the command line: following lists, what is followed, and podcast feeds of it."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from ingot import args_to_request, render
from ingot.client import Client
from ingot.errors import SubscriptionNotFound
from ingot.output import write, write_stream_table
from ingot.v1.feed_pb2 import Feed
from ingot.v1.subscription_pb2 import Subscription
from ingot.v1.subscription_service_pb2 import DeleteSubscriptionResponse

COLUMNS: Final = ("id", "next check", "every", "jobs", "title", "url", "problem")
FEED_COLUMNS: Final = ("id", "created", "of", "title")


async def follow(client: Client, options: Namespace) -> None:
    """Follow the list at a URL, and print the subscription."""
    subscription = await client.follow(
        options.url,
        mark_seen=options.mark_seen,
        interval=options.every,
        published_after=options.since,
        include_titles=options.include,
        exclude_titles=options.exclude,
        max_entries=options.max_entries,
        priority=args_to_request.priority(options),
        **args_to_request.follow(options),
    )
    write(options, subscription, lambda found: f"{found.id} follows {found.url}.")


async def make_feed(client: Client, options: Namespace) -> None:
    """Make a podcast feed, and print the path of its address."""
    name = options.subscription
    subscription_id = (await find_subscription(client, name)).id if name else ""
    made = await client.create_feed(
        subscription_id=subscription_id, labels=dict(options.label), title=options.title
    )
    write(options, made, lambda made: made.path)


async def list_feeds(client: Client, options: Namespace) -> None:
    """Print the podcast feeds of the caller."""
    await write_stream_table(options, client.feeds(), FEED_COLUMNS, feed_row)


def feed_row(feed: Feed) -> tuple[str, ...]:
    """Return the row of a feed for FEED_COLUMNS."""
    labels = ", ".join(f"{key}={value}" for key, value in sorted(feed.labels.items()))
    return feed.id, _moment(feed.create_time), feed.subscription_id or labels, feed.title


async def list_subscriptions(client: Client, options: Namespace) -> None:
    """Print all subscriptions."""
    await write_stream_table(options, client.subscriptions(), COLUMNS, row)


async def change_subscription(client: Client, options: Namespace, name: str) -> None:
    """Do what the command says with a subscription, named by id or URL, and print the result."""
    found = await find_subscription(client, name)
    if options.command == "unfollow":
        await client.unfollow(found.id)
        write(options, DeleteSubscriptionResponse(), lambda _: f"{found.url} is not followed now.")
        return
    if options.command == "check":
        changed = await client.check_subscription(found.id)
    else:
        changed = await client.update_subscription(found.id, paused=options.command == "pause")
    done = {"check": "is checked now", "pause": "is paused", "resume": "is checked again"}
    write(options, changed, lambda changed: f"{changed.url} {done[options.command]}.")


def row(subscription: Subscription) -> tuple[str, ...]:
    """Return the row of a subscription for COLUMNS."""
    interval = subscription.interval.ToTimedelta().total_seconds()
    return (
        subscription.id,
        "paused" if subscription.paused else _moment(subscription.next_check_time),
        render.duration(interval),
        str(subscription.job_count),
        render.printable(subscription.title),
        render.printable(subscription.url),
        render.printable(subscription.last_error.message),
    )


async def find_subscription(client: Client, name: str) -> Subscription:
    """Return the subscription with this id, or the latest one of this URL."""
    if "://" not in name:
        return await client.subscription(name)
    async for each in client.subscriptions():
        if each.url == name:
            return each
    raise SubscriptionNotFound(f"{name} is not followed. `ingot following` lists what is.")


def _moment(time: Timestamp) -> str:
    return f"{time.ToDatetime(UTC).astimezone():%Y-%m-%d %H:%M}" if time.ByteSize() else ""
