"""Objects of the bucket that are one message of manifest.proto each, with a schema version.

Manifests are JSON, and have their own reader (manifest.py).
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

from google.protobuf.message import DecodeError

from ingot_server.errors import written_by_newer_version
from ingot_server.event_log import EventLogger
from ingot_server.library.manifest_pb2 import (
    JournalGroup,
    StoredFeed,
    StoredSubscription,
    WebhookGroup,
)
from ingot_server.log_events import Event

logger = EventLogger(__name__)

CONTENT_TYPE: Final = "application/x-protobuf"

_Stored = TypeVar("_Stored", JournalGroup, StoredFeed, StoredSubscription, WebhookGroup)


class StoredMessages(Generic[_Stored]):
    """The objects of one `kind`.

    `schema_version` is the newest one that is read. `unreadable` is logged for each object that is
    not such a message, with the `consequence`: it is read again and again, and logged once.
    """

    def __init__(
        self, kind: type[_Stored], schema_version: int, unreadable: Event, consequence: str
    ) -> None:
        self._kind: type[_Stored] = kind
        self._newest = schema_version
        self._unreadable = unreadable
        self._consequence = consequence
        self._logged: set[str] = set()

    def parse(self, key: str, content: bytes, **fields: Any) -> _Stored | None:
        """Return the message in the object `key`; None if it cannot be read.

        `fields` are those of the line in the log. Raises Failure WRITTEN_BY_NEWER_VERSION.
        """
        try:
            stored: _Stored = self._kind.FromString(content)
        except DecodeError:
            if key not in self._logged:
                self._logged.add(key)
                logger.error(
                    self._unreadable, "%s cannot be read: %s", key, self._consequence, **fields
                )
            return None
        if stored.schema_version > self._newest:
            raise written_by_newer_version(key, stored.schema_version, self._newest)
        return stored
