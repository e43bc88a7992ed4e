"""Checks of subscriptions: a list is read, and each of its new entries becomes a job.

    due -> taken by one API server -> a worker lists the entries -> new ones -> a job each -> noted

An API server decides, because jobs are admitted there, within the quotas of their caller. A worker
asks the source (a preview, `jobs/lifecycle.py`), so its limits and its circuit breaker count. A
check whose server was killed begins again on another one. The jobs that it made are found by their
request ids, which follow from the entries.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Final

from ingot.v1 import reason_pb2
from ingot.v1.ingest_service_pb2 import ListEntry, ResolveResponse
from ingot.v1.scope_pb2 import Scope
from ingot.v1.subscription_pb2 import Subscription
from ingot_server.api.authentication import Authentication
from ingot_server.api.caller import CALLER
from ingot_server.api.ingest_service import IngestService
from ingot_server.api.status import unexpected
from ingot_server.api.subscription_requests import entry_request
from ingot_server.asyncio_tasks import cancel_and_wait, gather_or_cancel
from ingot_server.config import Settings
from ingot_server.errors import Failure, reason_name
from ingot_server.event_log import EventLogger, log_context
from ingot_server.following.new_entries import MOST_MEDIA_IDS, Entry, Findings, find_new, remember
from ingot_server.following.schedule import next_delay, retry_delay
from ingot_server.following.subscriptions import Subscriptions
from ingot_server.jobs.lifecycle import new_job_id
from ingot_server.library.manifest_pb2 import StoredSubscription
from ingot_server.library.tenants import TENANT
from ingot_server.log_events import Event
from ingot_server.metrics.definitions import SUBSCRIPTION_CHECKS, SUBSCRIPTION_JOBS
from ingot_server.redis import Redis
from ingot_server.sources import pick

logger = EventLogger(__name__)

AT_ONCE: Final = 16
"""Checks that an API server does at the same time."""
_SWEEP_SECONDS: Final = 5.0
_CHECKING: Final = "checks of subscriptions"
_JOBS_AT_ONCE: Final = 8
_MOST_LISTS: Final = 10
"""How many of the lists in a list are read, such as the tabs of a channel."""


class SubscriptionChecks:
    """Checks what is due. One object for each API server."""

    def __init__(
        self,
        subscriptions: Subscriptions,
        ingest: IngestService,
        authentication: Authentication,
        redis: Redis,
        settings: Settings,
    ) -> None:
        self._subscriptions = subscriptions
        self._ingest = ingest
        self._authentication = authentication
        self._lease = settings.lease
        self._random = random.Random()  # noqa: S311 - a schedule is not a secret
        self._running: set[asyncio.Task[None]] = set()
        self._outage = redis.outage
        self._wakeup = redis.losses.wakeup()
        subscriptions.on_due_now = self._wakeup.wake

    async def keep_checking(self) -> None:
        """Check what is due, every five seconds, and what is due at once; until cancelled."""
        try:
            while True:
                try:
                    await self._restore()
                    await self._begin()
                except Failure as failure:
                    await asyncio.sleep(self._outage.failed(_CHECKING, failure))
                    continue
                self._outage.succeeded(_CHECKING)
                await self._wakeup.wait(_SWEEP_SECONDS)
        finally:
            await cancel_and_wait(*self._running)

    async def _restore(self) -> None:
        """Compare the bucket with Redis, if Redis has lost its data, and once a minute."""
        was_lost = not await self._subscriptions.index.is_restored()
        if was_lost or await self._subscriptions.index.begin_comparison():
            count = await self._subscriptions.restore()
            if count:
                logger.info(
                    Event.SUBSCRIPTIONS_RESTORED,
                    "%d subscriptions were read from the bucket",
                    count,
                )

    async def _begin(self) -> None:
        free = AT_ONCE - len(self._running)
        if free <= 0:
            return
        token = new_job_id()
        for each in await self._subscriptions.index.take(free, token, self._lease):
            task = asyncio.create_task(self._run(each, token))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wakeup.wake()  # others may be due that had to wait

    async def _run(self, subscription_id: str, token: str) -> None:
        """Check a subscription that was taken, and note what became of that."""
        with log_context(subscription_id=subscription_id):
            try:
                async with self._held(subscription_id, token):
                    await self._check_and_finish(subscription_id, token)
            except asyncio.CancelledError:
                await self._release(subscription_id, token)
                raise
            except Failure as failure:
                if failure.reason != reason_pb2.REASON_SHUTTING_DOWN:
                    _log_failed(subscription_id, failure)
                await self._release(subscription_id, token)

    async def _release(self, subscription_id: str, token: str) -> None:
        """Give up a check, which another server may begin at once."""
        # Without Redis its lease ends, and that begins it again.
        with contextlib.suppress(Failure):
            await self._subscriptions.index.release(subscription_id, token)

    @contextlib.asynccontextmanager
    async def _held(self, subscription_id: str, token: str) -> AsyncIterator[None]:
        """Renew the lease of a check while the context is open."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(self._lease.total_seconds() / 3)
                with contextlib.suppress(Failure):
                    await self._subscriptions.index.renew(subscription_id, token, self._lease)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            await cancel_and_wait(renewing)

    async def _check_and_finish(self, subscription_id: str, token: str) -> None:
        stored = await self._subscriptions.read(subscription_id)
        if stored is None:
            await self._subscriptions.index.remove(subscription_id)
            return
        former = await self._subscriptions.get(subscription_id)
        status = Subscription(entry_count=former.entry_count)
        try:
            failure = await self._check(stored, status)
        except Failure as raised:
            if raised.reason == reason_pb2.REASON_SHUTTING_DOWN:
                raise
            failure = raised
        except Exception as error:
            failure = unexpected("CheckSubscription", error)
        if failure is not None and failure.reason == reason_pb2.REASON_SUBSCRIPTION_NOT_FOUND:
            return
        interval = stored.subscription.interval.ToTimedelta()
        delay = next_delay(interval, self._random)
        if failure is not None:
            _log_failed(subscription_id, failure)
            status.failure_count = former.failure_count + 1
            status.last_error.CopyFrom(failure.status())
            wait = failure.retry_after if failure.transient else timedelta(0)
            delay = retry_delay(interval, status.failure_count, wait, self._random)
        SUBSCRIPTION_CHECKS.add(reason_name(failure.reason) if failure is not None else "")
        status.last_check_time.GetCurrentTime()
        await self._subscriptions.index.finish(subscription_id, token, status, delay)

    async def _check(self, stored: StoredSubscription, status: Subscription) -> Failure | None:
        """Make jobs of the new entries, and note it. Return why not all of them were made.

        Raises Failure if the list cannot be read.
        """
        subscription = stored.subscription
        caller = self._authentication.owner(
            subscription.owner, stored.peer, frozenset(stored.scopes)
        )
        caller.require(Scope.SCOPE_INGEST)
        if subscription.recipes:
            caller.require(Scope.SCOPE_CONVERT)
        CALLER.set(caller)
        TENANT.set(caller.tenant)
        listing = await self._list(subscription)
        findings = find_new(stored, listing.entries)
        status.entry_count = len(findings.entries)
        made, media_ids, failure = await self._make_jobs(subscription, findings, listing)
        await self._subscriptions.change(
            subscription.id,
            lambda latest: _note(latest, stored, listing.media.title, findings, made, media_ids),
        )
        if made:
            SUBSCRIPTION_JOBS.add(amount=len(made))
            logger.info(
                Event.SUBSCRIPTION_CHECKED,
                "%s has %d new entries",
                subscription.url,
                len(made),
                subscription_id=subscription.id,
            )
        return failure

    async def _list(self, subscription: Subscription) -> ResolveResponse:
        """Return the list, with the entries of the lists in it instead of those lists."""
        listing = await self._ingest.list_entries(subscription.url, subscription.max_entries)
        entries: list[ListEntry] = []
        lists = 0
        for entry in listing.entries:
            if not _names_list(entry.url):
                entries.append(entry)
            elif lists < _MOST_LISTS:
                lists += 1
                nested = await self._ingest.list_entries(entry.url, subscription.max_entries)
                entries += (each for each in nested.entries if not _names_list(each.url))
        del listing.entries[:]
        listing.entries.extend(entries)
        return listing

    async def _make_jobs(
        self, subscription: Subscription, findings: Findings, listing: ResolveResponse
    ) -> tuple[Sequence[Entry], Sequence[str], Failure | None]:
        """Make a job of each new entry, the last of the list first.

        Returns the entries that are done, the ids of the media items of their jobs, and the Failure
        that kept the others from having a job now.
        """
        done: list[Entry] = []
        media_ids: list[str] = []
        failure: Failure | None = None
        new = list(reversed(findings.new))
        for first in range(0, len(new), _JOBS_AT_ONCE):
            batch = new[first : first + _JOBS_AT_ONCE]
            results = await gather_or_cancel(
                self._make_job(subscription, entry, listing.media.title) for entry in batch
            )
            for entry, result in zip(batch, results, strict=True):
                if isinstance(result, Failure):
                    failure = failure or result
                else:
                    done.append(entry)
                    media_ids += [result] if result else []
            if failure is not None:
                break
        return done, media_ids, failure

    async def _make_job(
        self, subscription: Subscription, entry: Entry, title: str
    ) -> str | Failure:
        """Return the id of the media item that the job of an entry is about; empty if none is.

        Returns a Failure if the entry has to wait.
        """
        url = entry.listed.url
        request = entry_request(subscription, url, f"{subscription.id}-{entry.key.hex()}")
        try:
            job = await self._ingest.ingest_entry(request, subscription.id, title)
        except Failure as failure:
            if failure.transient:
                return failure
            logger.warning(
                Event.ENTRY_REFUSED,
                "%s: %s",
                url,
                failure.message,
                subscription_id=subscription.id,
                reason=failure.reason,
            )
            return ""
        return job.media.id


def _note(
    latest: StoredSubscription,
    checked: StoredSubscription,
    title: str,
    findings: Findings,
    made: Sequence[Entry],
    media_ids: Sequence[str],
) -> None:
    """Note in the `latest` version what the check of the version `checked` has done."""
    remember(latest, findings, made)
    latest.subscription.title = title
    if latest.mark_time == checked.mark_time:
        latest.ClearField("mark_time")
    known = [each for each in latest.media_ids if each not in media_ids]
    latest.media_ids[:] = [*known, *media_ids][-MOST_MEDIA_IDS:]


def _names_list(url: str) -> bool:
    """Return whether the URL of an entry names nothing but a list."""
    try:
        pick(url)
    except Failure:
        try:
            pick(url, playlist=True)
        except Failure:
            return False
        return True
    return False


def _log_failed(subscription_id: str, failure: Failure) -> None:
    logger.warning(
        Event.SUBSCRIPTION_FAILED,
        "subscription %s: %s: %s",
        subscription_id,
        reason_name(failure.reason),
        failure.message,
        subscription_id=subscription_id,
        reason=failure.reason,
    )
