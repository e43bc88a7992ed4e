"""Subscriptions in the bucket, which is their only truth.

    subscriptions/<id>    a StoredSubscription (manifest.proto)

An object is written under the condition that it has not changed since it was read. So of two
writers one reads again, and what was deleted does not come back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ingot_server.library.blobs import Blobs
from ingot_server.library.manifest_pb2 import StoredSubscription
from ingot_server.library.stored_messages import CONTENT_TYPE, StoredMessages
from ingot_server.log_events import Event

FOLDER: Final = "subscriptions/"
_SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class SubscriptionVersion:
    """A subscription as an object has it."""

    stored: StoredSubscription
    etag: str


class SubscriptionObjects:
    """The objects. Every coroutine raises Failure STORAGE_UNAVAILABLE."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._messages = StoredMessages(
            StoredSubscription, _SCHEMA_VERSION, Event.SUBSCRIPTION_UNREADABLE, "it is not followed"
        )

    async def read(self, subscription_id: str) -> SubscriptionVersion | None:
        """Return a subscription; None if there is none, or its object cannot be read.

        Raises Failure WRITTEN_BY_NEWER_VERSION.
        """
        found = await self._blobs.get(FOLDER + subscription_id)
        if found is None:
            return None
        content, etag = found
        key = FOLDER + subscription_id
        stored = self._messages.parse(key, content, subscription_id=subscription_id)
        return SubscriptionVersion(stored, etag) if stored is not None else None

    async def write(
        self, stored: StoredSubscription, *, replaces: str = ""
    ) -> SubscriptionVersion | None:
        """Write a new subscription, or over the version with the ETag `replaces`.

        Returns None if there is one already, or another version. After a Failure it may be written
        all the same.
        """
        stored.schema_version = _SCHEMA_VERSION
        etag = await self._blobs.put(
            FOLDER + stored.subscription.id,
            stored.SerializeToString(),
            content_type=CONTENT_TYPE,
            if_none_match=not replaces,
            if_match=replaces,
        )
        return SubscriptionVersion(stored, etag) if etag is not None else None

    async def etags(self) -> dict[str, str]:
        """Return the ids of all subscriptions, with the ETags of their objects."""
        found = await self._blobs.list_objects(FOLDER)
        return {each.key.removeprefix(FOLDER): each.etag for each in found}

    async def remove(self, subscription_id: str) -> None:
        """Remove a subscription, if it exists."""
        await self._blobs.remove(FOLDER + subscription_id)
