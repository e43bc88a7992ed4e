"""Lists of jobs in some states, which do not read the jobs in others."""

from __future__ import annotations

from ingot.v1 import job_pb2
from ingot_server.jobs.job_index import Among
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis
from tests.records import queued_job

QUEUED, RUNNING = job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING
FAILED, CANCELLED = job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED


async def test_a_list_has_the_jobs_of_all_its_states_in_one_order(records: Records) -> None:
    created = [(await queued_job(records, f"media-{number}")).id for number in range(6)]
    assert await records.claim(created[1]) is not None
    for number in (0, 3, 4):
        await records.cancel(created[number])

    async def listed(*states: job_pb2.JobState.ValueType, limit: int = 9) -> list[int]:
        return [
            created.index(job.id)
            for job in await records.list(limit=limit, among=Among(frozenset(states)))
        ]

    assert await listed(QUEUED) == [5, 2]
    assert await listed(QUEUED, RUNNING) == [5, 2, 1]
    assert await listed(CANCELLED, limit=2) == [4, 3]
    assert await listed(FAILED) == []
    later = await records.list(
        limit=2, before=created[3], among=Among(frozenset({CANCELLED, QUEUED}))
    )
    assert [job.id for job in later] == [created[2], created[0]]


async def test_a_list_does_not_read_jobs_in_other_states(records: Records, redis: Redis) -> None:
    queued, cancelled = [await queued_job(records, name) for name in ("queued", "cancelled")]
    await records.cancel(cancelled.id)
    # Whoever reads this record fails.
    await redis.hset(f"ingot:job:{queued.id}", "record", b"not a job")
    assert [job.id for job in await records.list(limit=9, among=Among(frozenset({CANCELLED})))] == [
        cancelled.id
    ]


async def test_sets_of_an_earlier_version_are_taken_over(records: Records, redis: Redis) -> None:
    jobs = [await queued_job(records, f"media-{number}") for number in range(3)]
    await redis.delete(f"ingot:jobs:{QUEUED}")
    await redis.sadd(f"ingot:state:{QUEUED}", *(job.id for job in jobs), "gone")
    # The last one has changed since.
    await redis.hset(f"ingot:job:{jobs[2].id}", "state", RUNNING)
    assert await records.count_by_state() == {QUEUED: 2}
    found = await records.list(limit=9, among=Among(frozenset({QUEUED})))
    assert [job.id for job in found] == [jobs[1].id, jobs[0].id]
    assert not await redis.exists(f"ingot:state:{QUEUED}")
