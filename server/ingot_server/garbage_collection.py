"""`ingot-server gc`, and the same in a worker from time to time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Final

from ingot_server.config import Settings
from ingot_server.errors import Failure, reason_name
from ingot_server.event_log import EventLogger
from ingot_server.jobs.records import Records
from ingot_server.journal.leftovers import find_leftovers
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.garbage import Garbage, GarbageCollector
from ingot_server.log_events import Event
from ingot_server.redis import Redis, connect, unavailable

logger = EventLogger(__name__)

_LAST_RUN: Final = "gc"
_CHECK_SECONDS: Final = 300.0


async def collect_garbage(settings: Settings, *, delete: bool, say: Callable[[str], None]) -> None:
    """Say what nothing in the bucket needs any more, and with `delete` remove it.

    Raises Failure if Redis or S3 cannot be used.
    """
    async with _stores(settings) as (redis, catalog, blobs):
        collector = GarbageCollector(catalog, blobs, settings)
        removed: Counter[str] = Counter()
        size_bytes = 0
        async for garbage in _find(collector, redis, blobs, settings):
            if delete and not await collector.remove(garbage):
                continue
            say(_line(garbage))
            removed[garbage.kind.value] += 1
            size_bytes += garbage.size_bytes
        say(_summary(removed, size_bytes, delete=delete))


async def keep_collecting(redis: Redis, catalog: Catalog, blobs: Blobs, settings: Settings) -> None:
    """Remove garbage every `gc_interval`, in one worker of the installation; until cancelled."""
    interval = settings.gc_interval
    if not interval:
        return
    collector = GarbageCollector(catalog, blobs, settings)
    while True:
        # Not at once: a worker that starts has jobs to run.
        await asyncio.sleep(min(_CHECK_SECONDS, interval.total_seconds()))
        try:
            with unavailable():
                is_due = await redis.set(redis.key(_LAST_RUN), b"", nx=True, px=interval)
            if is_due:
                async for garbage in _find(collector, redis, blobs, settings):
                    if await collector.remove(garbage):
                        logger.info(Event.GARBAGE_REMOVED, "gc: removed %s", _line(garbage))
        except Failure as failure:
            logger.warning(
                Event.GARBAGE_COLLECTION_FAILED,
                "gc: %s: %s",
                reason_name(failure.reason),
                failure.message,
                reason=failure.reason,
            )


async def _find(
    collector: GarbageCollector, redis: Redis, blobs: Blobs, settings: Settings
) -> AsyncIterator[Garbage]:
    async for garbage in collector.find():
        yield garbage
    journal = Records(redis, settings).journal
    async for garbage in find_leftovers(journal, blobs, settings.gc_grace):
        yield garbage


@contextlib.asynccontextmanager
async def _stores(settings: Settings) -> AsyncIterator[tuple[Redis, Catalog, Blobs]]:
    async with contextlib.AsyncExitStack() as stack:
        redis = connect(settings)
        stack.push_async_callback(redis.aclose)
        blobs = Blobs(settings)
        stack.push_async_callback(blobs.close)
        await blobs.prepare()
        yield redis, Catalog(blobs, redis, settings), blobs


def _line(garbage: Garbage) -> str:
    size = f", {garbage.size_bytes} bytes" if garbage.size_bytes else ""
    return f"{garbage.kind.value} {garbage.key}, of {garbage.time:%Y-%m-%d %H:%M} UTC{size}"


def _summary(removed: Counter[str], size_bytes: int, *, delete: bool) -> str:
    if not removed:
        return "There is nothing to remove."
    counts = ", ".join(f"{count} of kind {kind!r}" for kind, count in sorted(removed.items()))
    if delete:
        return f"Removed: {counts}; {size_bytes} bytes."
    return f"To remove: {counts}; {size_bytes} bytes. `ingot-server gc --delete` removes them."
