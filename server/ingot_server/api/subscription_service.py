"""SubscriptionService: what is followed. It checks nothing: `subscription_checks.py` does."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from ingot.v1 import reason_pb2, subscription_service_pb2
from ingot.v1.scope_pb2 import Scope
from ingot.v1.subscription_pb2 import Subscription
from ingot.v1.subscription_service_pb2 import (
    CheckSubscriptionRequest,
    CheckSubscriptionResponse,
    CreateSubscriptionRequest,
    CreateSubscriptionResponse,
    DeleteSubscriptionRequest,
    DeleteSubscriptionResponse,
    GetSubscriptionRequest,
    GetSubscriptionResponse,
    ListSubscriptionsRequest,
    ListSubscriptionsResponse,
    MarkSubscriptionSeenRequest,
    MarkSubscriptionSeenResponse,
    UpdateSubscriptionRequest,
    UpdateSubscriptionResponse,
)
from ingot_server.api import pagination
from ingot_server.api.caller import Caller, Service
from ingot_server.api.ingest_service import IngestService
from ingot_server.api.status import invalid
from ingot_server.api.subscription_requests import changed, requested
from ingot_server.config import Settings
from ingot_server.errors import Failure, quota_exceeded
from ingot_server.following.subscriptions import NOW, Subscriptions, not_found
from ingot_server.jobs.lifecycle import new_job_id
from ingot_server.library.manifest_pb2 import StoredSubscription


class SubscriptionService(Service):
    """The service of subscriptions."""

    descriptor = subscription_service_pb2.DESCRIPTOR.services_by_name["SubscriptionService"]

    def __init__(
        self, subscriptions: Subscriptions, ingest: IngestService, settings: Settings
    ) -> None:
        """`ingest` judges what is to be ingested."""
        self._subscriptions = subscriptions
        self._ingest = ingest
        self._most = settings.subscriptions_per_caller

    async def create_subscription(
        self, request: CreateSubscriptionRequest, caller: Caller
    ) -> CreateSubscriptionResponse:
        stored = self._stored(request, caller)
        new = stored.subscription
        self._check(new, caller)
        if request.request_id:
            own = caller.own_request_id(request.request_id)
            new.id = await self._subscriptions.index.requested_id(own, new.id)
            if (earlier := await self._subscriptions.read(new.id)) is not None:
                return CreateSubscriptionResponse(subscription=await self._same(earlier, stored))
        await self._subscriptions.ensure()
        if self._most and await self._subscriptions.index.count(caller.key) >= self._most:
            raise quota_exceeded(
                "subscriptions",
                self._most,
                f"The caller follows {self._most} lists already. Delete a subscription, or have "
                "the operator raise INGOT_SUBSCRIPTIONS_PER_CALLER.",
            )
        created = await self._subscriptions.create(stored)
        if created is None:
            # The same call, at the same time.
            created = await self._subscriptions.get(new.id)
        return CreateSubscriptionResponse(subscription=created)

    async def get_subscription(
        self, request: GetSubscriptionRequest, caller: Caller
    ) -> GetSubscriptionResponse:
        found = await self._visible(request.subscription_id, caller)
        return GetSubscriptionResponse(subscription=found)

    async def list_subscriptions(
        self, request: ListSubscriptionsRequest, caller: Caller
    ) -> ListSubscriptionsResponse:
        limit = pagination.size(request)
        owner = caller.tenant if not caller.is_admin else ""
        found = await self._subscriptions.page(
            limit=limit + 1, before=pagination.start(request), owner=owner
        )
        page, more = pagination.fitting(found, limit)
        token = pagination.token(request, page[-1].id) if more else ""
        return ListSubscriptionsResponse(subscriptions=page, next_page_token=token)

    async def update_subscription(
        self, request: UpdateSubscriptionRequest, caller: Caller
    ) -> UpdateSubscriptionResponse:
        values, paths = request.subscription, set(request.update_mask.paths)
        if not values.id.isalnum():
            raise invalid({"subscription.id": "must be the id of a subscription"})
        former = await self._own(values.id, caller)

        def apply(stored: StoredSubscription) -> None:
            subscription = changed(stored.subscription, values, request.update_mask)
            self._check(subscription, caller)
            stored.subscription.CopyFrom(subscription)

        delay: timedelta | None = None
        if "paused" in paths and former.paused and not values.paused:
            delay = NOW
        elif "interval" in paths:
            delay = changed(former, values, request.update_mask).interval.ToTimedelta()
        updated = await self._subscriptions.change(values.id, apply, delay=delay)
        return UpdateSubscriptionResponse(subscription=updated)

    async def delete_subscription(
        self, request: DeleteSubscriptionRequest, caller: Caller
    ) -> DeleteSubscriptionResponse:
        try:
            await self._own(request.subscription_id, caller)
        except Failure as failure:
            is_missing = failure.reason == reason_pb2.REASON_SUBSCRIPTION_NOT_FOUND
            if not (is_missing and request.allow_missing):
                raise
        else:
            await self._subscriptions.delete(request.subscription_id)
        return DeleteSubscriptionResponse()

    async def check_subscription(
        self, request: CheckSubscriptionRequest, caller: Caller
    ) -> CheckSubscriptionResponse:
        found = await self._own(request.subscription_id, caller)
        if found.paused:
            raise invalid({"subscription_id": "is that of a paused subscription; resume it first"})
        due = await self._subscriptions.change(found.id, lambda _: None, delay=NOW)
        return CheckSubscriptionResponse(subscription=due)

    async def mark_subscription_seen(
        self, request: MarkSubscriptionSeenRequest, caller: Caller
    ) -> MarkSubscriptionSeenResponse:
        found = await self._own(request.subscription_id, caller)

        def mark(stored: StoredSubscription) -> None:
            stored.mark_time.GetCurrentTime()

        due = await self._subscriptions.change(found.id, mark, delay=NOW)
        return MarkSubscriptionSeenResponse(subscription=due)

    def _stored(self, request: CreateSubscriptionRequest, caller: Caller) -> StoredSubscription:
        """Return what a request creates, with an id of its own."""
        compared = CreateSubscriptionRequest()
        compared.CopyFrom(request)
        compared.ClearField("request_id")
        stored = StoredSubscription(
            subscription=requested(request.subscription),
            peer=caller.peer,
            owner_key=caller.key,
            scopes=sorted(caller.scopes),
            fingerprint=hashlib.sha256(compared.SerializeToString(deterministic=True)).hexdigest(),
        )
        if request.mark_seen:
            stored.mark_time.GetCurrentTime()
        stored.subscription.id = new_job_id()
        stored.subscription.owner = caller.name
        stored.subscription.create_time.GetCurrentTime()
        return stored

    def _check(self, subscription: Subscription, caller: Caller) -> None:
        """Raise Failure if its jobs would be refused, or the caller may not make such ones."""
        if subscription.recipes:
            caller.require(Scope.SCOPE_CONVERT)
        self._ingest.check_subscription(subscription)

    async def _same(self, earlier: StoredSubscription, stored: StoredSubscription) -> Subscription:
        """Return what an earlier call with the same request_id has created."""
        if earlier.fingerprint != stored.fingerprint:
            raise Failure(
                reason_pb2.REASON_REQUEST_ID_REUSED,
                "Another request has used this request_id. Use a new one for each request.",
            )
        return await self._subscriptions.get(earlier.subscription.id)

    async def _visible(self, subscription_id: str, caller: Caller) -> Subscription:
        """Return a subscription. Raises Failure SUBSCRIPTION_NOT_FOUND."""
        found = await self._subscriptions.get(subscription_id)
        if not caller.may_see(found.owner):
            raise not_found(subscription_id)
        return found

    async def _own(self, subscription_id: str, caller: Caller) -> Subscription:
        """Return a subscription that the caller may change.

        Raises Failure SUBSCRIPTION_NOT_FOUND and NOT_OWNER.
        """
        found = await self._visible(subscription_id, caller)
        caller.require_ownership(found.owner, f"The subscription {subscription_id}")
        return found
