"""The history of all jobs: what changed and what was removed since a position.

Redis keeps the number of each job's last change, the last revision of every state and stage that a
job has left, and the last removals. `history.lua` documents the keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.errors import Failure
from ingot_server.jobs.position import BEGINNING, Position, Version, version
from ingot_server.jobs.stored_record import from_record
from ingot_server.jobs.transition import JOB, TRAIL, Transition
from ingot_server.redis import Redis, unavailable

# A watch that missed more changed jobs than this starts over.
LONGEST_CATCH_UP: Final = 10_000
# As in history.lua.
TRAIL_LENGTH: Final = 64
_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a job, or its removal. Watchers share it, and must not change it."""

    job_id: str
    job: Job | None
    """The job after the change; None if its record is gone."""
    epoch: int = 0
    sequence: int = 0
    """A watch that has sent this change has sent every change up to this number."""


@dataclass(frozen=True, slots=True)
class Since:
    """What happened since a position."""

    position: Position
    """Where the history is now."""
    changes: Sequence[Change] | None
    """What happened, in order; None if Redis has lost it, or too much of it."""


class History:
    """The history in one Redis. Every method raises Failure with CACHE_UNAVAILABLE."""

    def __init__(self, redis: Redis, transition: Transition) -> None:
        self._redis = redis
        self._transition = transition

    async def since(self, position: Position | None) -> Since:
        """Return what happened since `position`; without one, only where the history is now.

        Jobs whose records have expired are removed first. If Redis has lost what led to
        `position`, a new epoch begins.
        """
        known = (
            {"known_epoch": position.epoch, "known_sequence": position.sequence}
            if position is not None
            else {}
        )
        found, epoch, sequence, changed, removed = await self._transition.call(
            "since", "", limit=LONGEST_CATCH_UP, **known
        )
        now = Position(int(epoch), int(sequence))
        if found == b"lost" or position is None:
            return Since(now, None)
        changes = await self._read([each.decode() for each in changed], position.sequence)
        for job_id, number in zip(removed[::2], removed[1::2], strict=True):
            changes.append(Change(job_id.decode(), None, now.epoch, int(number)))
        changes.sort(key=lambda change: change.sequence)
        return Since(now, [_at_most(change, now.sequence) for change in changes])

    async def of_job(
        self, job_id: str, after: Version = BEGINNING, *, complete: bool = False
    ) -> list[Job] | None:
        """Return the states of a job after a version, oldest first; None if it has no record.

        The list has at least the last revision of each state and stage that is on record, and ends
        with the current one. It is empty if there is no later one. With `complete`, raises Failure
        RESUME_TOKEN_EXPIRED if a state or stage may be missing. If Redis has lost the version
        `after`, the record is written again as a later one.
        """
        with unavailable():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.lrange(self._redis.key(TRAIL + job_id), 0, -1)
                pipeline.hget(self._redis.key(JOB + job_id), "record")
                trail, content = await pipeline.execute()
        if content is None:
            return None
        current = from_record(content)
        if version(current) < after:
            restored = await self.restore(job_id, after)
            return [restored] if restored is not None else None
        jobs = [from_record(entry.partition(b" ")[2]) for entry in trail]
        if complete and len(jobs) >= TRAIL_LENGTH and version(jobs[0]) > after:
            raise resume_token_expired()
        return [job for job in [*jobs, current] if version(job) > after]

    async def restore(self, job_id: str, seen: Version) -> Job | None:
        """Return a job at a version that was `seen`, or a later one; None if it has no record.

        If Redis has lost that version, the record is written again in a later epoch.
        """
        return await self._transition.restore(job_id, seen)

    async def _read(self, job_ids: Sequence[str], after: int) -> list[Change]:
        """Return the changes of jobs after a number: at least the last of each state and stage."""
        found: list[Change] = []
        for at in range(0, len(job_ids), _PAGE):
            with unavailable():
                async with self._redis.pipeline(transaction=True) as pipeline:
                    for job_id in job_ids[at : at + _PAGE]:
                        pipeline.lrange(self._redis.key(TRAIL + job_id), 0, -1)
                        pipeline.hmget(self._redis.key(JOB + job_id), ["sequence", "record"])
                    replies = await pipeline.execute()
            for trail, (sequence, record) in zip(replies[::2], replies[1::2], strict=True):
                if record is not None:
                    entries = [*trail, sequence + b" " + record]
                    found += [change for change in map(_parse, entries) if change.sequence > after]
        return found


def read_message(message: bytes) -> Change:
    """Return what a published message says. Raises ValueError or DecodeError for any other."""
    kind, epoch, sequence, content = message.split(b" ", 3)
    if kind == b"removed":
        return Change(content.decode(), None, int(epoch), int(sequence))
    job = from_record(content)
    return Change(job.id, job, int(epoch), int(sequence))


def _parse(entry: bytes) -> Change:
    sequence, _, record = entry.partition(b" ")
    job = from_record(record)
    return Change(job.id, job, job.epoch, int(sequence))


def _at_most(change: Change, sequence: int) -> Change:
    """Limit the number of a change that was read after the changes up to `sequence` were listed."""
    if change.sequence <= sequence:
        return change
    return Change(change.job_id, change.job, change.epoch, sequence)


def resume_token_expired() -> Failure:
    """Return the failure of a watch that cannot continue where another one stopped."""
    return Failure(
        reason_pb2.REASON_RESUME_TOKEN_EXPIRED,
        "The server no longer knows what happened since this resume_token. Watch again without it.",
    )
