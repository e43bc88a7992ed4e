r"""The feed of changes: one subscription a process, fanned out in memory.

    ingot:jobs --> Feed --> Topic of one job --> Pending of each watcher of that job
                        \-> Everything ------> Pending of one watcher of all jobs

What is published is a hint, the record is the truth. A gap between two revisions, a new connection
and, every few seconds, the clock make the feed read the records again; `Records.changes` then tells
what happened in between. What always holds: a watcher is registered before anything is read for it,
and a topic's watchers have been told all there is to tell up to the revision of `JobWatch.latest`.

Jobs handed out are shared between all watchers and must not be changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, Final

from google.protobuf.message import DecodeError
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.jobs.mailbox import Mailbox
from ingot_server.jobs.records import Records
from ingot_server.jobs.transition import unavailable
from ingot_server.jobs.watches import AllJobsWatch, JobWatch

logger = logging.getLogger(__name__)

CHANNEL: Final = "ingot:jobs"
RECHECK_SECONDS: Final = 5.0
# How long a message may be on its way before the record is believed in its place.
GRACE_SECONDS: Final = 0.2
RECONNECT_SECONDS: Final = 0.2
START_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 5.0
# How far back new jobs are looked for; more than clocks of two machines differ.
MARGIN_SECONDS: Final = 60.0
PAGE: Final = 200


class Feed:
    """All watches of one process. Belongs to the event loop it was started on."""

    def __init__(self, redis: Redis, records: Records, settings: Settings) -> None:
        self._redis = redis
        self._records = records
        self._settings = settings
        self._topics: dict[str, JobWatch] = {}
        self._everything: set[AllJobsWatch] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscribed = asyncio.Event()
        self._recheck_now = asyncio.Event()
        self._closed = False

    async def start(self) -> None:
        """Subscribes. Raises Failure with CACHE_UNAVAILABLE when Redis cannot be reached."""
        with unavailable():
            await self._redis.ping()
        self._spawn(self._listen())
        self._spawn(self._recheck_again_and_again())
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._subscribed.wait()
        except TimeoutError as error:
            raise Failure(
                reason_pb2.REASON_CACHE_UNAVAILABLE, f"Redis took no subscription to {CHANNEL}."
            ) from error

    async def close(self) -> None:
        """Ends every watch with Failure SHUTTING_DOWN, and the subscription."""
        self._closed = True
        shutting_down = _shutting_down()
        for topic in self._topics.values():
            for watcher in topic.watchers:
                watcher.fail(shutting_down)
        for everything in self._everything:
            everything.pending.fail(shutting_down)
        while self._tasks:  # one that ends may have begun another
            await cancel_and_wait(*self._tasks)

    async def watch(self, job_id: str, *, after_revision: int = 0) -> AsyncGenerator[Job, None]:
        """The job as it stands, then every later revision in order; ends after the last one.

        With `after_revision` instead of the job as it stands what happened since: of every state
        and stage at least the last revision. Close it with `contextlib.aclosing`. Raises Failure:
        JOB_NOT_FOUND when the record is gone, CACHE_UNAVAILABLE, SHUTTING_DOWN.
        """
        if self._closed:
            raise _shutting_down()
        pending = Mailbox()
        topic = self._join(job_id, pending)
        try:
            seen = after_revision
            if after_revision:
                changes = await self._records.changes(job_id, after_revision)
                if changes is None:
                    raise _not_found(job_id)
                for job in changes:
                    seen = job.revision
                    yield job
                    if has_ended(job):
                        return
            while True:
                job = await pending.next()
                if job.revision > seen:
                    yield job
                if has_ended(job):
                    return
        finally:
            topic.watchers.discard(pending)
            if not topic.watchers and self._topics.get(job_id) is topic:
                del self._topics[job_id]

    async def watch_all(self, accepts: Callable[[Job], bool]) -> AsyncGenerator[Job, None]:
        """All jobs that match, latest first, then every change of one; endless.

        A job that matched and no longer does comes once more. Close it with `contextlib.aclosing`.
        Raises Failure: CACHE_UNAVAILABLE, SHUTTING_DOWN.
        """
        if self._closed:
            raise _shutting_down()
        everything = AllJobsWatch(accepts, self._settings.job_ttl)
        self._everything.add(everything)
        try:
            before = ""
            while True:
                page = await self._records.list(limit=PAGE, before=before)
                for job in page:
                    everything.tell(job)
                while (told := everything.pending.take()) is not None:
                    yield told
                if len(page) < PAGE:
                    break
                before = page[-1].id
            while True:
                yield await everything.pending.next()
        finally:
            self._everything.discard(everything)

    def _join(self, job_id: str, pending: Mailbox) -> JobWatch:
        topic = self._topics.setdefault(job_id, JobWatch())
        topic.watchers.add(pending)
        if topic.latest is not None:
            pending.push(topic.latest)
        elif topic.held is None:
            self._catch_up(job_id, topic)
        return topic

    def _hear(self, job: Job) -> None:
        topic = self._topics.get(job.id)
        if topic is not None:
            self._pass_on(topic, job)
        for everything in self._everything:
            everything.tell(job)

    def _pass_on(self, topic: JobWatch, job: Job) -> None:
        if topic.held is not None:
            topic.held.append(job)
        elif topic.latest is not None and job.revision > topic.latest.revision + 1:
            self._catch_up(job.id, topic)
            self._pass_on(topic, job)
        else:
            topic.tell(job)

    def _catch_up(self, job_id: str, topic: JobWatch) -> None:
        topic.held = []
        self._spawn(self._read_topic(job_id, topic))

    async def _read_topic(self, job_id: str, topic: JobWatch) -> None:
        """Tells a topic what its record says, then what was held meanwhile."""
        try:
            if topic.latest is not None:
                changes = await self._records.changes(job_id, topic.latest.revision)
            else:
                job = await self._records.get(job_id)
                changes = [job] if job is not None else None
        except Failure as failure:
            self._fail(job_id, topic, failure)
            return
        if changes is None:
            self._fail(job_id, topic, _not_found(job_id))
            return
        held, topic.held = topic.held or [], None
        for job in changes:
            topic.tell(job)
        for job in held:
            self._pass_on(topic, job)

    def _fail(self, job_id: str, topic: JobWatch, failure: Failure) -> None:
        for watcher in topic.watchers:
            watcher.fail(failure)
        if self._topics.get(job_id) is topic:
            del self._topics[job_id]

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(CHANNEL)
                    while True:
                        self._take(await _next_message(pubsub))
            except (exceptions.RedisError, OSError) as error:
                logger.warning("the subscription to %s broke: %s", CHANNEL, error)
            except DecodeError:
                logger.warning("somebody published on %s what is no job", CHANNEL)
            await asyncio.sleep(RECONNECT_SECONDS)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            # Also after redis-py has connected again by itself.
            self._subscribed.set()
            self._recheck_now.set()
        elif message["type"] == "message":
            self._hear(Job.FromString(message["data"]))

    async def _recheck_again_and_again(self) -> None:
        checked = time.time()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECHECK_SECONDS):
                    await self._recheck_now.wait()
            self._recheck_now.clear()
            began = time.time()
            try:
                await self._recheck(since=checked - MARGIN_SECONDS)
            except Failure as failure:
                logger.warning("the records were not read again: %s", failure.message)
            else:
                checked = began

    async def _recheck(self, since: float) -> None:
        """Finds out what no message told: of known jobs, and of those created after `since`."""
        known = {job_id for job_id, topic in self._topics.items() if not topic.is_settled()}
        for everything in self._everything:
            known.update(everything.revisions.keys() - everything.ended.keys())
        gone, found = await self._read_all(known)
        if self._everything:
            found += await self._created(since)
        await asyncio.sleep(GRACE_SECONDS)
        for job_id in gone:
            self._miss(job_id)
        for job in found:
            topic = self._topics.get(job.id)
            if topic is not None and topic.held is None and topic.is_behind(job):
                self._catch_up(job.id, topic)
            for everything in self._everything:
                everything.tell(job)
        for everything in self._everything:
            everything.forget_ended(time.monotonic() - 2 * MARGIN_SECONDS)

    async def _read_all(self, job_ids: Iterable[str]) -> tuple[set[str], list[Job]]:
        """The ids whose records are gone, and the other jobs."""
        gone: set[str] = set()
        found: list[Job] = []
        for chunk in _chunks(job_ids):
            for job_id, job in zip(chunk, await self._records.read(chunk), strict=True):
                if job is None:
                    gone.add(job_id)
                else:
                    found.append(job)
        return gone, found

    def _miss(self, job_id: str) -> None:
        topic = self._topics.get(job_id)
        if topic is not None and topic.held is None and not topic.is_settled():
            self._fail(job_id, topic, _not_found(job_id))
        for everything in self._everything:
            everything.forget(job_id)

    async def _created(self, since: float) -> list[Job]:
        found: list[Job] = []
        before = ""
        while True:
            page = await self._records.list(limit=PAGE, before=before)
            found += [job for job in page if job.create_time.seconds >= since]
            if len(page) < PAGE or page[-1].create_time.seconds < since:
                return found
            before = page[-1].id

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _next_message(pubsub: PubSub) -> dict[str, Any]:
    """The next message; raises redis-py's TimeoutError when the connection shows no sign of life.

    A Redis that is gone without a word, with its machine or the way to it, looks like silence.
    """
    message: dict[str, Any] | None = await pubsub.get_message(timeout=SILENCE_SECONDS)
    if message is None:
        await pubsub.ping()
        message = await pubsub.get_message(timeout=SILENCE_SECONDS)
    if message is None:
        raise exceptions.TimeoutError(f"no answer for {SILENCE_SECONDS:g} s")
    return message


def _chunks(job_ids: Iterable[str]) -> Iterable[list[str]]:
    ordered = list(job_ids)
    return (ordered[at : at + PAGE] for at in range(0, len(ordered), PAGE))


def _not_found(job_id: str) -> Failure:
    return Failure(
        reason_pb2.REASON_JOB_NOT_FOUND,
        f"There is no job {job_id}; records of ended jobs are dropped after a while.",
    )


def _shutting_down() -> Failure:
    return Failure(
        reason_pb2.REASON_SHUTTING_DOWN, "The server is shutting down; watch again in a moment."
    )
