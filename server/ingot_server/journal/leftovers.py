"""What is left of the journal although no job needs it: groups that cannot be read, for example."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

from ingot_server.jobs.journal_index import JournalIndex
from ingot_server.library.blobs import Blobs
from ingot_server.library.garbage import Garbage, GarbageKind
from ingot_server.library.journal_objects import JournalObjects, group_of

_CHUNK: Final = 200


async def find_leftovers(
    index: JournalIndex, blobs: Blobs, grace: timedelta
) -> AsyncIterator[Garbage]:
    """Yield the groups that no job needs, if they are older than `grace`.

    Yields none while Redis may have lost jobs of the journal. Raises Failure if a store cannot be
    used.
    """
    groups = await JournalObjects(blobs).list()
    old = [each for each in groups if datetime.now(UTC) - each.modify_time > grace]
    if not old or not (await index.state(None)).is_restored:
        return
    for begin in range(0, len(old), _CHUNK):
        chunk = old[begin : begin + _CHUNK]
        needed = set(await index.needed([group_of(each) for each in chunk]))
        for each in chunk:
            if group_of(each) not in needed:
                yield Garbage(GarbageKind.JOURNAL, each.key, each.size_bytes, each.modify_time)
