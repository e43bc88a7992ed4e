"""The client's methods for subscriptions, and for podcast feeds of what is stored."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

from google.protobuf.field_mask_pb2 import FieldMask

from ingot.base_client import PAGE_SIZE, BaseClient
from ingot.request import to_duration
from ingot.v1.feed_pb2 import Feed
from ingot.v1.feed_service_pb2 import (
    CreateFeedRequest,
    CreateFeedResponse,
    DeleteFeedRequest,
    ListFeedsRequest,
)
from ingot.v1.job_pb2 import IngestOptions, JobPriority
from ingot.v1.media_pb2 import Selection
from ingot.v1.recipe_pb2 import Recipe
from ingot.v1.subscription_pb2 import Subscription
from ingot.v1.subscription_service_pb2 import (
    CheckSubscriptionRequest,
    CreateSubscriptionRequest,
    DeleteSubscriptionRequest,
    GetSubscriptionRequest,
    ListSubscriptionsRequest,
    MarkSubscriptionSeenRequest,
    UpdateSubscriptionRequest,
)


class SubscriptionCalls(BaseClient):
    """The methods of the client for subscriptions and podcast feeds."""

    async def follow(
        self,
        url: str,
        *,
        mark_seen: bool = False,
        selection: Selection | None = None,
        options: IngestOptions | None = None,
        recipes: Iterable[Recipe] = (),
        labels: Mapping[str, str] | None = None,
        priority: JobPriority.ValueType = JobPriority.JOB_PRIORITY_UNSPECIFIED,
        webhook_url: str = "",
        interval: timedelta | None = None,
        published_after: datetime | None = None,
        include_titles: Iterable[str] = (),
        exclude_titles: Iterable[str] = (),
        max_entries: int | None = None,
        request_id: str | None = None,
    ) -> Subscription:
        """Follow the list at `url`: each new entry becomes a job, from now on.

        With `mark_seen`, the entries that the list has already do not. `interval` is the time
        between two checks; None means an hour. `published_after` is aware. The titles are texts, of
        which a title must contain one, or must contain none, in any case. A check looks at the
        first `max_entries` of the list; None means 200. The other arguments are those of
        `ingest_video`, for each entry.
        """
        subscription = Subscription(
            url=url,
            selection=selection,
            options=options,
            recipes=recipes,
            labels=labels,
            priority=priority,
            webhook_url=webhook_url,
            interval=to_duration(interval),
            include_titles=include_titles,
            exclude_titles=exclude_titles,
            max_entries=max_entries,
        )
        if published_after is not None:
            subscription.published_after.FromDatetime(published_after)
        request = CreateSubscriptionRequest(
            subscription=subscription,
            mark_seen=mark_seen,
            request_id=str(uuid.uuid4()) if request_id is None else request_id,
        )
        method = self._connection.subscriptions.CreateSubscription
        return (await self._connection.call(method, request)).subscription

    async def subscription(self, subscription_id: str) -> Subscription:
        """Return a subscription. Raises SubscriptionNotFound."""
        request = GetSubscriptionRequest(subscription_id=subscription_id)
        method = self._connection.subscriptions.GetSubscription
        return (await self._connection.call(method, request)).subscription

    async def subscriptions(self) -> AsyncGenerator[Subscription, None]:
        """Yield all subscriptions, the latest first."""
        request = ListSubscriptionsRequest(page_size=PAGE_SIZE)
        method = self._connection.subscriptions.ListSubscriptions
        async for page in self._connection.pages(method, request):
            for subscription in page.subscriptions:
                yield subscription

    async def update_subscription(
        self,
        subscription_id: str,
        *,
        paused: bool | None = None,
        interval: timedelta | None = None,
        published_after: datetime | Literal["any"] | None = None,
        include_titles: Iterable[str] | None = None,
        exclude_titles: Iterable[str] | None = None,
        max_entries: int | None = None,
        selection: Selection | None = None,
        options: IngestOptions | None = None,
        recipes: Iterable[Recipe] | None = None,
        labels: Mapping[str, str] | None = None,
        webhook_url: str | None = None,
    ) -> Subscription:
        """Change a subscription, or pause and resume it; return it as it is now.

        None leaves a field as it is; an empty value removes what it held. The arguments are those
        of `follow`; a `published_after` "any" removes the limit. Raises SubscriptionNotFound.
        """
        fields = {
            "paused": paused,
            "interval": to_duration(interval),
            "published_after": published_after,
            "include_titles": include_titles,
            "exclude_titles": exclude_titles,
            "max_entries": max_entries,
            "selection": selection,
            "options": options,
            "recipes": recipes,
            "labels": labels,
            "webhook_url": webhook_url,
        }
        given = {field: value for field, value in fields.items() if value is not None}
        values = {field: value for field, value in given.items() if value != "any"}
        request = UpdateSubscriptionRequest(
            # The names and types are those above.
            subscription=Subscription(id=subscription_id, **values),  # type: ignore[arg-type]
            update_mask=FieldMask(paths=given),
        )
        method = self._connection.subscriptions.UpdateSubscription
        return (await self._connection.call(method, request)).subscription

    async def unfollow(self, subscription_id: str, *, allow_missing: bool = False) -> None:
        """Delete a subscription. Its jobs go on, and what is stored stays.

        Raises SubscriptionNotFound, unless `allow_missing` is set.
        """
        request = DeleteSubscriptionRequest(
            subscription_id=subscription_id, allow_missing=allow_missing
        )
        await self._connection.call(self._connection.subscriptions.DeleteSubscription, request)

    async def check_subscription(self, subscription_id: str) -> Subscription:
        """Have a subscription checked now. Raises SubscriptionNotFound."""
        request = CheckSubscriptionRequest(subscription_id=subscription_id)
        method = self._connection.subscriptions.CheckSubscription
        return (await self._connection.call(method, request)).subscription

    async def mark_subscription_seen(self, subscription_id: str) -> Subscription:
        """Mark all entries as seen that the list has now. Raises SubscriptionNotFound."""
        request = MarkSubscriptionSeenRequest(subscription_id=subscription_id)
        method = self._connection.subscriptions.MarkSubscriptionSeen
        return (await self._connection.call(method, request)).subscription

    async def create_feed(
        self,
        *,
        subscription_id: str = "",
        labels: Mapping[str, str] | None = None,
        title: str = "",
    ) -> CreateFeedResponse:
        """Make a podcast feed of a subscription, or of the media with all of these labels.

        The `path` of the response, at the HTTP port of the server, is the feed's address. It is a
        secret that cannot be read again. Raises SubscriptionNotFound.
        """
        feed = Feed(subscription_id=subscription_id, labels=labels, title=title)
        return await self._connection.call(
            self._connection.feeds.CreateFeed, CreateFeedRequest(feed=feed)
        )

    async def feeds(self) -> AsyncGenerator[Feed, None]:
        """Yield the podcast feeds of the caller, the latest first."""
        request = ListFeedsRequest(page_size=PAGE_SIZE)
        async for page in self._connection.pages(self._connection.feeds.ListFeeds, request):
            for feed in page.feeds:
                yield feed

    async def delete_feed(self, feed_id: str, *, allow_missing: bool = False) -> None:
        """Delete a podcast feed: its address does not work any more. Raises FeedNotFound."""
        request = DeleteFeedRequest(feed_id=feed_id, allow_missing=allow_missing)
        await self._connection.call(self._connection.feeds.DeleteFeed, request)
