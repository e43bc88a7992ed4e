"""Pages of a list: their sizes, and the tokens for the next page.

A token is base64url of a checksum and the last item's id. The checksum covers the kind of list and
its filters, so a token that was changed, or is used with another request, is refused (AIP-158). The
checksum catches mistakes only: a token is not secret.
"""

from __future__ import annotations

import base64
import binascii
import copy
import hashlib
from collections.abc import Sequence
from typing import Final, TypeAlias, TypeVar

from google.protobuf.message import Message

from ingot.v1.feed_service_pb2 import ListFeedsRequest
from ingot.v1.job_service_pb2 import ListJobsRequest
from ingot.v1.media_service_pb2 import ListMediaRequest
from ingot.v1.subscription_service_pb2 import ListSubscriptionsRequest
from ingot.v1.webhook_service_pb2 import ListWebhookDeliveriesRequest
from ingot_server.api.status import invalid

DEFAULT_SIZE: Final = 50
LARGEST_SIZE: Final = 1000
# By default gRPC clients accept messages of up to 4 MiB, so a page ends before that.
LARGEST_BYTES: Final = 3 << 20

_CHECKSUM_BYTES: Final = 12

ListRequest: TypeAlias = (
    ListMediaRequest
    | ListJobsRequest
    | ListWebhookDeliveriesRequest
    | ListSubscriptionsRequest
    | ListFeedsRequest
)

_Item = TypeVar("_Item", bound=Message)


def size(request: ListRequest) -> int:
    """Return how many items the page may have."""
    return min(request.page_size or DEFAULT_SIZE, LARGEST_SIZE)


def start(request: ListRequest) -> str:
    """Return the id of the item that the page follows, or an empty text for the first page.

    Raises Failure INVALID_REQUEST if the token is not one of this list.
    """
    if not request.page_token:
        return ""
    try:
        content = base64.b64decode(request.page_token.encode(), altchars=b"-_", validate=True)
        item_id = content[_CHECKSUM_BYTES:].decode()
    except (binascii.Error, UnicodeError):
        item_id = ""
    if not item_id or token(request, item_id) != request.page_token:
        raise invalid(
            {
                "page_token": "must be the next_page_token of a response to the same request, "
                "or unset for the first page"
            }
        )
    return item_id


def token(request: ListRequest, item_id: str) -> str:
    """Return the token of the page after the item `item_id`."""
    filters = copy.deepcopy(request)
    filters.ClearField("page_size")
    filters.ClearField("page_token")
    covered = b"\0".join(
        (
            request.DESCRIPTOR.full_name.encode(),
            filters.SerializeToString(deterministic=True),
            item_id.encode(),
        )
    )
    checksum = hashlib.sha256(covered).digest()[:_CHECKSUM_BYTES]
    return base64.urlsafe_b64encode(checksum + item_id.encode()).decode()


def fitting(items: Sequence[_Item], limit: int) -> tuple[Sequence[_Item], bool]:
    """Return the items of a page, at least one if there is any, and whether more are left."""
    total = 0
    for count, item in enumerate(items):
        total += item.ByteSize()
        if count == limit or (count and total > LARGEST_BYTES):
            return items[:count], True
    return items, False
