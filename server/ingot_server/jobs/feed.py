r"""The feed of job changes: one Redis subscription per process, fanned out in memory.

    ingot:jobs --> Feed --> JobWatch of one job --> Mailbox of each watcher of that job
                        \-> AllJobsFeed

A published message is a hint; the record is the truth. The feed reads the records again after a gap
between two revisions, after a new connection, and every few seconds; `History.of_job` returns what
happened since. If Redis has lost what a watcher has seen, the record is written again as a later
version, so versions only grow. A job is unknown only if it has no record after the journal was
restored. Invariants: a mailbox is registered before anything is read for it; the mailboxes of a
JobWatch have received everything up to the version of `JobWatch.latest`.

All watchers share the same Job objects, which must not be changed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, Final

from google.protobuf.message import DecodeError
from redis import exceptions
from redis.asyncio.client import PubSub

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.jobs.all_jobs_feed import AllJobsFeed, Update
from ingot_server.jobs.history import Change, read_message
from ingot_server.jobs.job_index import AMONG_ALL, Among
from ingot_server.jobs.journal_index import Restore, nothing_lost
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.jobs.mailbox import Mailbox
from ingot_server.jobs.position import BEGINNING, Position, Version, version
from ingot_server.jobs.records import Records
from ingot_server.jobs.watched_jobs import WatchedJobs
from ingot_server.jobs.watches import JobWatch
from ingot_server.log_events import Event
from ingot_server.redis import Redis, unavailable

logger = EventLogger(__name__)

_CHANNEL: Final = "jobs"
RECHECK_SECONDS: Final = 5.0
# How long a message may be late before the record is used instead.
MESSAGE_DELAY_SECONDS: Final = 0.2
_SUBSCRIPTION: Final = "subscription"
_RECHECK: Final = "recheck"
START_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 5.0
PAGE: Final = 200
# Proxies close a stream that was idle for a minute or less. The contract promises 20 seconds.
HEARTBEAT_SECONDS: Final = 15.0


class Feed:
    """All watches of one process. Belongs to the event loop that started it.

    `watched` is told by those who serve watchers, and tells those who write progress.
    """

    def __init__(
        self,
        redis: Redis,
        records: Records,
        settings: Settings,
        *,
        restore: Restore = nothing_lost,
    ) -> None:
        """`restore` is called before a job counts as unknown."""
        self._redis = redis
        self._channel = redis.channel(_CHANNEL)
        self._records = records
        self._settings = settings
        self._job_watches: dict[str, JobWatch] = {}
        self._restore = restore
        self._all_jobs = AllJobsFeed(records, settings, self._spawn, restore)
        self.watched = WatchedJobs(redis)
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscribed = asyncio.Event()
        self._recheck_now = asyncio.Event()
        self._closed = False

    async def start(self) -> None:
        """Subscribe. Raises Failure with CACHE_UNAVAILABLE if Redis cannot be reached."""
        with unavailable():
            await self._redis.ping()
        self._spawn(self._receive_messages())
        self._spawn(self._keep_rechecking())
        self._spawn(self.watched.keep_sending())
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._subscribed.wait()
        except TimeoutError as error:
            raise Failure(
                reason_pb2.REASON_CACHE_UNAVAILABLE,
                f"Redis did not confirm the subscription to {self._channel} "
                f"within {START_SECONDS:g} s.",
            ) from error

    async def close(self) -> None:
        """End every watch with Failure SHUTTING_DOWN, and the subscription."""
        self._closed = True
        shutting_down = _shutting_down()
        for watch in self._job_watches.values():
            watch.fail(shutting_down)
        self._all_jobs.close(shutting_down)
        while self._tasks:  # a task that ends may have started another
            await cancel_and_wait(*self._tasks)

    async def watch(self, job_id: str, *, after: Version = BEGINNING) -> AsyncGenerator[Job, None]:
        """Yield the current state of a job, then every later one in order, up to its end.

        With `after`, yield what happened since that version instead of the current state: at least
        the last revision of every state and stage. Close it with `contextlib.aclosing`. Raises
        Failure: JOB_NOT_FOUND if the record is gone, RESUME_TOKEN_EXPIRED if the record does not
        go back to `after`, CACHE_UNAVAILABLE, SHUTTING_DOWN.
        """
        updates = self._updates(job_id, after, None)
        async with contextlib.aclosing(updates):
            async for job in updates:
                if job is not None:
                    yield job

    def watch_with_heartbeats(
        self, job_id: str, *, after: Version = BEGINNING
    ) -> AsyncGenerator[Job | None, None]:
        """Do what `watch` does, and yield None when nothing happens for HEARTBEAT_SECONDS."""
        return self._updates(job_id, after, HEARTBEAT_SECONDS)

    async def _updates(
        self, job_id: str, after: Version, idle_seconds: float | None
    ) -> AsyncGenerator[Job | None, None]:
        if self._closed:
            raise _shutting_down()
        mailbox = Mailbox()
        watch = self._join(job_id, mailbox)
        try:
            seen = after
            if after > BEGINNING:
                for job in await self._missed(job_id, after):
                    seen = version(job)
                    yield job
                    if has_ended(job):
                        return
            while True:
                change = await mailbox.next_within(idle_seconds)
                update = change.job if change is not None else None
                if update is None or version(update) > seen:
                    yield update
                if update is not None and has_ended(update):
                    return
        finally:
            mailbox.close()
            watch.mailboxes.discard(mailbox)
            if not watch.mailboxes and self._job_watches.get(job_id) is watch:
                del self._job_watches[job_id]

    async def _missed(self, job_id: str, after: Version) -> list[Job]:
        """Return what has happened to a job since a version. Raises Failure as `watch` does."""
        changes = await self._records.history.of_job(job_id, after, complete=True)
        if changes is None:
            await self._restore()
            changes = await self._records.history.of_job(job_id, after, complete=True)
        if changes is None:
            raise _not_found(job_id)
        return changes

    def watch_all(
        self,
        accepts: Callable[[Job], bool],
        snapshot_size: int,
        *,
        among: Among = AMONG_ALL,
        resume: Position | None = None,
    ) -> AsyncGenerator[Update, None]:
        """Yield the `snapshot_size` newest jobs that match, SnapshotEnd, then every change of one.

        All jobs that match are `among` those.
        A job that no longer matches is yielded once more. The id of a job whose record is gone is
        yielded if the job was. With `resume`, what happened since that position comes instead of
        the snapshot. Yields nothing as an Update when nothing happens for HEARTBEAT_SECONDS. Never
        ends; close it with `contextlib.aclosing`. Raises Failure: RESUME_TOKEN_EXPIRED if the
        history does not go back to `resume`, CACHE_UNAVAILABLE, SHUTTING_DOWN.
        """
        if self._closed:
            raise _shutting_down()
        return self._all_jobs.watch(accepts, among, snapshot_size, resume, HEARTBEAT_SECONDS)

    def _join(self, job_id: str, mailbox: Mailbox) -> JobWatch:
        watch = self._job_watches.setdefault(job_id, JobWatch())
        watch.mailboxes.add(mailbox)
        if watch.latest is not None:
            mailbox.put(Change(job_id, watch.latest))
        elif watch.buffered is None:
            self._catch_up(job_id, watch)
        return watch

    def _deliver(self, change: Change) -> None:
        watch = self._job_watches.get(change.job_id)
        if watch is not None and change.job is not None:
            self._notify(watch, change.job)
        self._all_jobs.receive(change)

    def _notify(self, watch: JobWatch, job: Job) -> None:
        if watch.buffered is not None:
            watch.buffered.append(job)
        elif watch.misses_changes_before(job):
            self._catch_up(job.id, watch)
            self._notify(watch, job)
        else:
            watch.notify(job)

    def _catch_up(self, job_id: str, watch: JobWatch) -> None:
        watch.buffered = []
        self._spawn(self._read_changes(job_id, watch))

    async def _read_changes(self, job_id: str, watch: JobWatch) -> None:
        """Notify a watch of what the record says, then of what was buffered meanwhile."""
        try:
            changes = await self._changes_of(job_id, watch)
            if changes is None:
                await self._restore()
                changes = await self._changes_of(job_id, watch)
        except Failure as failure:
            self._fail(job_id, watch, failure)
            return
        if changes is None:
            self._fail(job_id, watch, _not_found(job_id))
            return
        buffered, watch.buffered = watch.buffered or [], None
        for job in changes:
            watch.notify(job)
        for job in buffered:
            self._notify(watch, job)

    async def _changes_of(self, job_id: str, watch: JobWatch) -> list[Job] | None:
        """Return what the watch has not received; None if the job has no record."""
        if watch.latest is not None:
            return await self._records.history.of_job(job_id, version(watch.latest))
        job = await self._records.get(job_id)
        return [job] if job is not None else None

    def _fail(self, job_id: str, watch: JobWatch, failure: Failure) -> None:
        watch.fail(failure)
        if self._job_watches.get(job_id) is watch:
            del self._job_watches[job_id]

    async def _receive_messages(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(self._channel, self.watched.channel)
                    while True:
                        self._handle_message(await _next_message(pubsub))
            except (exceptions.RedisError, OSError) as error:
                await asyncio.sleep(self._redis.outage.failed(_SUBSCRIPTION, error))
            except (DecodeError, ValueError):
                logger.warning(
                    Event.CHANGE_UNREADABLE,
                    "a message on %s is not a change of a job",
                    self._channel,
                )

    def _handle_message(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            # This also arrives after redis-py has reconnected by itself.
            self._redis.outage.succeeded(_SUBSCRIPTION)
            self._subscribed.set()
            self._recheck_now.set()
        elif message["type"] == "message":
            if message["channel"].decode() == self.watched.channel:
                self.watched.receive(message["data"])
            else:
                self._deliver(read_message(message["data"]))

    async def _keep_rechecking(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECHECK_SECONDS):
                    await self._recheck_now.wait()
            self._recheck_now.clear()
            try:
                await self._recheck()
            except (Failure, exceptions.RedisError) as failure:
                await asyncio.sleep(self._redis.outage.failed(_RECHECK, failure))
            else:
                self._redis.outage.succeeded(_RECHECK)

    async def _recheck(self) -> None:
        """Find changes without a message."""
        if self._all_jobs.watches:
            await self._all_jobs.catch_up()
        watched = {
            job_id: version(each.latest) if each.latest is not None else BEGINNING
            for job_id, each in self._job_watches.items()
            if not each.has_ended()
        }
        gone, found = await self._read_records(watched)
        if gone:
            gone, restored = await self._read_restored(gone)
            found += restored
        await asyncio.sleep(MESSAGE_DELAY_SECONDS)
        for job_id in gone:
            self._handle_gone(job_id)
        for job in found:
            watch = self._job_watches.get(job.id)
            if watch is not None and watch.buffered is None and watch.is_behind(job):
                self._catch_up(job.id, watch)
            elif version(job) < watched[job.id]:
                # Redis has lost changes that were sent. The message of this change is delivered.
                await self._records.history.restore(job.id, watched[job.id])

    async def _read_records(self, job_ids: Iterable[str]) -> tuple[set[str], list[Job]]:
        """Return the ids of jobs whose records are gone, and all other jobs."""
        gone: set[str] = set()
        found: list[Job] = []
        for chunk in _chunks(job_ids):
            for job_id, job in zip(chunk, await self._records.get_many(chunk), strict=True):
                if job is None:
                    gone.add(job_id)
                else:
                    found.append(job)
        return gone, found

    async def _read_restored(self, job_ids: Iterable[str]) -> tuple[set[str], list[Job]]:
        """Do what `_read_records` does, after the journal is restored.

        Until that is possible, no job is gone: the watches wait.
        """
        try:
            await self._restore()
        except Failure as failure:
            logger.debug(
                Event.WATCHES_WAIT,
                "watches wait: %s",
                failure.message,
                reason=failure.reason,
            )
            return set(), []
        return await self._read_records(job_ids)

    def _handle_gone(self, job_id: str) -> None:
        watch = self._job_watches.get(job_id)
        if watch is not None and watch.buffered is None and not watch.has_ended():
            self._fail(job_id, watch, _not_found(job_id))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _next_message(pubsub: PubSub) -> dict[str, Any]:
    """Return the next message; raise redis-py's TimeoutError if the connection is dead.

    A Redis whose machine or network is gone sends nothing, like an idle one, so it is pinged.
    """
    message: dict[str, Any] | None = await pubsub.get_message(timeout=IDLE_SECONDS)
    if message is None:
        await pubsub.ping()
        message = await pubsub.get_message(timeout=IDLE_SECONDS)
    if message is None:
        raise exceptions.TimeoutError(f"no response within {IDLE_SECONDS:g} s")
    return message


def _chunks(job_ids: Iterable[str]) -> Iterable[list[str]]:
    ordered = list(job_ids)
    return (ordered[at : at + PAGE] for at in range(0, len(ordered), PAGE))


def _not_found(job_id: str) -> Failure:
    return Failure(
        reason_pb2.REASON_JOB_NOT_FOUND,
        f"There is no job {job_id}. The record of a job is deleted some time after its end.",
    )


def _shutting_down() -> Failure:
    return Failure(
        reason_pb2.REASON_SHUTTING_DOWN, "The server is shutting down. Watch again in a moment."
    )
