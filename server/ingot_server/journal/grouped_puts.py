"""PUTs that calls share: entries that arrive at the same time are one group in the bucket.

Of one process, one PUT is on its way at a time, and takes all entries that have arrived since the
last one began. A single call never waits for others. When calls are so many that entries arrive
during a PUT, the next ones begin at intervals of INTERVAL_SECONDS, after a few at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ingot_server.journal.entries import fitting
from ingot_server.library.manifest_pb2 import JournalEntry

INTERVAL_SECONDS: Final = 0.075
# So many PUTs may follow each other at once.
_BURST: Final = 3
# The next PUT does not wait for one that takes longer.
_HANGING_SECONDS: Final = 1.0
_MOST_AT_ONCE: Final = 8

Put = Callable[[Sequence[JournalEntry]], Awaitable[None]]
"""Writes one group. Raises whatever those who wait for its entries must hear of."""


class GroupedPuts:
    """The entries of one process that are on their way, by job."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self._pending: dict[str, JournalEntry] = {}
        self._written: dict[str, asyncio.Future[None]] = {}
        self._writer: asyncio.Task[None] | None = None
        self._puts: set[asyncio.Task[None]] = set()
        self._is_crowded = False
        self._next_at = 0.0

    async def enter(self, entry: JournalEntry) -> None:
        """Write an entry, unless one of its job is on its way. Raises what the PUT raises."""
        job_id = entry.job.id
        written = self._written.get(job_id)
        if written is None:
            written = asyncio.get_running_loop().create_future()
            self._written[job_id] = written
            self._pending[job_id] = entry
            if self._writer is None or self._writer.done():
                self._writer = asyncio.create_task(self._write_pending())
        await asyncio.shield(written)

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
        try:
            await self._put(entries)
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
