"""Which jobs there are, newest first: of all, of some states, or of one parent.

The sets are those of `history.lua` and `children.lua`. Ids sort by time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, cast

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import JobState
from ingot_server.redis import Redis, unavailable

_JOBS: Final = "jobs"
UNFINISHED: Final = (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING)
"""The states of jobs that have not ended."""
_ENTRIES: Final = "entries:"


@dataclass(frozen=True, slots=True)
class Among:
    """Among which jobs to look. By default they may be any."""

    states: frozenset[JobState.ValueType] = frozenset()
    """Only jobs in one of these."""
    parent_id: str = ""
    """Only children of this job."""


AMONG_ALL: Final = Among()


def state_key(state: JobState.ValueType) -> str:
    """Return the name of the sorted set of all jobs in a state; all have the score 0."""
    return f"{_JOBS}:{state}"


class JobIndex:
    """The sets of jobs in one Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def newest(self, among: Among, *, before: str, count: int) -> Sequence[str]:
        """Return the ids of the newest jobs before the id `before`, if that is not empty.

        There may be others than those of `among`, if they are not known apart. Raises Failure with
        CACHE_UNAVAILABLE.
        """
        with unavailable():
            # They are gone if the parent continued alone; its children still name it.
            found = await self._children(among.parent_id) if among.parent_id else []
            if found:
                found = [each for each in found if not before or each < before.encode()]
            else:
                found = await self._of_states(among.states, before, count)
        return [each.decode() for each in sorted(found, reverse=True)[:count]]

    async def _children(self, parent_id: str) -> Sequence[bytes]:
        key = self._redis.key(_ENTRIES + parent_id)
        return await cast("Awaitable[list[bytes]]", self._redis.hvals(key))

    async def _of_states(
        self, states: Iterable[JobState.ValueType], before: str, count: int
    ) -> Sequence[bytes]:
        names = [state_key(state) for state in states] or [_JOBS]
        # At once, because a job may go from one of the sets to another.
        async with self._redis.pipeline(transaction=True) as pipeline:
            for name in names:
                upper = f"({before}" if before else "+"
                pipeline.zrevrangebylex(self._redis.key(name), upper, "-", 0, count)
            found: list[list[bytes]] = await pipeline.execute()
        return list(chain.from_iterable(found))
