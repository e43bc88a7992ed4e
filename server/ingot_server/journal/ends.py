"""The ends of jobs in the journal: what has ended does not run again if Redis loses that it has.

A cancellation is written before its call is answered. Every other end is written by a worker soon
after, together with all that ended meanwhile. The group that has it stays in the bucket for
ENDS_KEPT, and for as long as an entry of the job does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ingot.v1.job_pb2 import Job
from ingot_server.jobs.journal_index import Accepted, JournalIndex
from ingot_server.jobs.lifecycle import has_ended, new_job_id
from ingot_server.journal.entries import accepted_of, entry_of, fitting
from ingot_server.journal.grouped_puts import GroupedPuts
from ingot_server.library.blobs import Blobs
from ingot_server.library.journal_objects import JournalObjects, ends_group
from ingot_server.library.manifest_pb2 import JournalEntry

_BATCH: Final = 500


class EndsWriter:
    """Writes ends. Every coroutine raises Failure if a store cannot be used."""

    def __init__(self, index: JournalIndex, blobs: Blobs) -> None:
        self._index = index
        self._objects = JournalObjects(blobs)
        self._puts = GroupedPuts(self._write)

    async def record(self, job: Job) -> None:
        """Write the end of a job, unless the bucket has it; `job` has ended. Safe to repeat."""
        if await self._index.has_recorded_end(job.id):
            return
        found = await self._index.accepted(job.id)
        if found is None or not has_ended(found.job):
            # Redis has lost the end already, and perhaps more.
            known = found or Accepted(job, "", "")
            entry = entry_of(known)
            entry.job.CopyFrom(job)
        else:
            entry = entry_of(found)
        await self._puts.enter(entry)

    async def record_due(self) -> None:
        """Write the ends of all jobs that have ended since the last time, of all processes."""
        job_ids = await self._index.ended(_BATCH)
        while job_ids:
            found = [await self._index.accepted(job_id) for job_id in job_ids]
            entries = [
                entry_of(accepted)
                for accepted in found
                if accepted is not None and has_ended(accepted.job)
            ]
            while entries:
                written = fitting(entries)
                await self._write(written)
                entries = entries[len(written) :]
            is_full = len(job_ids) == _BATCH
            job_ids = await self._index.ended(_BATCH, again=True) if is_full else []

    async def _write(self, entries: Sequence[JournalEntry]) -> None:
        group = ends_group(new_job_id())
        await self._objects.write(group, entries)
        await restore_ends(self._index, group, entries)


async def restore_ends(index: JournalIndex, group: str, entries: Sequence[JournalEntry]) -> int:
    """Note a group of ends, and end the jobs whose ends Redis has lost; return their number."""
    ends = {entry.job.id: accepted_of(entry) for entry in entries}
    count = 0
    while lost := await index.note_ends(group, list(ends)):
        for job_id in lost:
            count += await index.restore_end(ends[job_id])
    return count
