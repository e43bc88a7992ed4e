"""The writing of the journal: an accepted job is in the bucket before its call is answered.

    entries -> one group -> journal/<group> in the bucket -> noted in Redis -> the calls go on

Of one process, one PUT is on its way at a time, and takes all entries that have arrived since the
last one began. A single call never waits for others. When calls are so many that entries arrive
during a PUT, the next ones begin at intervals of INTERVAL_SECONDS, after a few at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from ingot.v1.job_pb2 import Job
from ingot_server.jobs.journal_index import Accepted, JournalIndex
from ingot_server.jobs.lifecycle import has_ended, new_job_id
from ingot_server.journal.entries import entry_of, fitting
from ingot_server.journal.restorer import Restorer
from ingot_server.library.blobs import Blobs
from ingot_server.library.journal_objects import JournalObjects
from ingot_server.library.manifest_pb2 import JournalEntry

INTERVAL_SECONDS: Final = 0.075
# So many PUTs may follow each other at once.
_BURST: Final = 3
# The next PUT does not wait for one that takes longer.
_HANGING_SECONDS: Final = 1.0
_MOST_AT_ONCE: Final = 8


class JournalWriter:
    """Writes the entries of one API server."""

    def __init__(self, index: JournalIndex, blobs: Blobs) -> None:
        self.restorer = Restorer(index, blobs)
        self._index = index
        self._objects = JournalObjects(blobs)
        self._pending: dict[str, JournalEntry] = {}
        self._written: dict[str, asyncio.Future[None]] = {}
        self._writer: asyncio.Task[None] | None = None
        self._puts: set[asyncio.Task[None]] = set()
        self._is_crowded = False
        self._next_at = 0.0

    async def enter(self, accepted: Accepted) -> None:
        """Write the entry of a job, unless that is under way.

        Raises Failure STORAGE_UNAVAILABLE if the bucket does not take it, CACHE_UNAVAILABLE if that
        cannot be noted. The entry may be written all the same. Safe to repeat.
        """
        job_id = accepted.job.id
        written = self._written.get(job_id)
        if written is None:
            written = asyncio.get_running_loop().create_future()
            self._written[job_id] = written
            self._pending[job_id] = entry_of(accepted)
            if self._writer is None or self._writer.done():
                self._writer = asyncio.create_task(self._write_pending())
        await asyncio.shield(written)

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
                )
            )

    async def _write_pending(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            if self._is_crowded:
                await asyncio.sleep(self._next_at - (_BURST - 1) * INTERVAL_SECONDS - loop.time())
            self._next_at = min(
                max(self._next_at, loop.time()) + INTERVAL_SECONDS,
                loop.time() + _BURST * INTERVAL_SECONDS,
            )
            group = self._take()
            put = asyncio.create_task(self._write(group))
            self._puts.add(put)
            put.add_done_callback(self._puts.discard)
            await asyncio.wait([put], timeout=_HANGING_SECONDS)
            if len(self._puts) >= _MOST_AT_ONCE:
                await asyncio.wait(self._puts, return_when=asyncio.FIRST_COMPLETED)
            self._is_crowded = len(group) > 1 or bool(self._pending)

    def _take(self) -> Sequence[JournalEntry]:
        """Take the entries of the next group."""
        taken = fitting(self._pending.values())
        for entry in taken:
            del self._pending[entry.job.id]
        return taken

    async def _write(self, entries: Sequence[JournalEntry]) -> None:
        group = new_job_id()
        try:
            await self._objects.write(group, entries)
            if not await self._index.note(group, [entry.job.id for entry in entries]):
                # Redis has lost the records since they were made.
                unknown = await self._index.unknown([group])
                await self.restorer.recreate(group, entries, unknown.found_at)
        except BaseException as error:  # whoever waits must hear of it, whatever it is
            for entry in entries:
                self._finish(entry.job.id, error)
            if not isinstance(error, Exception):
                raise
        else:
            for entry in entries:
                self._finish(entry.job.id, None)

    def _finish(self, job_id: str, error: BaseException | None) -> None:
        written = self._written.pop(job_id)
        if written.cancelled():
            return
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(error)
            # Retrieve it, or asyncio logs it if the callers are gone.
            written.exception()
