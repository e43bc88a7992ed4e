"""Care for sources: no more jobs at one than it bears, on all workers together.

    async with care.turn("youtube", job.id):
        ...                                  # turn to the source; a Failure tells how it took it

Each source has a rate, a number of jobs at once, and a breaker that opens when the source asks for
a proof that no bot is asking, or says several times in a row that it is asked too often. While it
is open, jobs wait; one of them tries when the time has come, and what becomes of it closes the
breaker or opens it for twice as long. `throttle.lua` documents the keys; all of it is in Redis:
a turn whose worker died is free again after `settings.lease`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from typing import Any, Final, cast

from redis.asyncio import Redis

from ingot.v1 import reason_pb2
from ingot.v1.reason_pb2 import Reason
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.transition import Argument, milliseconds, unavailable
from ingot_server.source_settings import SourceSettings

# How long a worker's slot is spent on waiting, before the job goes back to the queue.
ACQUIRE_TIMEOUT: Final = timedelta(seconds=3)
# Rate limits in a row that count as being refused.
RUN_OF_RATE_LIMITS: Final = 3

# What a source may give after all when it is asked with cookies.
COOKIES_MAY_HELP: Final = frozenset(
    {
        reason_pb2.REASON_PRIVATE,
        reason_pb2.REASON_AGE_RESTRICTED,
        reason_pb2.REASON_MEMBERS_ONLY,
        reason_pb2.REASON_BOT_CHECK,
    }
)
# Failures with which the source did answer: it bears us, whatever it said about the media.
_ANSWERS: Final = frozenset(
    {
        reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
        reason_pb2.REASON_PRIVATE,
        reason_pb2.REASON_GEO_BLOCKED,
        reason_pb2.REASON_MEMBERS_ONLY,
        reason_pb2.REASON_AGE_RESTRICTED,
        reason_pb2.REASON_LIVE_STREAM,
        reason_pb2.REASON_UPCOMING,
        reason_pb2.REASON_SELECTION_UNAVAILABLE,
        reason_pb2.REASON_TOO_LARGE,
        reason_pb2.REASON_TOO_LONG,
        reason_pb2.REASON_FILE_TOO_LARGE,
        reason_pb2.REASON_NOT_MEDIA,
    }
)
_OUTCOMES: Final[Mapping[Reason.ValueType, str]] = {
    reason_pb2.REASON_BOT_CHECK: "refused",
    reason_pb2.REASON_RATE_LIMITED: "limited",
    **dict.fromkeys(_ANSWERS, "answered"),
}
_FULL_SECONDS: Final = 0.25
_RETRY_FULL_SECONDS: Final = (2.0, 5.0)
_RETRY_TRIAL: Final = timedelta(seconds=1)
_NO_TURN: Final = "none"


@dataclass(frozen=True, slots=True)
class Blocked:
    """A source whose breaker is open."""

    reason: Reason.ValueType
    retry_after: timedelta
    """Until one job tries it; zero while one may or does."""


class SourceThrottle:
    """One for each process. `redis` answers with bytes (`decode_responses` off)."""

    def __init__(
        self, redis: Redis, sources: Mapping[str, SourceSettings], settings: Settings
    ) -> None:
        self._sources = sources
        self._lease = settings.lease
        self._patience = settings.source_wait_timeout
        source = resources.files(__package__).joinpath("throttle.lua").read_bytes()
        self._script = redis.register_script(source)

    def cookies_for(self, source: str) -> str:
        """Path of the cookies for a source, empty if there are none.

        To be sent only after a try without them failed with one of COOKIES_MAY_HELP. The file is
        the operator's: who hands it to a program that writes to it hands it a copy.
        """
        return str(self._settings(source).cookies or "")

    def proxy_for(self, source: str) -> str:
        """The upstream proxy of a source, for `EgressProxy.issue`; empty: that of all traffic."""
        return self._settings(source).proxy

    @asynccontextmanager
    async def turn(self, source: str, job_id: str) -> AsyncIterator[None]:
        """Has the body run when the source may be turned to; what it raises is noted.

        Waits at most ACQUIRE_TIMEOUT. Raises Failure, deferred, before the body began: RATE_LIMITED
        when the job's turn comes later, then from `retry_after` on; the breaker's reason while that
        is open. A job that waited `settings.source_wait_timeout` for the breaker gets that Failure
        as its final one. CACHE_UNAVAILABLE when Redis cannot be used.
        """
        turn = secrets.token_hex(8)
        await self._take(source, job_id, turn)
        renewing = asyncio.create_task(self._renew(source, turn))
        try:
            yield
        except Failure as failure:
            await self._note(source, failure, turn)
            raise
        else:
            await self._note(source, None, turn)
        finally:
            await cancel_and_wait(renewing)
            # A turn that cannot be given back ends by itself.
            with contextlib.suppress(Failure):
                await self._run("leave", source, turn=turn)

    async def note(self, source: str, failure: Failure | None) -> None:
        """Tells the breaker how a source took what was asked without a turn; None: it answered.

        While the breaker is open this changes nothing: only a trial does.
        """
        await self._note(source, failure, _NO_TURN)

    async def blocked(self, sources: Collection[str]) -> Mapping[str, Blocked]:
        """Those of the sources whose breaker is open."""
        found = {}
        for source in sources:
            state, *content = await self._run("state", source)
            if state == b"blocked":
                reason, wait = content
                found[source] = Blocked(_reason(reason), timedelta(milliseconds=int(wait)))
        return found

    async def _take(self, source: str, job_id: str, turn: str) -> None:
        """Waits for a turn. It is given back when the answer is lost on its way to a cancel."""
        settings = self._settings(source)
        loop = asyncio.get_running_loop()
        until = loop.time() + ACQUIRE_TIMEOUT.total_seconds()
        arguments: dict[str, Argument] = {
            "job": job_id,
            "turn": turn,
            "lease": milliseconds(self._lease),
            "interval": _interval(settings),
            "burst": settings.burst,
            "concurrency": settings.concurrency,
        }
        while True:
            try:
                state, *content = await self._run("take", source, **arguments)
            except asyncio.CancelledError:
                with contextlib.suppress(Failure):
                    await self._run("leave", source, turn=turn)
                raise
            if state == b"taken":
                return
            if state == b"blocked":
                raise await self._refusal(source, job_id, *content)
            # Who waits for the end of another's turn cannot know when that is.
            wait = int(content[0]) / 1000 if content else random.uniform(0.5, 1.5) * _FULL_SECONDS  # noqa: S311 - jitter
            if loop.time() + wait >= until:
                raise _waits(source, settings, int(content[0]) if content else None)
            await asyncio.sleep(wait)

    async def _refusal(
        self, source: str, job_id: str, reason: bytes, wait: bytes, waited: bytes
    ) -> Failure:
        """The failure of a job that finds the breaker open."""
        left = self._patience - timedelta(milliseconds=int(waited))
        tried_in = timedelta(milliseconds=int(wait))
        final = left <= timedelta(0)
        if final:
            await self._run("leave_line", source, job=job_id)
            message = (
                f"The source {source} has refused this server's requests for longer than "
                "source_wait_timeout. Give it cookies or its own proxy, see INGOT_SOURCES_FILE."
            )
        else:
            message = f"The source {source} refuses this server's requests; it is tried again soon."
        return Failure(
            _reason(reason),
            message,
            metadata={"source": source},
            # Not before a trial was made, and spread a little: many wait for the same moment.
            retry_after=max(
                min(tried_in + _RETRY_TRIAL * random.random(), left),  # noqa: S311 - jitter
                timedelta(milliseconds=10),
            ),
            deferred=not final,
            final=final,
        )

    async def _renew(self, source: str, turn: str) -> None:
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 4)
            # Redis may be away for a while; the next renewal takes the turn up again.
            with contextlib.suppress(Failure):
                await self._run("renew", source, turn=turn, lease=milliseconds(self._lease))

    async def _note(self, source: str, failure: Failure | None, turn: str) -> None:
        outcome = "answered" if failure is None else _OUTCOMES.get(failure.reason, "")
        if not outcome:
            return
        settings = self._settings(source)
        # How the job went counts for more than what is remembered of it.
        with contextlib.suppress(Failure):
            await self._run(
                "note",
                source,
                turn=turn,
                outcome=outcome,
                reason=Reason.Name(failure.reason) if failure is not None else "",
                block=milliseconds(settings.block),
                longest=milliseconds(settings.longest_block),
                run=RUN_OF_RATE_LIMITS,
            )

    async def _run(self, operation: str, source: str, **arguments: Argument) -> list[Any]:
        flat: list[Argument] = [operation, source]
        for name, value in arguments.items():
            flat += [name, value]
        with unavailable():
            return cast("list[Any]", await self._script(args=flat))

    def _settings(self, source: str) -> SourceSettings:
        return self._sources.get(source) or SourceSettings()


def _interval(settings: SourceSettings) -> int:
    """Milliseconds from one turn to the next at an even rate; zero without a rate."""
    return max(1, milliseconds(settings.rate_period) // settings.rate) if settings.rate else 0


def _reason(name: bytes) -> Reason.ValueType:
    return Reason.Value(name.decode())


def _waits(source: str, settings: SourceSettings, wait: int | None) -> Failure:
    if wait is not None:
        period = settings.rate_period
        limit = f"{settings.rate} jobs in {period} are begun there"
        retry_after = timedelta(milliseconds=wait)
    else:
        limit = f"{settings.concurrency} jobs at once are run there"
        retry_after = timedelta(seconds=random.uniform(*_RETRY_FULL_SECONDS))  # noqa: S311 - jitter
    return Failure(
        reason_pb2.REASON_RATE_LIMITED,
        f"The job waits for its turn at the source {source}: at most {limit}.",
        metadata={"source": source},
        retry_after=retry_after,
        deferred=True,
    )
