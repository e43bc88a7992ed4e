"""The backlog: how many jobs wait and run, and for how long the oldest has waited."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job, JobKind
from ingot.v1.system_service_pb2 import QueueStatus
from ingot_server.jobs.job_index import UNFINISHED, state_key
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis, unavailable

_PAGE: Final = 200


class Backlog:
    """Counts the jobs that have not ended, again and again.

    It remembers the jobs that were queued, so a count reads only those that came since the last
    one, and those that run.
    """

    def __init__(self, redis: Redis, records: Records) -> None:
        self._redis = redis
        self._records = records
        self._queued: dict[str, Job] = {}
        self._reading = asyncio.Lock()

    async def read(self) -> list[QueueStatus]:
        """Return one entry for each kind that has any. Raises Failure with CACHE_UNAVAILABLE."""
        async with self._reading:
            return await self._read()

    async def _read(self) -> list[QueueStatus]:
        with unavailable():
            async with self._redis.pipeline(transaction=True) as pipeline:
                for state in UNFINISHED:
                    pipeline.zrange(self._redis.key(state_key(state)), 0, -1)
                queued, running = await pipeline.execute()
        waiting = {member.decode() for member in queued}
        self._queued = {job_id: job for job_id, job in self._queued.items() if job_id in waiting}
        others = [*(waiting - self._queued.keys()), *(member.decode() for member in running)]
        found: list[Job] = []
        for at in range(0, len(others), _PAGE):
            for job in await self._records.get_many(others[at : at + _PAGE]):
                if job is None or has_ended(job):
                    continue
                if job.state == job_pb2.JOB_STATE_QUEUED and job.id in waiting:
                    self._queued[job.id] = _summary(job)
                else:
                    found.append(job)
        return counted((*self._queued.values(), *found))


def _summary(job: Job) -> Job:
    """Return what is counted of a job."""
    return Job(kind=job.kind, state=job.state, create_time=job.create_time)


def counted(jobs: Iterable[Job]) -> list[QueueStatus]:
    """Return the counts of `jobs`, none of which has ended."""
    found: defaultdict[JobKind.ValueType, QueueStatus] = defaultdict(QueueStatus)
    for job in jobs:
        status = found[job.kind]
        status.kind = job.kind
        if job.state != job_pb2.JOB_STATE_QUEUED:
            status.running += 1
            continue
        status.queued += 1
        oldest = status.oldest_queued_time
        if status.queued == 1 or job.create_time.ToNanoseconds() < oldest.ToNanoseconds():
            oldest.CopyFrom(job.create_time)
    return [found[kind] for kind in sorted(found)]
