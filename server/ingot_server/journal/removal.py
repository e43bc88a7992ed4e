"""The removal of groups of the journal that no job needs any more.

Between the question which these are and their removal, Redis may lose its data, and learn from the
bucket that a job has its entry in one of them. Then the entry is written again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ingot_server.jobs.journal_index import JournalIndex
from ingot_server.journal.compaction import regroup
from ingot_server.library.blobs import Blobs
from ingot_server.library.journal_objects import JournalObjects

# S3 removes so many objects in one request.
_BATCH: Final = 1000


async def remove_due(index: JournalIndex, blobs: Blobs) -> None:
    """Remove what no job needs, unless a worker has just done that.

    Groups that could not be removed are due again after a while. Raises Failure if a store cannot
    be used.
    """
    objects = JournalObjects(blobs)
    groups = await index.due(_BATCH)
    while groups:
        await remove(index, objects, groups)
        is_full = len(groups) == _BATCH
        groups = await index.due(_BATCH, again=True) if is_full else []


async def remove(index: JournalIndex, objects: JournalObjects, groups: Sequence[str]) -> None:
    """Remove groups that were due. Raises Failure if a store cannot be used."""
    await objects.remove(groups)
    await regroup(index, objects, await index.removed(groups))
