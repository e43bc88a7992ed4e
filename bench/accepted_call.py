"""What the journal adds to a call that is accepted, and what it costs at a hundred a second."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot_server.api.caller import Caller
from ingot_server.api.ingest_service import IngestService
from ingot_server.config import Settings
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.journal_index import Accepted
from ingot_server.jobs.previews import Previews
from ingot_server.jobs.queue import Queue, celery_app
from ingot_server.jobs.records import Records
from ingot_server.journal.writer import JournalWriter
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.redis import connect
from ingot_server.setting_values import Secret
from tests.servers import STACKS, Stores, stores

CALLS = 200
A_SECOND = 100
SECONDS = 5


class NoJournal(JournalWriter):
    """Writes nothing."""

    async def enter(self, accepted: Accepted) -> None:
        pass


async def main() -> None:
    with stores(STACKS[0]) as found, tempfile.TemporaryDirectory() as directory:
        await _measure(_settings(found, Path(directory)))


async def _measure(settings: Settings) -> None:
    async with contextlib.AsyncExitStack() as stack:
        redis = await stack.enter_async_context(connect(settings))
        blobs = Blobs(settings)
        await blobs.prepare()
        stack.push_async_callback(blobs.close)
        records = Records(redis, settings)
        catalog, queue = Catalog(blobs, redis, settings), Queue(celery_app(settings))
        stack.push_async_callback(queue.close)

        def service(journal: JournalWriter) -> IngestService:
            feed, previews = Feed(redis, records, settings), Previews(redis, settings)
            return IngestService(catalog, records, queue, blobs, feed, previews, journal, settings)

        journal = JournalWriter(records.journal, blobs)
        with_journal, without = service(journal), service(NoJournal(records.journal, blobs))
        await journal.restorer.ensure()
        await call(with_journal, "first")
        journaled, bare, puts_alone = [], [], []
        for number in range(CALLS):
            journaled.append(await _timed(call(with_journal, f"{number}-with")))
            bare.append(await _timed(call(without, f"{number}-without")))
            alone = blobs.put(f"bench/{number}", bytes(500), content_type="text/plain")
            puts_alone.append(await _timed(alone))
        with_it, without_it, put = map(statistics.median, (journaled, bare, puts_alone))
        print(f"  a call by itself: {with_it:.1f} ms, and {without_it:.1f} ms without the journal")
        print(f"  which adds {(with_it - without_it) / put:.1f} times a PUT of {put:.1f} ms")
        before = len(await blobs.list_objects("journal/"))
        count = A_SECOND * SECONDS
        begin = time.perf_counter()
        calls = []
        for number in range(count):
            await asyncio.sleep(begin + number / A_SECOND - time.perf_counter())
            calls.append(asyncio.create_task(call(with_journal, f"many-{number}")))
        await asyncio.gather(*calls)
        rate = count / (time.perf_counter() - begin)
        puts = len(await blobs.list_objects("journal/")) - before
        print(f"  {rate:.0f} calls a second: {puts / count:.2f} PUTs for each")


async def call(service: IngestService, name: str) -> None:
    request = IngestRequest(url=f"http://127.0.0.1:9/{name}.mp4")
    await service.ingest(request, Caller("unix:"))


async def _timed(doing: Awaitable[object]) -> float:
    """Returns milliseconds."""
    begin = time.perf_counter()
    await doing
    return (time.perf_counter() - begin) * 1000


def _settings(found: Stores, directory: Path) -> Settings:
    return Settings(
        redis_url=found.redis_url,
        s3_endpoint=found.s3_endpoint,
        s3_access_key=found.s3_access_key,
        s3_secret_key=Secret(found.s3_secret_key),
        egress_allow_loopback=True,
        data_dir=directory / "data",
        scratch_dir=directory / "scratch",
    )
