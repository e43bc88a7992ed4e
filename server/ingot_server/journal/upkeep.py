"""The upkeep of the journal, in every worker: ends are written, what is not needed is removed."""

from __future__ import annotations

import asyncio
from typing import Final

from ingot_server.errors import Failure
from ingot_server.jobs.journal_index import JournalIndex
from ingot_server.journal.compaction import compact
from ingot_server.journal.ends import EndsWriter
from ingot_server.journal.outages import JournalOutages
from ingot_server.journal.removal import remove_due
from ingot_server.library.blobs import Blobs
from ingot_server.outage import Outage

# An end is in the bucket within this time and ENDS_INTERVAL.
_CHECK_SECONDS: Final = 1.0
_REMOVAL_SECONDS: Final = 5.0
_COMPACTION_SECONDS: Final = 10.0
_UPKEEP: Final = "upkeep"


async def keep_journal_tidy(index: JournalIndex, blobs: Blobs, redis_outage: Outage) -> None:
    """Write the ends of jobs, compact and remove groups, again and again; until cancelled.

    Of all workers, one at a time has something to write or to remove.
    """
    ends = EndsWriter(index, blobs)
    outages = JournalOutages(_UPKEEP, redis_outage)
    loop = asyncio.get_running_loop()
    removed_at = compacted_at = loop.time()
    while True:
        await asyncio.sleep(_CHECK_SECONDS)
        try:
            await ends.record_due()
            if loop.time() - removed_at >= _REMOVAL_SECONDS:
                removed_at = loop.time()
                await remove_due(index, blobs)
            if loop.time() - compacted_at >= _COMPACTION_SECONDS:
                compacted_at = loop.time()
                while await compact(index, blobs):
                    pass
        except Failure as failure:
            await asyncio.sleep(outages.failed(failure))
        else:
            outages.succeeded()
