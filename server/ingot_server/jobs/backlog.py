"""The backlog: how many jobs wait and run, and for how long the oldest has waited."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Iterable
from typing import Final, cast

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job, JobKind
from ingot.v1.system_service_pb2 import QueueStatus
from ingot_server.jobs.job_index import UNFINISHED, state_key
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis, unavailable

_PAGE: Final = 200


async def read_backlog(redis: Redis, records: Records) -> list[QueueStatus]:
    """Return the counts of the jobs that have not ended, one entry for each kind that has any.

    Raises Failure with CACHE_UNAVAILABLE.
    """
    with unavailable():
        keys = [redis.key(state_key(state)) for state in UNFINISHED]
        members = await cast("Awaitable[list[bytes]]", redis.zunion(keys))
    job_ids = [member.decode() for member in members]
    found: list[Job] = []
    for at in range(0, len(job_ids), _PAGE):
        jobs = await records.get_many(job_ids[at : at + _PAGE])
        found += [job for job in jobs if job is not None and not has_ended(job)]
    return counted(found)


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
