"""The journal in the bucket: what was accepted and has not ended, and what has ended just now.

    journal/<group>         a JournalGroup (manifest.proto): jobs accepted at the same time
    journal/<group>-ends    a JournalGroup: jobs that ended, as they ended

A group has a name of its own, is written once and never changed. A PUT that is late writes nothing
that harms: its jobs have a record, or are made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from ingot_server.library.blobs import Blobs, StoredObject
from ingot_server.library.manifest_pb2 import JournalEntry, JournalGroup
from ingot_server.library.stored_messages import CONTENT_TYPE, StoredMessages
from ingot_server.log_events import Event

FOLDER: Final = "journal/"
# As in journal.lua.
_ENDS: Final = "-ends"
_SCHEMA_VERSION: Final = 1
# A request that arrives later than this is refused.
_WRITE_LIFETIME: Final = timedelta(seconds=30)


class JournalObjects:
    """The groups in the bucket. Every coroutine raises Failure STORAGE_UNAVAILABLE."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._messages = StoredMessages(
            JournalGroup, _SCHEMA_VERSION, Event.JOURNAL_UNREADABLE, "its jobs are lost"
        )

    async def write(self, group: str, entries: Sequence[JournalEntry]) -> None:
        """Write a group; `group` is its name. After a Failure it may be written all the same."""
        content = JournalGroup(entries=entries, schema_version=_SCHEMA_VERSION).SerializeToString()
        await self._blobs.put(
            FOLDER + group, content, content_type=CONTENT_TYPE, lifetime=_WRITE_LIFETIME
        )

    async def list(self) -> Sequence[StoredObject]:
        """Return all groups, sorted by key."""
        return await self._blobs.list_objects(FOLDER)

    async def read(self, group: str) -> Sequence[JournalEntry]:
        """Return the entries of a group; none if it was removed, or cannot be read.

        Raises Failure WRITTEN_BY_NEWER_VERSION: what this process does not know must not get lost.
        """
        found = await self._blobs.get(FOLDER + group)
        stored = self._messages.parse(FOLDER + group, found[0]) if found is not None else None
        return stored.entries if stored is not None else []

    async def remove(self, groups: Sequence[str]) -> None:
        """Remove groups in one request for each thousand."""
        await self._blobs.remove_many([FOLDER + group for group in groups])


def group_of(found: StoredObject) -> str:
    """Return the name of a group in a listing."""
    return found.key.removeprefix(FOLDER)


def ends_group(name: str) -> str:
    """Return the name of a group of ends."""
    return name + _ENDS


def has_ends(group: str) -> bool:
    """Tell whether a group has jobs that have ended."""
    return group.endswith(_ENDS)
