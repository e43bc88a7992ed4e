"""PUTs that calls share: entries that arrive at the same time are one group in the bucket.

Of one process, one PUT is on its way at a time, and takes all entries that have arrived since the
last one began. A single call never waits for others. When calls are so many that entries arrive
during a PUT, the next ones begin at intervals of INTERVAL_SECONDS, after a few at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

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


_Key: TypeAlias = tuple[str, ...]


class GroupedPuts:
    """The entries of one process that are on their way, by their jobs and webhooks."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self._pending: dict[_Key, JournalEntry] = {}
        self._written: dict[_Key, asyncio.Future[None]] = {}
        self._writer: asyncio.Task[None] | None = None
        self._puts: set[asyncio.Task[None]] = set()
        self._is_crowded = False
        self._next_at = 0.0

    async def enter(self, entry: JournalEntry) -> None:
        """Write an entry, unless the same is on its way. Raises what the PUT raises."""
        key = _key(entry)
        written = self._written.get(key)
        if written is None:
            written = asyncio.get_running_loop().create_future()
            self._written[key] = written
            self._pending[key] = entry
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
            del self._pending[_key(entry)]
        return taken

    async def _write(self, entries: Sequence[JournalEntry]) -> None:
        try:
            await self._put(entries)
        except BaseException as error:  # whoever waits must hear of it, whatever it is
            for entry in entries:
                self._finish(_key(entry), error)
            if not isinstance(error, Exception):
                raise
        else:
            for entry in entries:
                self._finish(_key(entry), None)

    def _finish(self, key: _Key, error: BaseException | None) -> None:
        written = self._written.pop(key)
        if written.cancelled():
            return
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(error)
            # Retrieve it, or asyncio logs it if the callers are gone.
            written.exception()


def _key(entry: JournalEntry) -> _Key:
    """Return what two entries have in common of which one is enough."""
    return (entry.job.id, *entry.webhook_urls)
