"""A group of the journal that is removed although a job needs it by now: the job keeps an entry."""

from __future__ import annotations

import pytest

from ingot_server.jobs.journal_index import Accepted
from ingot_server.jobs.records import Records
from ingot_server.journal.removal import remove
from ingot_server.journal.writer import JournalWriter
from ingot_server.library.blobs import Blobs
from ingot_server.library.journal_objects import JournalObjects
from ingot_server.redis import Redis
from tests.records import queued_job


@pytest.mark.any_stores
async def test_a_removal_that_was_decided_before_a_loss_loses_no_job(
    records: Records, blobs: Blobs, redis: Redis
) -> None:
    writer, objects = JournalWriter(records.journal, blobs), JournalObjects(blobs)
    job = await queued_job(records, "media")
    entry = Accepted(job, "caller", "media", request_id=job.id, fingerprint="print")
    await writer.enter(entry)
    await writer.enter(entry)  # a repeated call: the first group is not needed any more
    former = list(await records.journal.due(10))
    (latter,) = {found.key.rpartition("/")[2] for found in await blobs.list_objects("journal/")} - {
        *former
    }
    await redis.flushall()
    for group in (latter, *former):
        unknown = await records.journal.unknown([group])
        await writer.restorer.recreate(group, await objects.read(group), unknown.found_at)

    await remove(records.journal, objects, former)
    await remove(records.journal, objects, list(await records.journal.due(10)))
    await redis.flushall()
    await writer.restorer.restore()

    assert await records.get(job.id) is not None
