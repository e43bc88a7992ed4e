"""The throttle of a source: a rate limit, a concurrency limit and a circuit breaker.

    async with throttle.permit("youtube", job.id, on_wait):
        ...                                  # use the source; a Failure says how it responded

The limits apply to all workers together, so all state is in Redis; `permits.lua` documents the
keys. Dispatch gives a job the permit of its source together with its slot (`dispatch.lua`), so
`permit` finds it. Only a job that needs a second one, or that runs in another job's slot, asks for
it here. The breaker opens when the source asks for proof that we are not a bot, or reports a rate
limit several times in a row. While it is open, jobs wait. After a while one job tries the source:
its outcome closes the breaker, or opens it for twice as long. The permit of a worker that died
expires after `settings.lease`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias, assert_never

from google.protobuf.timestamp_pb2 import Timestamp

from ingot.v1.job_pb2 import JobWaiting
from ingot.v1.reason_pb2 import Reason
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.errors import TREATMENTS, Failure, SourceOutcome
from ingot_server.jobs.outcomes import Deferred
from ingot_server.jobs.transition import milliseconds
from ingot_server.redis import Argument, Redis
from ingot_server.source_settings import SourceSettings

# How long a job waits for a permit in its worker's slot, before it gives up the slot.
ACQUIRE_TIMEOUT: Final = timedelta(milliseconds=500)
# As many rate limit errors in a row open the breaker.
RATE_LIMIT_THRESHOLD: Final = 3

COOKIES_MAY_HELP: Final = frozenset(
    reason for reason, treatment in TREATMENTS.items() if treatment.cookies_may_help
)
_POLL_SECONDS: Final = 0.25
_DEFERRED_SECONDS: Final = (2.0, 5.0)
_TRIAL_LENGTH: Final = timedelta(seconds=1)
_SHORTEST_WAIT: Final = timedelta(milliseconds=10)
_NO_JOB: Final = "none"

OnWait: TypeAlias = Callable[[JobWaiting], None]
"""Is called with what a job waits for in its worker."""


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    """Why the breaker of a source is open."""

    reason: Reason.ValueType
    retry_after: timedelta
    """Until one job may try the source; zero if one may now, or does."""


@dataclass(frozen=True, slots=True)
class _Acquired:
    """The job has its permit."""


@dataclass(frozen=True, slots=True)
class _RateLimited:
    """The rate limit lets the job start later."""

    wait: timedelta
    jobs_ahead: int
    """How many waiting jobs start before it."""


@dataclass(frozen=True, slots=True)
class _ConcurrencyLimited:
    """All permits are in use."""


@dataclass(frozen=True, slots=True)
class _Blocked:
    """The breaker is open, and the job has waited for it."""

    breaker: OpenBreaker
    waited: timedelta


_Acquisition = _Acquired | _RateLimited | _ConcurrencyLimited | _Blocked


class SourceThrottle:
    """The throttles of all sources; one object for each process.

    `redis` returns bytes (`decode_responses` is off).
    """

    def __init__(
        self, redis: Redis, sources: Mapping[str, SourceSettings], settings: Settings
    ) -> None:
        self._sources = sources
        self._lease = settings.lease
        self._wait_timeout = settings.source_wait_timeout
        self._script = redis.load_script(
            __package__, "arguments.lua", "permits.lua", "throttle.lua"
        )

    def proxy_for(self, source: str) -> str:
        """Return the source's own upstream proxy, or an empty string if it uses the common one."""
        return self._settings(source).proxy

    def bandwidth_of(self, source: str) -> int:
        """Return how many bytes a second a worker may receive from the source; 0 for any number."""
        return self._settings(source).bandwidth

    @asynccontextmanager
    async def permit(
        self, source: str, job_id: str, on_wait: OnWait = lambda _: None, *, parent_id: str = ""
    ) -> AsyncIterator[None]:
        """Hold a permit for the source while the body runs, and record the body's outcome.

        The job takes over the permit of its parent, whose worker runs it. Otherwise this waits at
        most ACQUIRE_TIMEOUT, and calls `on_wait` with what it waits for. Raises Deferred
        if the job has to wait longer than that, and if the breaker is open. A job that has waited
        `settings.source_wait_timeout` for the breaker gets a final Failure with the breaker's
        reason. Raises Failure CACHE_UNAVAILABLE if Redis cannot be used.
        """
        await self._acquire(source, job_id, parent_id, on_wait)
        renewing = asyncio.create_task(self._keep_renewing(source, job_id))
        try:
            yield
        except Failure as failure:
            await self._record(source, failure, job_id)
            raise
        else:
            await self._record(source, None, job_id)
        finally:
            await cancel_and_wait(renewing)
            await self._release(source, job_id)

    async def announce_limits(self, sources: Collection[str]) -> None:
        """Say what the limits of these sources are, so that dispatch gives their permits."""
        for source in sources:
            settings = self._settings(source)
            await self._script.call(
                "limit",
                source,
                **_limits(settings),
                permit_ms=milliseconds(self._lease),
                wait_timeout_ms=milliseconds(self._wait_timeout),
            )

    async def record_outcome(self, source: str, failure: Failure | None) -> None:
        """Tell the breaker the outcome of a request without a permit; None means success.

        While the breaker is open this changes nothing: only the trial does.
        """
        await self._record(source, failure, _NO_JOB)

    async def open_breakers(self, sources: Collection[str]) -> Mapping[str, OpenBreaker]:
        """Return the open breakers of these sources, by source."""
        found = {}
        for source in sources:
            state, *content = await self._script.call("state", source)
            if state == b"open":
                reason, wait = content
                found[source] = OpenBreaker(_reason(reason), _duration(wait))
        return found

    async def _acquire(
        self, source: str, job_id: str, parent_id: str = "", on_wait: OnWait = lambda _: None
    ) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ACQUIRE_TIMEOUT.total_seconds()
        while True:
            acquisition = await self._try_acquire(source, job_id, parent_id)
            match acquisition:
                case _Acquired():
                    return
                case _Blocked(breaker, waited):
                    raise await self._deferred_or_failed(source, job_id, breaker, waited)
                case _RateLimited(duration, jobs_ahead):
                    wait = later = duration.total_seconds()
                    waiting = JobWaiting(
                        cause=JobWaiting.CAUSE_SOURCE_RATE_LIMIT,
                        source=source,
                        jobs_ahead=jobs_ahead,
                        end_time=_time_in(duration),
                    )
                case _ConcurrencyLimited():
                    # It is not known when another job will release its permit.
                    wait = random.uniform(0.5, 1.5) * _POLL_SECONDS  # noqa: S311 - jitter
                    later = random.uniform(*_DEFERRED_SECONDS)  # noqa: S311 - jitter
                    waiting = JobWaiting(
                        cause=JobWaiting.CAUSE_SOURCE_CONCURRENCY_LIMIT, source=source
                    )
                case _:
                    assert_never(acquisition)
            if loop.time() + wait >= deadline:
                waiting.end_time.CopyFrom(_time_in(timedelta(seconds=later)))
                raise Deferred(waiting)
            on_wait(waiting)
            await asyncio.sleep(wait)

    async def _try_acquire(self, source: str, job_id: str, parent_id: str) -> _Acquisition:
        settings = self._settings(source)
        try:
            state, *content = await self._script.call(
                "acquire",
                source,
                job=job_id,
                parent=parent_id,
                permit_ms=milliseconds(self._lease),
                **_limits(settings),
            )
        except asyncio.CancelledError:
            # The permit may have been acquired although its response was lost.
            await self._release(source, job_id)
            raise
        match state:
            case b"acquired":
                return _Acquired()
            case b"rate_limited":
                return _RateLimited(_duration(content[0]), int(content[1]))
            case b"concurrency_limited":
                return _ConcurrencyLimited()
            case _:
                reason, wait, waited = content
                return _Blocked(OpenBreaker(_reason(reason), _duration(wait)), _duration(waited))

    async def _release(self, source: str, job_id: str) -> None:
        # A permit that cannot be released expires.
        with contextlib.suppress(Failure):
            await self._script.call("release", source, job=job_id)

    async def _deferred_or_failed(
        self, source: str, job_id: str, breaker: OpenBreaker, waited: timedelta
    ) -> Deferred | Failure:
        """Return what a job that finds the breaker open raises."""
        time_left = self._wait_timeout - waited
        if time_left <= timedelta(0):
            await self._script.call("leave", source, job=job_id)
            return Failure(
                breaker.reason,
                f"The source {source} has refused this server's requests for longer than "
                "INGOT_SOURCE_WAIT_TIMEOUT. Give it cookies or its own proxy in the file that "
                "INGOT_SOURCES_FILE names.",
                metadata={"source": source},
                final=True,
            )
        # All waiting jobs are due when the trial ends, so they are spread a little.
        after_trial = breaker.retry_after + _TRIAL_LENGTH * random.random()  # noqa: S311 - jitter
        wait = max(min(after_trial, time_left), _SHORTEST_WAIT)
        return Deferred(
            JobWaiting(
                cause=JobWaiting.CAUSE_SOURCE_BLOCKED,
                source=source,
                reason=breaker.reason,
                end_time=_time_in(wait),
            )
        )

    async def _keep_renewing(self, source: str, job_id: str) -> None:
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 4)
            # If Redis is unavailable for a while, the next renewal restores the permit.
            with contextlib.suppress(Failure):
                await self._script.call(
                    "renew", source, job=job_id, permit_ms=milliseconds(self._lease)
                )

    async def _record(self, source: str, failure: Failure | None, job_id: str) -> None:
        outcome = SourceOutcome.AVAILABLE if failure is None else failure.treatment.outcome
        if outcome is SourceOutcome.UNKNOWN:
            return
        settings = self._settings(source)
        # The outcome of the job matters more than a record of it that cannot be written.
        with contextlib.suppress(Failure):
            await self._script.call(
                "record",
                source,
                job=job_id,
                outcome=outcome,
                reason=Reason.Name(failure.reason) if failure is not None else "",
                open_ms=milliseconds(settings.block),
                longest_open_ms=milliseconds(settings.longest_block),
                rate_limit_threshold=RATE_LIMIT_THRESHOLD,
            )

    def _settings(self, source: str) -> SourceSettings:
        return self._sources.get(source) or SourceSettings()


def _limits(settings: SourceSettings) -> dict[str, Argument]:
    return {
        "interval_ms": _interval_ms(settings),
        "burst": settings.burst,
        "concurrency": settings.concurrency,
    }


def _interval_ms(settings: SourceSettings) -> int:
    """Return the time between two starts at an even rate; zero without a rate limit."""
    return max(1, milliseconds(settings.rate_period) // settings.rate) if settings.rate else 0


def _reason(name: bytes) -> Reason.ValueType:
    return Reason.Value(name.decode())


def _duration(text: bytes) -> timedelta:
    return timedelta(milliseconds=int(text))


def _time_in(wait: timedelta) -> Timestamp:
    """Return the time after `wait`."""
    moment = Timestamp()
    moment.FromDatetime(datetime.now(UTC) + wait)
    return moment
