"""Records of ended jobs, written into Redis as transition.lua writes them, many at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media, Selection
from ingot_server.jobs.lifecycle import new_job_id
from ingot_server.jobs.stored_record import to_record
from ingot_server.library.identity import media_id
from ingot_server.redis import Redis

CANCELLED = 20
"""How many of the first jobs are CANCELLED. Of all others, one of 25 has FAILED."""
PARTS = 10
"""How many of them are parts of the very first one."""
_OF_FAILED = 25
_ENDED: Final[Mapping[str, str | int]] = {
    "revision": 1,
    "ended": 1,
    "single_flight_key": "",
    "token": "",
    "run": 1,
    "losses": 0,
    "not_before": 0,
}
_CHUNK = 2_000
_LIFETIME = timedelta(hours=1)


async def add_jobs(redis: Redis, count: int, *, begin: int = 0) -> str:
    """Add the jobs number `begin` to `count`, each newer than the one before.

    Return the id of the first one.
    """
    first_id = ""
    expires = round((time.time() + _LIFETIME.total_seconds()) * 1000)
    for first in range(begin, count, _CHUNK):
        jobs = [_job(number) for number in range(first, min(first + _CHUNK, count))]
        first_id = first_id or jobs[0].id
        parts = jobs[1 : PARTS + 1] if not first else []
        for job in parts:
            job.parent_job_id = first_id
        sequence = await redis.hincrby(redis.key("history"), "sequence", len(jobs))
        async with redis.pipeline(transaction=False) as pipeline:
            for offset, job in enumerate(jobs, start=1 - len(jobs)):
                fields: dict[Any, Any] = {**_ENDED, "record": to_record(job), "state": job.state}
                fields |= {"sequence": sequence + offset, "change_id": job.id}
                pipeline.hset(redis.key(f"job:{job.id}"), mapping=fields)
                pipeline.pexpire(redis.key(f"job:{job.id}"), _LIFETIME)
            pipeline.zadd(redis.key("jobs"), dict.fromkeys((job.id for job in jobs), 0))
            pipeline.zadd(redis.key("expiring"), dict.fromkeys((job.id for job in jobs), expires))
            pipeline.zadd(
                redis.key("changes"),
                {job.id: sequence + offset for offset, job in enumerate(jobs, 1 - len(jobs))},
            )
            if parts:
                entries: dict[Any, Any] = {number: job.id for number, job in enumerate(parts)}
                pipeline.hset(redis.key(f"entries:{first_id}"), mapping=entries)
            for state in {job.state for job in jobs}:
                ids = [job.id for job in jobs if job.state == state]
                pipeline.zadd(redis.key(f"jobs:{state}"), dict.fromkeys(ids, 0))
            await pipeline.execute()
    return first_id


def _job(number: int) -> Job:
    url = f"http://example.com/{number}.mp4"
    job = Job(
        id=new_job_id(),
        kind=job_pb2.JOB_KIND_INGEST,
        url=url,
        revision=1,
        display_name=f"Clip {number}",
        state=_state(number),
        media=Media(id=media_id(f"http:{url}", Selection()), url=url, title=f"Clip {number}"),
    )
    job.media.source.name = "http"
    job.progress.fraction = 1
    for moment in (job.create_time, job.start_time, job.end_time):
        moment.FromDatetime(datetime.now(UTC))
    return job


def _state(number: int) -> job_pb2.JobState.ValueType:
    if number < CANCELLED:
        return job_pb2.JOB_STATE_CANCELLED
    return job_pb2.JOB_STATE_SUCCEEDED if number % _OF_FAILED else job_pb2.JOB_STATE_FAILED
