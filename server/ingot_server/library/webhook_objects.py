"""Deliveries of webhooks in the bucket: those that a receiver did not accept at once.

    webhooks/<group>    a WebhookGroup (manifest.proto): deliveries that were written together

A group has a name of its own, is written once and never changed. It is removed when all of its
deliveries have ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ingot_server.library.blobs import Blobs
from ingot_server.library.manifest_pb2 import PendingDelivery, WebhookGroup
from ingot_server.library.stored_messages import CONTENT_TYPE, StoredMessages
from ingot_server.log_events import Event

FOLDER: Final = "webhooks/"
_SCHEMA_VERSION: Final = 1


class WebhookObjects:
    """The groups in the bucket. Every coroutine raises Failure STORAGE_UNAVAILABLE."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._messages = StoredMessages(
            WebhookGroup, _SCHEMA_VERSION, Event.WEBHOOKS_UNREADABLE, "its webhooks are lost"
        )

    async def write(self, group: str, deliveries: Sequence[PendingDelivery]) -> None:
        """Write a group; `group` is its name. After a Failure it may be written all the same."""
        content = WebhookGroup(
            deliveries=deliveries, schema_version=_SCHEMA_VERSION
        ).SerializeToString()
        await self._blobs.put(FOLDER + group, content, content_type=CONTENT_TYPE)

    async def list(self) -> Sequence[str]:
        """Return the names of all groups."""
        found = await self._blobs.list_objects(FOLDER)
        return [each.key.removeprefix(FOLDER) for each in found]

    async def read(self, group: str) -> Sequence[PendingDelivery]:
        """Return the deliveries of a group; none if it was removed, or cannot be read.

        Raises Failure WRITTEN_BY_NEWER_VERSION.
        """
        found = await self._blobs.get(FOLDER + group)
        stored = self._messages.parse(FOLDER + group, found[0]) if found is not None else None
        return stored.deliveries if stored is not None else []

    async def remove(self, groups: Sequence[str]) -> None:
        """Remove groups in one request for each thousand."""
        await self._blobs.remove_many([FOLDER + group for group in groups])
