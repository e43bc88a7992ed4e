"""`ingot-server scrub`, and the same slowly in a worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from ingot_server.config import Settings
from ingot_server.errors import Failure, reason_name
from ingot_server.event_log import EventLogger
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest_pb2 import ScrubProgress
from ingot_server.library.scrubber import Scrubbed, Scrubber
from ingot_server.log_events import Event
from ingot_server.redis import Redis, connect, unavailable
from ingot_server.redis_lock import redis_lock

logger = EventLogger(__name__)

# The names of the two scrubs, which go on where each of them stopped.
COMMAND: Final = "command"
WORKERS: Final = "workers"

# The lock `ingot:scrub`: while it exists, a worker scrubs. If Redis loses it, two workers read the
# same files, which costs time only.
_LOCK: Final = "scrub"
_LOCK_LIFETIME: Final = timedelta(minutes=1)
_CHECK_SECONDS: Final = 300.0
_SAVE_SECONDS: Final = 15.0


async def scrub(settings: Settings, *, restart: bool, say: Callable[[str], None]) -> bool:
    """Read all stored files, from where the last run was stopped; return whether all are whole.

    With `restart`, begin with the first. Raises Failure if Redis or S3 cannot be used.
    """
    async with contextlib.AsyncExitStack() as stack:
        redis = connect(settings)
        stack.push_async_callback(redis.aclose)
        blobs = Blobs(settings)
        stack.push_async_callback(blobs.close)
        await blobs.prepare()
        catalog = Catalog(blobs, redis, settings)
        scrubber = Scrubber(catalog, blobs, settings.scrub_rate)
        progress = await scrubber.progress(COMMAND)
        if restart or not progress.HasField("begin_time") or progress.HasField("end_time"):
            progress = _from_the_beginning()
        elif progress.media_id:
            say(f"Going on after {progress.media_id}; `--restart` begins with the first one.")
        async for scrubbed in _go_on(scrubber, COMMAND, progress):
            for line in _lines(scrubbed):
                say(line)
    say(_summary(progress))
    return not progress.damaged_media_items


async def keep_scrubbing(redis: Redis, catalog: Catalog, blobs: Blobs, settings: Settings) -> None:
    """Read all stored files every `scrub_interval`, in one worker at a time; until cancelled."""
    interval = settings.scrub_interval
    if not interval:
        return
    scrubber = Scrubber(catalog, blobs, settings.scrub_rate)
    while True:
        # Not at once: a worker that starts has jobs to run.
        await asyncio.sleep(min(_CHECK_SECONDS, interval.total_seconds()))
        try:
            with unavailable():
                async with redis_lock(redis, redis.key(_LOCK), _LOCK_LIFETIME) as token:
                    if token is not None:
                        await _scrub_if_due(scrubber, interval)
        except Failure as failure:
            logger.warning(
                Event.SCRUB_FAILED,
                "scrub: %s: %s",
                reason_name(failure.reason),
                failure.message,
                reason=failure.reason,
            )


async def _scrub_if_due(scrubber: Scrubber, interval: timedelta) -> None:
    """Go on with the scrub of the workers, or begin one if the last began `interval` ago."""
    progress = await scrubber.progress(WORKERS)
    if progress.HasField("end_time"):
        if datetime.now(UTC) - progress.begin_time.ToDatetime(UTC) < interval:
            return
        progress.Clear()
    if not progress.HasField("begin_time"):
        progress = _from_the_beginning()
    async for scrubbed in _go_on(scrubber, WORKERS, progress):
        for line in _lines(scrubbed):
            logger.warning(Event.SCRUB_FOUND, "scrub: %s", line)
    logger.info(Event.SCRUB_ENDED, "scrub: %s", _summary(progress))


def _from_the_beginning() -> ScrubProgress:
    progress = ScrubProgress()
    progress.begin_time.GetCurrentTime()
    return progress


async def _go_on(
    scrubber: Scrubber, name: str, progress: ScrubProgress
) -> AsyncGenerator[Scrubbed, None]:
    """Scrub from `progress` to the end; keep the progress in the bucket, also when stopped."""
    loop = asyncio.get_running_loop()
    saved = loop.time()
    try:
        async for scrubbed in scrubber.scrub(progress.media_id):
            progress.media_id = scrubbed.media_id
            progress.media_items += 1
            progress.size_bytes += scrubbed.size_bytes
            progress.damaged_media_items += bool(scrubbed.problems)
            yield scrubbed
            if loop.time() - saved > _SAVE_SECONDS:
                saved = loop.time()
                await scrubber.save(name, progress)
        progress.end_time.GetCurrentTime()
    finally:
        await scrubber.save(name, progress)


def _lines(scrubbed: Scrubbed) -> list[str]:
    if not scrubbed.problems and scrubbed.was_damaged:
        return [f"{scrubbed.media_id} is whole again"]
    return [f"damaged: {url}: {problem}" for url, problem in sorted(scrubbed.problems.items())]


def _summary(progress: ScrubProgress) -> str:
    read = f"{progress.media_items} media items with {progress.size_bytes} bytes were read"
    if not progress.damaged_media_items:
        return f"{read}; all are whole."
    return (
        f"{read}; {progress.damaged_media_items} are damaged, and are not served any more. Ingest "
        "their URLs again, which replaces them, or restore the files from a backup and scrub again."
    )
