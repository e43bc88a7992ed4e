"""Deliveries of webhooks in the bucket: those that a receiver did not accept at once.

    webhooks/<group>    a WebhookGroup (manifest.proto): deliveries that were written together

A group has a name of its own, is written once and never changed. It is removed when all of its
deliveries have ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from ingot_server.errors import written_by_newer_version
from ingot_server.event_log import EventLogger
from ingot_server.library.blobs import Blobs
from ingot_server.library.manifest_pb2 import PendingDelivery, WebhookGroup
from ingot_server.log_events import Event

logger = EventLogger(__name__)

FOLDER: Final = "webhooks/"
_CONTENT_TYPE: Final = "application/x-protobuf"
_SCHEMA_VERSION: Final = 1


class WebhookObjects:
    """The groups in the bucket. Every coroutine raises Failure STORAGE_UNAVAILABLE."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._unreadable: set[str] = set()

    async def write(self, group: str, deliveries: Sequence[PendingDelivery]) -> None:
        """Write a group; `group` is its name. After a Failure it may be written all the same."""
        content = WebhookGroup(
            deliveries=deliveries, schema_version=_SCHEMA_VERSION
        ).SerializeToString()
        await self._blobs.put(FOLDER + group, content, content_type=_CONTENT_TYPE)

    async def list(self) -> Sequence[str]:
        """Return the names of all groups."""
        found = await self._blobs.list_objects(FOLDER)
        return [each.key.removeprefix(FOLDER) for each in found]

    async def read(self, group: str) -> Sequence[PendingDelivery]:
        """Return the deliveries of a group; none if it was removed, or cannot be read.

        Raises Failure WRITTEN_BY_NEWER_VERSION.
        """
        found = await self._blobs.get(FOLDER + group)
        if found is None:
            return []
        try:
            read = WebhookGroup.FromString(found[0])
        except DecodeError:
            if group not in self._unreadable:
                self._unreadable.add(group)
                logger.error(
                    Event.WEBHOOKS_UNREADABLE,
                    "%s cannot be read: its webhooks are lost",
                    FOLDER + group,
                )
            return []
        if read.schema_version > _SCHEMA_VERSION:
            raise written_by_newer_version(FOLDER + group, read.schema_version, _SCHEMA_VERSION)
        return read.deliveries

    async def remove(self, groups: Sequence[str]) -> None:
        """Remove groups in one request for each thousand."""
        await self._blobs.remove_many([FOLDER + group for group in groups])
