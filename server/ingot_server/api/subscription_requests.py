"""What a subscription asks for: the Ingest request of an entry, and the changes of a call."""

from __future__ import annotations

import copy

from google.protobuf.field_mask_pb2 import FieldMask

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.subscription_pb2 import Subscription
from ingot.v1.subscription_service_pb2 import CreateSubscriptionRequest
from ingot_server.api.status import check
from ingot_server.following.schedule import DEFAULT_INTERVAL

_SET_BY_CALLERS = (
    *("url", "labels", "selection", "options", "recipes", "priority", "webhook_url"),
    *("interval", "published_after", "include_titles", "exclude_titles", "max_entries", "paused"),
)
_MAX_ENTRIES = 200


def entry_request(subscription: Subscription, url: str, request_id: str = "") -> IngestRequest:
    """Return the request that ingests an entry of a subscription, whose URL is `url`."""
    request = IngestRequest(
        url=url,
        selection=subscription.selection if subscription.HasField("selection") else None,
        labels=subscription.labels,
        priority=subscription.priority or job_pb2.JOB_PRIORITY_LOW,
        options=subscription.options,
        recipes=subscription.recipes,
        webhook_url=subscription.webhook_url,
        request_id=request_id,
    )
    request.options.ClearField("playlist")
    request.options.ClearField("max_entries")
    return request


def requested(values: Subscription) -> Subscription:
    """Return a new subscription as its caller requested it, with the defaults of what is unset."""
    subscription = Subscription()
    FieldMask(paths=_SET_BY_CALLERS).MergeMessage(values, subscription)
    return with_defaults(subscription)


def changed(former: Subscription, values: Subscription, mask: FieldMask) -> Subscription:
    """Return a copy of `former` that has the fields in `mask` from `values`.

    Raises Failure INVALID_REQUEST if a rule of the contract is broken then.
    """
    subscription = copy.deepcopy(former)
    mask.MergeMessage(values, subscription, replace_message_field=True, replace_repeated_field=True)
    check(CreateSubscriptionRequest(subscription=subscription))
    return with_defaults(subscription)


def with_defaults(subscription: Subscription) -> Subscription:
    """Set what is unset and has a default, and return the subscription."""
    if not subscription.HasField("interval"):
        subscription.interval.FromTimedelta(DEFAULT_INTERVAL)
    if not subscription.HasField("max_entries"):
        subscription.max_entries = _MAX_ENTRIES
    subscription.priority = subscription.priority or job_pb2.JOB_PRIORITY_LOW
    return subscription
