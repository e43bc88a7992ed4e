"""The restoration of jobs that Redis has lost, from the journal.

Redis loses all of its data, or its last writes when it fails over. Then groups of the journal are
unknown to it: first, jobs that had ended end again in the same way; then the others are made again,
under their ids, as their callers requested them. A job that is active, and of which the bucket has
neither its entry nor its end, ended long ago. That is done when the loss is noticed, when a process
starts, and each minute in any case. It can be repeated, and several processes may do it at the same
time. Until it is done no job is claimed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from ingot.v1 import reason_pb2
from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.jobs.journal_index import JournalIndex, JournalState
from ingot_server.jobs.outcomes import JournalUnrestored
from ingot_server.jobs.position import Position
from ingot_server.journal.ends import restore_ends
from ingot_server.journal.entries import accepted_of, webhook_counts
from ingot_server.journal.outages import JournalOutages
from ingot_server.library.blobs import Blobs
from ingot_server.library.journal_objects import JournalObjects, group_of, has_ends
from ingot_server.library.manifest_pb2 import JournalEntry
from ingot_server.log_events import Event
from ingot_server.redis import Redis

logger = EventLogger(__name__)

_CHECK_SECONDS: Final = 5.0
_FULL_CHECK_INTERVAL: Final = timedelta(minutes=1)
_RESTORING: Final = "restoring"
_CHUNK: Final = 32
# A group may be removed after it was found unknown, and later the records of its jobs expire.
_MOST_MILLISECONDS: Final = 30_000

Progress = Callable[[int, int], None]
"""Hears how many groups were looked at, and how many there are."""


class Restorer:
    """Makes lost jobs again. Every coroutine raises Failure if a store cannot be used."""

    def __init__(self, index: JournalIndex, blobs: Blobs) -> None:
        self._index = index
        self._objects = JournalObjects(blobs)
        self._known: Position | None = None
        self._restoring = asyncio.Lock()

    async def ensure(self) -> bool:
        """Restore the journal if Redis has lost writes since the last time; tell whether it had.

        Afterwards, a job without a record is unknown.
        """
        if (await self._state()).is_restored:
            return False
        async with self._restoring:
            if not (await self._state()).is_restored:
                await self.restore()
        return True

    async def restore(self, progress: Progress = lambda _done, _total: None) -> int:
        """Make all jobs again that Redis does not have; return their number."""
        state = await self._state()
        # Before the list: a group that is gone from it then was not moved to another meanwhile.
        active = {} if state.is_restored else await self._index.active()
        groups = [group_of(each) for each in await self._objects.list()]
        # Processes that do this at the same time take different groups first.
        random.shuffle(groups)
        # All ends first, so that no job begins that has ended.
        groups.sort(key=has_ends, reverse=True)
        first_entries = sum(map(has_ends, groups))
        chunks = [
            groups[begin : min(begin + _CHUNK, end)]
            for start, end in ((0, first_entries), (first_entries, len(groups)))
            for begin in range(start, end, _CHUNK)
        ]
        made = ended = done = 0
        progress(0, len(groups))
        for chunk in chunks:
            unknown = await self._index.unknown(chunk)
            counts = await gather_or_cancel(
                self._restore_group(group, unknown.found_at) for group in unknown.groups
            )
            if has_ends(chunk[0]):
                ended += sum(counts)
            else:
                made += sum(counts)
            done += len(chunk)
            progress(done, len(groups))
        present = set(groups)
        for job_id, group in active.items():
            if group not in present:
                ended += await self._index.end_unknown(job_id, group)
        await self._index.mark_restored(state.position.epoch)
        if ended:
            logger.warning(Event.ENDS_RESTORED, "Redis had lost how %d jobs have ended", ended)
        if made:
            logger.warning(
                Event.JOBS_RESTORED, "Redis had lost %d accepted jobs, which were made again", made
            )
        return made

    async def recreate(self, group: str, entries: Sequence[JournalEntry], found_at: int) -> int:
        """Make those jobs of a group again that have no record, and note the group."""
        count = 0
        try:
            for entry in entries:
                count += await self._index.recreate(
                    accepted_of(entry), before=found_at + _MOST_MILLISECONDS
                )
        except JournalUnrestored as late:
            raise _interrupted() from late
        if not await self._index.note(group, webhook_counts(entries)):
            raise _interrupted()
        return count

    async def keep_restored(self, redis: Redis) -> None:
        """Restore the journal when `redis` has lost writes; until cancelled.

        One process of the installation also does it each minute, whatever was noticed.
        """
        outages, wakeup = JournalOutages(_RESTORING, redis.outage), redis.losses.wakeup()
        while True:
            try:
                if await self._index.begin_check(_FULL_CHECK_INTERVAL):
                    await self.restore()
                else:
                    await self.ensure()
            except Failure as failure:
                await asyncio.sleep(outages.failed(failure))
            else:
                outages.succeeded()
                await wakeup.wait(_CHECK_SECONDS)

    async def _restore_group(self, group: str, found_at: int) -> int:
        entries = await self._objects.read(group)
        if not entries:
            return 0
        if has_ends(group):
            return await restore_ends(self._index, group, entries)
        return await self.recreate(group, entries, found_at)

    async def _state(self) -> JournalState:
        state = await self._index.state(self._known)
        self._known = state.position
        return state


def _interrupted() -> Failure:
    return Failure(
        reason_pb2.REASON_CACHE_UNAVAILABLE,
        "Redis lost data, or took too long, while lost jobs were made again. Try again.",
    )
