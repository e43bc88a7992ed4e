"""What Redis knows of the journal in the bucket. `journal.lua` documents the keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, TypeAlias, cast

from ingot.v1.job_pb2 import Job
from ingot_server.jobs import lifecycle
from ingot_server.jobs.job_index import UNFINISHED, state_key
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.jobs.placement import caller_key
from ingot_server.jobs.position import Position
from ingot_server.jobs.stored_record import from_record
from ingot_server.jobs.transition import JOB, Transition, milliseconds
from ingot_server.redis import Argument, Redis, unavailable

_CHECK: Final = "journal-check"
_REQUEST: Final = "request:"
_REQUESTS: Final = "requests:"
_UPLOADS: Final = "job-uploads:"
_WEBHOOKS: Final = "webhooks:"
ENDS_INTERVAL: Final = timedelta(seconds=1.5)
REMOVAL_INTERVAL: Final = timedelta(seconds=10)
# A worker writes the ends within this time, or another one does: until then they may be lost.
_ENDS_RECHECK: Final = timedelta(seconds=3)
# The same for the removal of groups.
_RECHECK: Final = timedelta(seconds=30)
# No replica is further behind, and no entry arrives later.
ENDS_KEPT: Final = timedelta(minutes=2)
_PAGE: Final = 1000
_NEVER: Final = 1 << 53


Restore: TypeAlias = Callable[[], Awaitable[bool]]
"""Makes the jobs again that Redis has lost; tells whether it may have lost some.

Afterwards, a job without a record is unknown. Raises Failure if a store cannot be used.
"""


async def nothing_lost() -> bool:
    """Do nothing, where no job can be restored."""
    return False


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job as a call got it, with all that is needed to make its record again."""

    job: Job
    caller: str
    single_flight_key: str
    request_id: str = ""
    fingerprint: str = ""
    upload_id: str = ""
    webhook_urls: tuple[str, ...] = ()
    trace: str = ""
    """The span that made the job, as a W3C traceparent; empty if it is not traced."""


@dataclass(frozen=True, slots=True)
class JournalState:
    """Whether Redis has all jobs of the journal."""

    position: Position
    """Where the history of all jobs is now."""
    is_restored: bool
    """Whether every job of the journal was found to have a record since Redis last lost writes."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Groups that Redis does not know."""

    groups: Sequence[str]
    found_at: int
    """Milliseconds of Redis' own clock."""


class JournalIndex:
    """The groups of the journal. Every method raises Failure with CACHE_UNAVAILABLE."""

    def __init__(self, redis: Redis, transition: Transition) -> None:
        self._redis = redis
        self._transition = transition

    async def state(self, known: Position | None) -> JournalState:
        """Return whether the journal is restored; `known` is the last position that was seen.

        If Redis has lost what led to that, or is another server than before, a new epoch begins.
        """
        arguments = (
            {"known_epoch": known.epoch, "known_sequence": known.sequence}
            if known is not None
            else {}
        )
        epoch, sequence, restored = await self._transition.call("journal_state", "", **arguments)
        return JournalState(Position(int(epoch), int(sequence)), bool(restored))

    async def mark_restored(self, epoch: int) -> None:
        """Note that the journal is restored, unless Redis has lost writes since `epoch` began."""
        await self._transition.call("journal_restored", "", epoch=epoch)

    async def begin_check(self, interval: timedelta) -> bool:
        """Return whether a check is due: the last one, of any process, began `interval` ago."""
        with unavailable():
            return bool(await self._redis.set(self._redis.key(_CHECK), "", nx=True, px=interval))

    async def unwritten(self, job_id: str) -> Accepted | None:
        """Return a job that has no entry with all of its webhooks.

        None if it has such an entry, has ended or has no record.
        """
        names = [
            "record",
            "journal",
            "journal_webhooks",
            "caller",
            "single_flight_key",
            "wanted_key",
            "trace",
        ]
        with unavailable():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hmget(self._redis.key(JOB + job_id), names)
                pipeline.smembers(self._redis.key(_WEBHOOKS + job_id))
                stored, webhooks = await pipeline.execute()
        record, group, known_webhooks, caller, key, wanted_key, trace = stored
        job = from_record(record) if record is not None else None
        is_complete = group and int(known_webhooks or 0) >= len(webhooks)
        if job is None or is_complete or has_ended(job):
            return None
        return Accepted(
            job,
            (caller or b"").decode(),
            (key or wanted_key or b"").decode(),
            webhook_urls=_sorted(webhooks),
            trace=(trace or b"").decode(),
        )

    async def note(self, group: str, jobs: Mapping[str, int]) -> bool:
        """Note a group that was written to the bucket, in place of those that its jobs had.

        `jobs` are the ids of its jobs, and how many webhooks of each it has. Returns False if one
        of them has no record. Then Redis has lost it, and nothing is noted.
        """
        named = " ".join(f"{job_id}/{webhooks}" for job_id, webhooks in jobs.items())
        [outcome] = await self._transition.call("journal_note", group, jobs=named)
        return bool(outcome == b"done")

    async def unknown(self, groups: Sequence[str]) -> Unknown:
        """Return those groups that were never noted, or that Redis has lost."""
        found_at, *unknown = await self._transition.call(
            "journal_unknown", "", groups=" ".join(groups)
        )
        return Unknown([group.decode() for group in unknown], int(found_at))

    async def recreate(self, accepted: Accepted, *, before: int) -> bool:
        """Make a job again, under its id, also one that has ended; return False if it has a record.

        Raises JournalUnrestored if it is `before` already, milliseconds of Redis' own clock.
        """
        arguments: dict[str, Argument] = {
            "caller": caller_key(accepted.caller),
            "request_id": accepted.request_id,
            "fingerprint": accepted.fingerprint,
            "upload_id": accepted.upload_id,
            "webhook_urls": " ".join(accepted.webhook_urls),
            "before": before,
        }
        if accepted.trace:
            arguments["trace"] = accepted.trace
        return await self._transition.recreate(accepted.job, accepted.single_flight_key, arguments)

    async def restore_end(self, accepted: Accepted) -> bool:
        """End a job as it had ended, whatever Redis has of it; return False if it has ended."""
        if await self.recreate(accepted, before=_NEVER):
            return True
        end = partial(lifecycle.ended_as, end=accepted.job)
        return await self._transition.change(accepted.job.id, end) is not None

    async def note_ends(self, group: str, job_ids: Sequence[str]) -> Sequence[str]:
        """Note a group of ends that is in the bucket, and that it replaces the entries of its jobs.

        Returns those of its jobs that have not ended on record, because Redis has lost that. Then
        nothing is noted.
        """
        unended = await self._transition.call(
            "journal_note_ends", group, jobs=" ".join(job_ids), keep=milliseconds(ENDS_KEPT)
        )
        return [job_id.decode() for job_id in unended]

    async def ended(self, limit: int, *, again: bool = False) -> Sequence[str]:
        """Return the ids of jobs whose ends must be written to the bucket now.

        No other caller gets the same for a while. There are some at most every ENDS_INTERVAL,
        unless `again` asks for more.
        """
        return await self._take_due("journal_ended", limit, ENDS_INTERVAL, _ENDS_RECHECK, again)

    async def active(self) -> Mapping[str, str]:
        """Return the jobs that have not ended and have an entry, with the groups of these."""
        found: dict[str, str] = {}
        for state in UNFINISHED:
            cursor = 0
            while True:
                with unavailable():
                    cursor, scanned = await self._redis.zscan(
                        self._redis.key(state_key(state)), cursor, count=_PAGE
                    )
                    members = [member for member, _ in cast("list[tuple[bytes, float]]", scanned)]
                    async with self._redis.pipeline(transaction=False) as pipeline:
                        for job_id in members:
                            pipeline.hget(self._redis.key(JOB + job_id.decode()), "journal")
                        groups = await pipeline.execute()
                found.update(
                    (job_id.decode(), group.decode())
                    for job_id, group in zip(members, groups, strict=True)
                    if group is not None
                )
                if not cursor:
                    break
        return found

    async def end_unknown(self, job_id: str, group: str) -> bool:
        """End a job whose group is gone from the bucket, unless it has another one now."""
        ended = await self._transition.change(job_id, lifecycle.ended_unknown, in_group=group)
        return ended is not None

    async def partial(self, limit: int, age: timedelta) -> Sequence[str]:
        """Return the ids of jobs that have not ended, of at most `limit` groups.

        The ends of other jobs of these groups were recorded at least `age` ago. No other caller
        gets them before that time has passed again.
        """
        job_ids = await self._transition.call(
            "journal_partial", "", limit=limit, age=milliseconds(age)
        )
        return [job_id.decode() for job_id in job_ids]

    async def accepted(self, job_id: str) -> Accepted | None:
        """Return what the entry of a job must have; None if it has no record."""
        names = ["record", "caller", "single_flight_key", "wanted_key", "trace"]
        with unavailable():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hmget(self._redis.key(JOB + job_id), names)
                pipeline.srandmember(self._redis.key(_REQUESTS + job_id))
                pipeline.srandmember(self._redis.key(_UPLOADS + job_id))
                pipeline.smembers(self._redis.key(_WEBHOOKS + job_id))
                stored, request_id, upload_id, webhooks = await pipeline.execute()
        record, caller, key, wanted_key, trace = stored
        if record is None:
            return None
        request = (request_id or b"").decode()
        return Accepted(
            from_record(record),
            (caller or b"").decode(),
            (key or wanted_key or b"").decode(),
            request_id=request,
            fingerprint=await self._fingerprint(request) if request else "",
            upload_id=(upload_id or b"").decode(),
            webhook_urls=_sorted(webhooks),
            trace=(trace or b"").decode(),
        )

    async def has_recorded_end(self, job_id: str) -> bool:
        """Return whether the bucket has the end of a job."""
        key = self._redis.key(JOB + job_id)
        with unavailable():
            found = await cast("Awaitable[bytes | None]", self._redis.hget(key, "end_recorded"))
        return found is not None

    async def _fingerprint(self, request_id: str) -> str:
        key = self._redis.key(_REQUEST + request_id)
        with unavailable():
            found = await cast("Awaitable[bytes | None]", self._redis.hget(key, "fingerprint"))
        return (found or b"").decode()

    async def due(self, limit: int, *, again: bool = False) -> Sequence[str]:
        """Return groups to remove from the bucket now, which no job needs.

        No other caller gets the same for a while. There are some at most every REMOVAL_INTERVAL,
        unless `again` asks for more.
        """
        return await self._take_due("journal_due", limit, REMOVAL_INTERVAL, _RECHECK, again)

    async def removed(self, groups: Sequence[str]) -> Sequence[str]:
        """Note that groups are no longer in the bucket.

        Returns the ids of jobs that need one of them all the same, because Redis lost data after it
        had said that no job does: their entries must be written again.
        """
        job_ids = await self._transition.call("journal_removed", "", groups=" ".join(groups))
        return [job_id.decode() for job_id in job_ids]

    async def needed(self, groups: Sequence[str]) -> Sequence[str]:
        """Return those groups that have a job that has not ended, or ends that are kept."""
        needed = await self._transition.call("journal_needed", "", groups=" ".join(groups))
        return [group.decode() for group in needed]

    async def _take_due(
        self,
        operation: str,
        limit: int,
        interval: timedelta,
        recheck: timedelta,
        again: bool,
    ) -> Sequence[str]:
        arguments = {"again": 1} if again else {}
        names = await self._transition.call(
            operation,
            "",
            limit=limit,
            interval=milliseconds(interval),
            recheck=milliseconds(recheck),
            **arguments,
        )
        return [name.decode() for name in names]


def _sorted(members: Iterable[bytes]) -> tuple[str, ...]:
    """Return the members of a set in an order that does not change."""
    return tuple(sorted(member.decode() for member in members))
