"""The compaction of the journal: jobs that have not ended move out of groups with jobs that have.

Otherwise one long job would keep the entries of all jobs that were accepted together with it, and
so their ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from ingot_server.jobs.journal_index import JournalIndex
from ingot_server.jobs.lifecycle import has_ended, new_job_id
from ingot_server.journal.entries import entry_of, fitting, webhook_counts
from ingot_server.library.blobs import Blobs
from ingot_server.library.journal_objects import JournalObjects

AGE: Final = timedelta(seconds=30)
_GROUPS: Final = 200


async def compact(index: JournalIndex, blobs: Blobs, *, age: timedelta = AGE) -> bool:
    """Move the other jobs of groups of which a job ended `age` ago; return whether there were any.

    Their groups are due for removal then. Raises Failure if a store cannot be used.
    """
    job_ids = await index.partial(_GROUPS, age)
    await regroup(index, JournalObjects(blobs), job_ids)
    return bool(job_ids)


async def regroup(index: JournalIndex, objects: JournalObjects, job_ids: Sequence[str]) -> None:
    """Write the entries of those of the jobs that have not ended into new groups.

    Raises Failure if a store cannot be used.
    """
    found = [await index.accepted(job_id) for job_id in job_ids]
    entries = [
        entry_of(accepted)
        for accepted in found
        if accepted is not None and not has_ended(accepted.job)
    ]
    while entries:
        group, written = new_job_id(), fitting(entries)
        await objects.write(group, written)
        await index.note(group, webhook_counts(written))
        entries = entries[len(written) :]
