"""`ingot-server gc`, and the same in a worker from time to time.

Rules of retention are a part of it: what they remove is found after all other garbage.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from ingot_server.config import Settings
from ingot_server.errors import Failure, reason_name
from ingot_server.event_log import EventLogger
from ingot_server.jobs.media_in_use import media_in_use
from ingot_server.jobs.records import Records
from ingot_server.journal.leftovers import find_leftovers
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.garbage import Garbage, GarbageCollector
from ingot_server.library.media_list import MediaList
from ingot_server.library.retention_report import RetentionReport, RetentionTally
from ingot_server.library.retention_search import RetentionSearch
from ingot_server.log_events import Event
from ingot_server.redis import Redis, connect, unavailable
from ingot_server.retention_rules import RetentionRules, Rule

logger = EventLogger(__name__)

_LAST_RUN: Final = "gc"
_CHECK_SECONDS: Final = 300.0
_SURVEY_INTERVAL: Final = timedelta(hours=1)
_INDEX_PAUSE_SECONDS: Final = 1.0


async def collect_garbage(settings: Settings, *, delete: bool, say: Callable[[str], None]) -> None:
    """Say what nothing in the bucket needs any more, and with `delete` remove it.

    Raises Failure if Redis or S3 cannot be used, and SettingError for rules that cannot be used.
    """
    rules = RetentionRules(settings).rules
    async with _stores(settings) as (redis, catalog, blobs):
        collection = _Collection(redis, catalog, blobs, settings)
        removed: Counter[str] = Counter()
        size_bytes = 0
        async for garbage in collection.run(rules) if delete else collection.find(rules):
            say(_line(garbage))
            removed[garbage.kind.value] += 1
            size_bytes += garbage.size_bytes
        say(_summary(removed, size_bytes, delete=delete))


async def keep_collecting(
    redis: Redis, catalog: Catalog, blobs: Blobs, settings: Settings, retention: RetentionRules
) -> None:
    """Remove garbage every `gc_interval`, in one worker of the installation; until cancelled."""
    interval = settings.gc_interval
    if not interval:
        return
    collection = _Collection(redis, catalog, blobs, settings)
    while True:
        # Not at once: a worker that starts has jobs to run.
        await asyncio.sleep(min(_CHECK_SECONDS, interval.total_seconds()))
        try:
            with unavailable():
                is_due = await redis.set(redis.key(_LAST_RUN), b"", nx=True, px=interval)
            if is_due:
                async for garbage in collection.run(retention.rules):
                    _log_removed(garbage)
            else:
                await collection.survey(retention.rules)
        except Failure as failure:
            logger.warning(
                Event.GARBAGE_COLLECTION_FAILED,
                "gc: %s: %s",
                reason_name(failure.reason),
                failure.message,
                reason=failure.reason,
            )


class _Collection:
    """Finds and removes everything that is not needed, by the rules that each call gets.

    The coroutines raise Failure if a store cannot be used.
    """

    def __init__(self, redis: Redis, catalog: Catalog, blobs: Blobs, settings: Settings) -> None:
        self._blobs = blobs
        self._settings = settings
        self._collector = GarbageCollector(catalog, blobs, settings)
        self._media_list = MediaList(catalog, blobs, redis)
        self._report = RetentionReport(redis)
        records = Records(redis, settings)
        self._journal = records.journal
        self._search = RetentionSearch(
            catalog,
            blobs,
            redis,
            lambda: media_in_use(redis, records),
            bucket_dir=settings.bucket_dir,
        )

    async def find(self, rules: Sequence[Rule]) -> AsyncIterator[Garbage]:
        """Yield all garbage, and report what of it is past a rule."""
        due = RetentionTally(rules)
        async for garbage in self._find(rules):
            due.add(garbage)
            yield garbage
        if rules:
            await self._report.surveyed(rules, due)

    async def run(self, rules: Sequence[Rule]) -> AsyncIterator[Garbage]:
        """Remove all garbage, yield what was removed, and report what of it was past a rule."""
        removed = RetentionTally(rules)
        async for garbage in self._find(rules):
            if await self._collector.remove(garbage):
                removed.add(garbage)
                yield garbage
        if rules:
            await self._report.ran(rules, removed)

    async def survey(self, rules: Sequence[Rule]) -> None:
        """Report what is past a rule, if that was not done lately."""
        if await self._report.begin_survey(rules, _SURVEY_INTERVAL):
            due = RetentionTally(rules)
            async for garbage in self._search.find(rules, datetime.now(UTC)):
                due.add(garbage)
            await self._report.surveyed(rules, due)

    async def _find(self, rules: Sequence[Rule]) -> AsyncIterator[Garbage]:
        async for garbage in self._collector.find():
            yield garbage
        grace = self._settings.gc_grace
        async for garbage in find_leftovers(self._journal, self._blobs, grace):
            yield garbage
        if rules:
            # An entry of the index without a media item would count as one that stays.
            while await self._media_list.rebuild_index() is None:  # noqa: ASYNC110 - in Redis
                await asyncio.sleep(_INDEX_PAUSE_SECONDS)
            async for garbage in self._search.find(rules, datetime.now(UTC)):
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


def _log_removed(garbage: Garbage) -> None:
    if garbage.rule:
        logger.info(
            Event.MEDIA_PAST_RULE,
            "gc: removed %s",
            _line(garbage),
            media_id=garbage.media_id,
            rule=garbage.rule,
        )
    else:
        logger.info(Event.GARBAGE_REMOVED, "gc: removed %s", _line(garbage))


def _line(garbage: Garbage) -> str:
    size = f", {garbage.size_bytes} bytes" if garbage.size_bytes else ""
    rule = f": {garbage.rule}, {garbage.limit}" if garbage.rule else ""
    return f"{garbage.kind.value} {garbage.key}, of {garbage.time:%Y-%m-%d %H:%M} UTC{size}{rule}"


def _summary(removed: Counter[str], size_bytes: int, *, delete: bool) -> str:
    if not removed:
        return "There is nothing to remove."
    counts = ", ".join(f"{count} of kind {kind!r}" for kind, count in sorted(removed.items()))
    if delete:
        return f"Removed: {counts}; {size_bytes} bytes."
    return f"To remove: {counts}; {size_bytes} bytes. `ingot-server gc --delete` removes them."
