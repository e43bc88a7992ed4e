"""FeedService: which podcast feeds there are. `feed_pages.py` serves them."""

from __future__ import annotations

import secrets
from typing import Final

from ingot.v1 import feed_service_pb2, reason_pb2
from ingot.v1.feed_service_pb2 import (
    CreateFeedRequest,
    CreateFeedResponse,
    DeleteFeedRequest,
    DeleteFeedResponse,
    ListFeedsRequest,
    ListFeedsResponse,
)
from ingot_server.api import pagination
from ingot_server.api.caller import Caller, Service
from ingot_server.api.feed_pages import PATH
from ingot_server.api.status import invalid
from ingot_server.api.store_health import Stores
from ingot_server.config import Settings
from ingot_server.errors import Failure, quota_exceeded
from ingot_server.following.subscriptions import Subscriptions, not_found
from ingot_server.library.blobs import Blobs
from ingot_server.library.feed_objects import FeedObjects, feed_id, new_token
from ingot_server.library.manifest_pb2 import StoredFeed

_KEY_BYTES: Final = 32


class FeedService(Service):
    """The service of podcast feeds."""

    descriptor = feed_service_pb2.DESCRIPTOR.services_by_name["FeedService"]
    needs = Stores.S3

    def __init__(self, blobs: Blobs, subscriptions: Subscriptions, settings: Settings) -> None:
        self._feeds = FeedObjects(blobs)
        self._subscriptions = subscriptions
        self._most = settings.feeds_per_caller

    async def create_feed(self, request: CreateFeedRequest, caller: Caller) -> CreateFeedResponse:
        wanted = request.feed
        if bool(wanted.subscription_id) == bool(wanted.labels):
            raise invalid({"feed": "must have either a subscription_id or labels"})
        if wanted.subscription_id:
            found = await self._subscriptions.get(wanted.subscription_id)
            if not caller.may_see(found.owner):
                raise not_found(wanted.subscription_id)
        own = [each for each in await self._feeds.read_all() if each.owner_key == caller.key]
        if self._most and len(own) >= self._most:
            raise quota_exceeded(
                "feeds",
                self._most,
                f"The caller has {self._most} feeds already. Delete one, or have the operator "
                "raise INGOT_FEEDS_PER_CALLER.",
            )
        token = new_token()
        stored = StoredFeed(
            peer=caller.peer,
            scopes=sorted(caller.scopes),
            owner_key=caller.key,
            link_key=secrets.token_bytes(_KEY_BYTES),
        )
        feed = stored.feed
        feed.MergeFrom(wanted)
        feed.id, feed.owner = feed_id(token), caller.name
        feed.create_time.GetCurrentTime()
        await self._feeds.write(stored)
        return CreateFeedResponse(feed=feed, path=PATH + token)

    async def list_feeds(self, request: ListFeedsRequest, caller: Caller) -> ListFeedsResponse:
        limit, start = pagination.size(request), pagination.start(request)
        feeds = [
            each.feed for each in await self._feeds.read_all() if caller.may_change(each.feed.owner)
        ]
        ids = [each.id for each in feeds]
        first = ids.index(start) + 1 if start in ids else 0
        page, more = pagination.fitting(feeds[first : first + limit + 1], limit)
        token = pagination.token(request, page[-1].id) if more else ""
        return ListFeedsResponse(feeds=page, next_page_token=token)

    async def delete_feed(self, request: DeleteFeedRequest, caller: Caller) -> DeleteFeedResponse:
        stored = await self._feeds.read(request.feed_id)
        if stored is not None:
            caller.require_ownership(stored.feed.owner, f"The feed {request.feed_id}")
            await self._feeds.remove(request.feed_id)
        elif not request.allow_missing:
            raise Failure(
                reason_pb2.REASON_FEED_NOT_FOUND,
                f"There is no feed {request.feed_id}. It may have been deleted: list those that "
                "there are.",
            )
        return DeleteFeedResponse()
