"""Dispatch on a real Redis: who is next, what holds a slot, and what the sweep has to look at."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job, JobPriority, JobWaiting
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.jobs.placement import Work
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis

pytestmark = pytest.mark.any_stores

LOW, NORMAL, HIGH = (
    job_pb2.JOB_PRIORITY_LOW,
    job_pb2.JOB_PRIORITY_NORMAL,
    job_pb2.JOB_PRIORITY_HIGH,
)
MP3, MP4 = Recipe(mp3=Recipe.Mp3()), Recipe(mp4=Recipe.Mp4())


class Jobs:
    """Jobs that a test makes, and what has been dispatched of them."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self._made = 0

    async def make(
        self,
        count: int = 1,
        *,
        caller: str = "10.0.0.1",
        host: str = "one.example",
        priority: JobPriority.ValueType = NORMAL,
        recipe: Recipe | None = None,
    ) -> list[str]:
        """Create jobs; return their ids in their order."""
        drafts = []
        for _ in range(count):
            self._made += 1
            drafts.append(
                Job(
                    kind=job_pb2.JOB_KIND_CONVERT if recipe else job_pb2.JOB_KIND_INGEST,
                    recipes=[recipe] if recipe else [],
                    url=f"https://{host}/{self._made}.mp4",
                    priority=priority,
                    media=Media(id=f"media-{self._made}"),
                )
            )
        return [(await self.records.create(draft, caller=caller)).job.id for draft in drafts]

    async def take(self, work: Work = Work.FETCH) -> list[str]:
        """Dispatch what may run; return the ids in their order."""
        return [each.job_id for each in (await self.records.dispatch.take(work)).jobs]

    async def end(self, *job_ids: str) -> None:
        for job_id in job_ids:
            await self.records.cancel(job_id)

    async def one_by_one(self, count: int) -> list[Job]:
        """Dispatch a job and end it, again and again; return the jobs in their order."""
        found = []
        for _ in range(count):
            [job_id] = await self.take()
            job = await self.records.get(job_id)
            assert job is not None
            found.append(job)
            await self.end(job_id)
        return found


@pytest.fixture
def jobs(records: Records) -> Jobs:
    return Jobs(records)


async def announce(jobs: Jobs, slots: int, *names: str, work: Work = Work.FETCH) -> None:
    for name in names or ("worker",):
        await jobs.records.dispatch.announce(name, work, slots)


def hosts(found: Sequence[Job]) -> list[str]:
    return [job.url.split("/")[2] for job in found]


async def test_a_long_queue_of_one_caller_leaves_slots_to_others(jobs: Jobs) -> None:
    await announce(jobs, 8, "a", "b")
    for number in range(40):
        await jobs.make(5, host=f"host-{number}.example", priority=HIGH)
    assert len(await jobs.take()) == 12
    assert await jobs.take() == []
    clip = await jobs.make(caller="10.0.0.2", host="another.example", priority=LOW)
    assert await jobs.take() == clip


async def test_a_third_caller_finds_a_slot_while_two_have_long_queues(jobs: Jobs) -> None:
    await announce(jobs, 8, "a", "b")
    for caller in ("10.0.0.1", "10.0.0.2"):
        for number in range(20):
            await jobs.make(caller=caller, host=f"{number}.{caller}", priority=HIGH)
    held = Counter(host.rsplit(".", 4)[-1] for host in await dispatched_hosts(jobs))
    assert sorted(held.values()) == [6, 7]
    assert await jobs.take() == []
    clip = await jobs.make(caller="10.0.0.3", host="another.example", priority=LOW)
    assert await jobs.take() == clip


async def test_a_caller_with_more_slots_gets_no_other_one_before_they_are_even(jobs: Jobs) -> None:
    await announce(jobs, 16)
    for number in range(20):
        await jobs.make(host=f"host-{number}.example")
    first = await jobs.take()
    assert len(first) == 12
    late = set()
    for number in range(20):
        late |= set(await jobs.make(caller="10.0.0.2", host=f"{number}.example"))
    begun = await jobs.take()
    assert len(begun) == 3
    for job_id in first[:5]:
        await jobs.end(job_id)
        begun += await jobs.take()
    assert set(begun) <= late
    assert len(begun) >= 6


async def test_what_one_with_more_than_half_of_the_slots_gives_up_goes_to_others(
    jobs: Jobs,
) -> None:
    """Also if all of those jobs are at one host; one slot stays free for a third caller."""
    await announce(jobs, 4, *"abcd")
    for number in range(40):
        await jobs.make(host=f"host-{number}.example")
    first = await jobs.take()
    assert len(first) == 12
    late = set(await jobs.make(20, caller="10.0.0.2", host="one.example"))
    begun = await jobs.take()
    assert set(begun) <= late
    assert len(begun) == 3
    for job_id in first[:3]:
        await jobs.end(job_id)
        [next_one] = await jobs.take()
        assert next_one in late
    third = await jobs.make(caller="10.0.0.3", host="two.example")
    assert await jobs.take() == third


async def test_a_caller_that_is_alone_converts_films_on_all_workers(jobs: Jobs) -> None:
    await announce(jobs, 2, "a", "b", work=Work.CONVERT)
    films = await jobs.make(3, recipe=MP4)
    assert await jobs.take(Work.CONVERT) == films[:2]


@pytest.mark.parametrize("recipe", [MP3, MP4], ids=["audio", "video"])
async def test_films_of_one_caller_leave_a_place_to_others(jobs: Jobs, recipe: Recipe) -> None:
    await announce(jobs, 2, "a", work=Work.CONVERT)
    films = await jobs.make(3, recipe=MP4)
    assert await jobs.take(Work.CONVERT) == films[:1]
    clip = await jobs.make(caller="10.0.0.2", recipe=recipe)
    assert await jobs.take(Work.CONVERT) == clip
    claim = await jobs.records.claim(clip[0], worker_id="a")
    assert claim is not None
    # There is one such place, and a message of its job does not change what it holds.
    third = await jobs.make(caller="10.0.0.3", recipe=recipe)
    assert await jobs.take(Work.CONVERT) == []
    await jobs.end(*clip)
    assert await jobs.take(Work.CONVERT) == third


async def test_a_long_queue_of_one_host_leaves_slots_to_other_hosts_of_its_caller(
    jobs: Jobs,
) -> None:
    await announce(jobs, 8, "a", "b")
    await jobs.make(100, host="slow.example", priority=HIGH)
    assert len(await jobs.take()) == 8
    assert await jobs.take() == []
    clip = await jobs.make(host="another.example", priority=LOW)
    assert await jobs.take() == clip


async def test_no_host_holds_more_than_half_of_the_slots(jobs: Jobs) -> None:
    await announce(jobs, 4, "a", "b")
    for number in range(5):
        await jobs.make(10, caller=f"10.0.0.{number}", host="slow.example")
    assert len(await jobs.take()) == 4
    others = await jobs.make(10, caller="10.0.0.1", host="quick.example")
    assert set(await jobs.take()) <= set(others)


async def test_with_few_slots_one_caller_may_use_all_of_them(jobs: Jobs) -> None:
    await announce(jobs, 3)
    await jobs.make(10)
    assert len(await jobs.take()) == 3


async def test_a_worker_runs_only_so_many_jobs_at_one_host(
    redis: Redis, settings: Settings
) -> None:
    jobs = Jobs(Records(redis, settings.replace(jobs_per_host=1)))
    await announce(jobs, 8, "a", "b")
    await jobs.make(10)
    assert len(await jobs.take()) == 2
    await jobs.make(10, host="two.example")
    assert len(await jobs.take()) == 2


async def test_callers_share_slots_evenly(jobs: Jobs) -> None:
    await announce(jobs, 9)
    for caller, count in (("10.0.0.1", 12), ("10.0.0.2", 12), ("10.0.0.3", 2)):
        for number in range(count):
            await jobs.make(caller=caller, host=f"{caller}-{number}.example")
    counts = Counter(host.split("-")[0] for host in await dispatched_hosts(jobs))
    assert counts["10.0.0.3"] == 2
    assert {counts["10.0.0.1"], counts["10.0.0.2"]} == {3}


async def dispatched_hosts(jobs: Jobs) -> list[str]:
    found = await jobs.records.get_many(await jobs.take())
    return hosts([job for job in found if job is not None])


async def test_priorities_of_one_caller_come_first_and_low_is_one_in_ten(jobs: Jobs) -> None:
    await announce(jobs, 1)
    for priority in (LOW, NORMAL, HIGH):
        await jobs.make(15, priority=priority)
    found = [job.priority for job in await jobs.one_by_one(34)]
    assert found[:10] == [HIGH] * 9 + [LOW]
    assert found[10:20] == [HIGH] * 6 + [NORMAL] * 3 + [LOW]
    assert found[20:30] == [NORMAL] * 9 + [LOW]


async def test_hosts_take_turns_and_the_oldest_job_is_first(jobs: Jobs) -> None:
    await announce(jobs, 1)
    first = await jobs.make(5, host="one.example")
    await jobs.make(2, host="two.example")
    await jobs.make(1, host="three.example")
    found = await jobs.one_by_one(8)
    assert sorted(hosts(found)[:3]) == ["one.example", "three.example", "two.example"]
    assert hosts(found)[3:5] in (["one.example", "two.example"], ["two.example", "one.example"])
    assert [job.id for job in found if job.id in first] == first


async def test_a_job_is_dispatched_to_the_worker_with_the_most_free_slots(jobs: Jobs) -> None:
    await announce(jobs, 4, "a")
    await announce(jobs, 6, "b")
    await jobs.make(2)
    found = (await jobs.records.dispatch.take(Work.FETCH)).jobs
    assert [each.worker_id for each in found] == ["b", "b"]


async def test_the_conversion_of_video_waits_for_an_idle_worker_and_others_do_not(
    jobs: Jobs,
) -> None:
    await announce(jobs, 2, "a", "b", work=Work.CONVERT)
    [film] = await jobs.make(caller="10.0.0.1", recipe=MP4)
    assert await jobs.take(Work.CONVERT) == [film]
    clips = [*await jobs.make(caller="10.0.0.2", recipe=MP3)]
    clips += await jobs.make(caller="10.0.0.4", recipe=MP3)
    assert await jobs.take(Work.CONVERT) == clips
    [second] = await jobs.make(caller="10.0.0.4", recipe=MP4)
    await jobs.end(clips[0])
    assert await jobs.take(Work.CONVERT) == []
    await jobs.end(film)
    assert await jobs.take(Work.CONVERT) == [second]


async def test_nothing_is_dispatched_without_a_worker(jobs: Jobs, redis: Redis) -> None:
    made = await jobs.make()
    assert await jobs.take() == []
    await announce(jobs, 1)
    await redis.zadd("ingot:slots-until:fetch", {"worker": 0})
    assert await jobs.take() == []
    await announce(jobs, 1)
    assert await jobs.take() == made


async def test_a_job_that_is_not_claimed_is_dispatched_to_another_worker(
    jobs: Jobs, redis: Redis
) -> None:
    await announce(jobs, 5, "dead")
    [job_id] = await jobs.make()
    assert await jobs.take() == [job_id]
    await announce(jobs, 2, "living")
    assert await jobs.records.dispatch.sweep(10) == []
    assert await jobs.take() == []
    await redis.zadd("ingot:deadlines", {job_id: 0})
    assert await jobs.records.dispatch.sweep(10) == []
    [again] = (await jobs.records.dispatch.take(Work.FETCH)).jobs
    assert (again.job_id, again.worker_id) == (job_id, "living")


async def test_jobs_of_a_worker_that_stops_are_ready_again(jobs: Jobs) -> None:
    await announce(jobs, 2, "stopping")
    made = await jobs.make(2)
    assert await jobs.take() == made
    claim = await jobs.records.claim(made[0], worker_id="stopping")
    assert claim is not None
    await jobs.records.dispatch.retire("stopping", Work.FETCH)
    await announce(jobs, 2, "another")
    assert await jobs.take() == made[1:]
    await jobs.records.release(made[0], claim.token)
    assert await jobs.take() == made[:1]


async def test_what_a_worker_gave_back_finds_room_among_the_other_ones(jobs: Jobs) -> None:
    await announce(jobs, 4, "a", "b")
    for host in ("one.example", "two.example"):
        await jobs.make(2, host=host)
    taken = (await jobs.records.dispatch.take(Work.FETCH)).jobs
    assert Counter(each.worker_id for each in taken) == {"a": 2, "b": 2}
    await jobs.records.dispatch.retire("a", Work.FETCH)
    assert set(await jobs.take()) == {each.job_id for each in taken if each.worker_id == "a"}
    # Its slots no longer count once its successor has announced its own.
    await announce(jobs, 4, "c")
    await jobs.make(3, host="three.example")
    assert len(await jobs.take()) == 2


async def test_one_dispatch_a_job_and_every_slot_is_given_back(jobs: Jobs, redis: Redis) -> None:
    await announce(jobs, 8)
    waiting = set(await jobs.make(100))
    sent = 0
    while waiting:
        found = await jobs.take()
        sent += len(found)
        for number, job_id in enumerate(found):
            if number % 2:
                claim = await jobs.records.claim(job_id, worker_id="worker")
                assert claim is not None
                claim.job.state = job_pb2.JOB_STATE_SUCCEEDED
                await jobs.records.write(claim.job, claim.token)
            else:
                await jobs.end(job_id)
            waiting.remove(job_id)
    assert sent == 100
    left = set(await redis.keys("ingot:held:*")) | set(await redis.keys("ingot:load:*"))
    assert left | set(await redis.keys("ingot:ready:*")) == set()


async def test_retries_lists_and_followers_cost_a_tenth_of_a_message_more_at_most(
    jobs: Jobs, redis: Redis
) -> None:
    """Of a hundred jobs four are retried, four follow another one, and one is a list of ten."""
    await announce(jobs, 8)
    made = await jobs.make(90)
    retried, followers, a_list, entries = made[:4], made[4:8], made[8], 10
    total, sent = len(made) + entries, 0
    retry = JobWaiting(cause=JobWaiting.CAUSE_RETRY)
    follow = JobWaiting(cause=JobWaiting.CAUSE_SAME_MEDIA, job_id=made[-1])
    records = jobs.records
    while await records.count_by_state() != {job_pb2.JOB_STATE_SUCCEEDED: total}:
        for job_id in await jobs.take():
            sent += 1
            claim = await records.claim(job_id, worker_id="worker")
            assert claim is not None
            if claim.job.attempt == 1 and job_id in retried:
                retry.end_time.FromNanoseconds(time.time_ns() + 20_000_000)
                await records.release(job_id, claim.token, waiting=retry)
            elif not claim.followed and job_id in followers:
                await records.release(job_id, claim.token, waiting=follow, deferred=True)
            elif job_id == a_list:
                children = [
                    await records.children.add(
                        Job(kind=job_pb2.JOB_KIND_INGEST, media=Media(id=f"entry-{number}")),
                        parent_id=job_id,
                        token=claim.token,
                        entry=str(number),
                        order=number,
                    )
                    for number in range(entries)
                ]
                job_ids = [child.id for child in children]
                await records.children.leave_parent(claim.job, claim.token, job_ids)
                await records.children.advance(job_id)
            else:
                claim.job.state = job_pb2.JOB_STATE_SUCCEEDED
                await records.write(claim.job, claim.token)
        for parent_id in await records.dispatch.sweep(10):
            await records.children.advance(parent_id)
            await records.children.roll_up(parent_id)
    assert total < sent <= 1.1 * total
    assert await redis.hlen("ingot:held:fetch") == 0


async def test_a_job_that_runs_elsewhere_holds_no_slot_here(jobs: Jobs) -> None:
    await announce(jobs, 1)
    first, second = await jobs.make(2)
    assert await jobs.take() == [first]
    # Its parent's worker runs it in its own slot.
    assert await jobs.records.claim(first) is not None
    assert await jobs.take() == [second]


async def test_the_sweep_looks_at_what_is_due_and_each_worker_at_another_part(
    jobs: Jobs, redis: Redis
) -> None:
    await jobs.make(100)
    assert await redis.zcard("ingot:deadlines") == 0
    lost = await jobs.make(20, host="two.example")
    for job_id in lost:
        assert await jobs.records.claim(job_id) is not None
    await redis.zadd("ingot:deadlines", dict.fromkeys(lost, 0))
    parts = await asyncio.gather(*(jobs.records.dispatch.sweep(5) for _ in range(4)))
    assert sorted(job_id for part in parts for job_id in part) == lost
    assert await jobs.records.dispatch.sweep(5) == []
    for job_id in lost:
        await jobs.records.recover(job_id)
    assert await redis.zcard("ingot:deadlines") == 0


async def test_a_due_retry_is_ready_with_its_priority(jobs: Jobs, redis: Redis) -> None:
    await announce(jobs, 1)
    await jobs.make(3)
    [retried] = await jobs.make(priority=HIGH)
    assert await jobs.take() == [retried]
    claim = await jobs.records.claim(retried, worker_id="worker")
    assert claim is not None
    waiting = job_pb2.JobWaiting(cause=job_pb2.JobWaiting.CAUSE_RETRY)
    waiting.end_time.FromSeconds(4_000_000_000)
    await jobs.records.release(retried, claim.token, waiting=waiting)
    [other] = await jobs.take()
    assert other != retried
    await redis.zadd("ingot:deadlines", {retried: 0})
    await jobs.records.dispatch.sweep(10)
    await jobs.end(other)
    assert await jobs.take() == [retried]
