"""The writing of the journal: what a caller is told of a job is in the bucket before.

    entries -> one group -> journal/<group> in the bucket -> noted in Redis -> the calls go on

So it is when a job is accepted, and when it is cancelled. `grouped_puts.py` has the groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ingot.v1.job_pb2 import Job
from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.jobs.journal_index import Accepted, JournalIndex
from ingot_server.jobs.lifecycle import has_ended, new_job_id
from ingot_server.journal.ends import EndsWriter
from ingot_server.journal.entries import entry_of, webhook_counts
from ingot_server.journal.grouped_puts import GroupedPuts
from ingot_server.journal.restorer import Restorer
from ingot_server.library.blobs import Blobs
from ingot_server.library.journal_objects import JournalObjects
from ingot_server.library.manifest_pb2 import JournalEntry


class JournalWriter:
    """Writes the entries of one API server."""

    def __init__(self, index: JournalIndex, blobs: Blobs) -> None:
        self.restorer = Restorer(index, blobs)
        self._index = index
        self._objects = JournalObjects(blobs)
        self._entries = GroupedPuts(self._write)
        self._ends = EndsWriter(index, blobs)

    async def enter(self, accepted: Accepted) -> None:
        """Write the entry of a job, unless that is under way.

        Raises Failure STORAGE_UNAVAILABLE if the bucket does not take it, CACHE_UNAVAILABLE if that
        cannot be noted. The entry may be written all the same. Safe to repeat.
        """
        await self._entries.enter(entry_of(accepted))

    async def ensure(
        self, job: Job, *, request_id: str = "", fingerprint: str = "", upload_id: str = ""
    ) -> None:
        """Write the entry of a job that another call has made, if it needs one and has none."""
        if has_ended(job):
            return
        found = await self._index.unwritten(job.id)
        if found is not None:
            await self.enter(
                Accepted(
                    found.job,
                    found.caller,
                    found.single_flight_key,
                    request_id=request_id,
                    fingerprint=fingerprint,
                    upload_id=upload_id,
                    webhook_urls=found.webhook_urls,
                    trace=found.trace,
                )
            )

    async def record_ends(self, jobs: Iterable[Job]) -> None:
        """Write the ends of jobs, so that they do not run again whatever Redis loses afterwards.

        Raises Failure as `enter` does. Safe to repeat.
        """
        await gather_or_cancel(self._ends.record(job) for job in jobs)

    async def _write(self, entries: Sequence[JournalEntry]) -> None:
        group = new_job_id()
        await self._objects.write(group, entries)
        if not await self._index.note(group, webhook_counts(entries)):
            # Redis has lost the records since they were made.
            unknown = await self._index.unknown([group])
            await self.restorer.recreate(group, entries, unknown.found_at)
