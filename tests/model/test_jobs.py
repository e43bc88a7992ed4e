"""Whatever happens to jobs, in whatever order: nothing is lost, torn or starved.

Hypothesis makes up what callers, workers, sources and time do. It happens to the real scripts on a
real server, and to a model of jobs; after each step, everything that is stored must be what the
model says, and dispatch must have been fair. In the end all jobs end, and nothing is left of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import resources
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from ingot_server import jobs
from ingot_server.jobs import records
from tests.model.job_model import STEPS_OF_MODEL, ModelJob, Place
from tests.model.job_records import HOSTS, QUEUES
from tests.model.job_store import Change, Clock, ModelRedis, Server, running_server
from tests.model.job_world import World

pytestmark = [pytest.mark.any_stores, pytest.mark.timeout(900)]

STEPS = 100_000
# For as many processors.
PARTS = 2
EXAMPLES = 50
STEPS_EACH = 100
# A longer queue takes longer to look at, and shows nothing new.
MOST_READY = 12
PICK = st.integers(0, 11)
CALLERS = st.sampled_from(["a", "b", "c"])
MEDIA = st.sampled_from(["", "", "", "m0", "m1", "m2"])
DELAYS = st.sampled_from([0, 0, 3_000, 20_000])
TIMES = st.sampled_from([100, 1_000, 4_000, 9_000])


class Jobs(RuleBasedStateMachine):
    """What can happen. A number picks one of those that it can happen to."""

    server: ClassVar[Server]
    change: ClassVar[Change]
    steps: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        redis = ModelRedis(self.server, type(self).change)
        self.world = World(redis)
        self.world.announce_all()

    @initialize(have_names=st.booleans())
    def begin(self, have_names: bool) -> None:
        """Callers have names, or it is not known who calls."""
        self.world.have_names = have_names

    def _pick(self, number: int, *places: Place) -> ModelJob | None:
        jobs = self.world.in_place(*places)
        return jobs[number % len(jobs)] if jobs else None

    @rule(
        caller=CALLERS,
        host=st.sampled_from(sorted(HOSTS)),
        priority=st.sampled_from([1, 2, 2, 3]),
        media=MEDIA,
        count=st.integers(1, 4),
    )
    def request(self, caller: str, host: str, priority: int, media: str, count: int) -> None:
        waiting = len(self.world.in_place(Place.READY))
        for _ in range(min(count, MOST_READY - waiting)):
            self.world.create(caller=caller, host=host, priority=priority, media=media)

    @rule(caller=CALLERS, recipe=st.sampled_from(["mp3", "mp4"]), media=MEDIA)
    def request_conversion(self, caller: str, recipe: str, media: str) -> None:
        self.world.create(caller=caller, recipe=recipe, media=media)

    @rule(request_id=st.sampled_from(["r0", "r1"]), media=MEDIA, is_stored=st.booleans())
    def request_by_id(self, request_id: str, media: str, is_stored: bool) -> None:
        self.world.create(request_id=request_id, media=media, is_stored=is_stored)

    @rule(number=PICK, caller=st.sampled_from(["", "a", "b", "c"]))
    def cancel(self, number: int, caller: str) -> None:
        """Without a caller, for all of them."""
        job = self._pick(number, *Place)
        if job is not None:
            self.world.cancel(job, caller)

    @rule(queue=st.sampled_from(["fetch", "fetch", "convert"]))
    def dispatch(self, queue: str) -> None:
        self.world.dispatch(queue)

    @rule()
    def deliver(self) -> None:
        """All messages arrive."""
        for job in self.world.in_place(Place.DISPATCHED):
            self.world.claim(job, job.worker)

    @rule(number=PICK)
    def deliver_one(self, number: int) -> None:
        job = self._pick(number, Place.DISPATCHED)
        if job is not None:
            self.world.claim(job, job.worker)

    @rule(number=PICK, worker=PICK)
    def deliver_again(self, number: int, worker: int) -> None:
        """A message arrives late, or twice; or a parent's worker runs a child in its own slot."""
        job = self._pick(number, *Place)
        if job is not None:
            workers = ["", *QUEUES[job.queue]]
            self.world.claim(job, workers[worker % len(workers)])

    @rule(
        number=PICK,
        what=st.sampled_from(
            ["progress", "renew", "succeed", "succeed", "succeed", "fail", "commit"]
        ),
    )
    def work(self, number: int, what: str) -> None:
        job = self._pick(number, Place.RUNNING)
        if job is not None:
            self._work(job, job.token, what)

    @rule(number=PICK, delay=DELAYS)
    def give_back(self, number: int, delay: int) -> None:
        job = self._pick(number, Place.RUNNING)
        if job is not None:
            self.world.release(job, job.token, delay)

    @rule(number=PICK, what=st.sampled_from(["progress", "renew", "succeed", "fail", "release"]))
    def work_without_lease(self, number: int, what: str) -> None:
        """A worker that has lost its lease does not know that yet."""
        jobs = self.world.model.jobs
        void = [
            (jobs[job_id], token)
            for token, job_id in self.world.tokens.items()
            if job_id in jobs and jobs[job_id].token != token and not jobs[job_id].has_ended
        ]
        if void:
            self._work(*void[number % len(void)], what)

    def _work(self, job: ModelJob, token: str, what: str) -> None:
        match what:
            case "progress":
                self.world.progress(job, token)
            case "commit":
                self.world.progress(job, token, is_last=True)
            case "renew":
                self.world.renew(job, token)
            case "release":
                self.world.release(job, token, 0)
            case _:
                self.world.finish(job, token, well=what == "succeed")

    @rule(number=PICK, media=st.sampled_from(["m0", "m1", "m2"]))
    def find_identity(self, number: int, media: str) -> None:
        job = self._pick(number, Place.RUNNING)
        if job is not None and job.queue == "fetch":
            self.world.move(job, job.token, media)

    @rule(number=PICK, other=PICK)
    def follow(self, number: int, other: int) -> None:
        """Another job makes the media item of one that runs."""
        job, leader = self._pick(number, Place.RUNNING), self._pick(other, *Place)
        if job is not None and leader is not None:
            self.world.follow(job, job.token, leader)

    @rule(number=PICK, first=st.integers(0, 3), count=st.integers(1, 4), stored=st.booleans())
    def expand(self, number: int, first: int, count: int, stored: bool) -> None:
        """A worker finds a list and adds its entries, of which some are media of other jobs."""
        job = self._pick(number, Place.RUNNING)
        if job is not None and job.queue == "fetch":
            for entry in range(first, first + count):
                media = f"m{entry}" if entry < 3 else ""
                self.world.add_child(
                    job, job.token, f"e{entry}", media=media, is_stored=stored and entry == first
                )

    @rule(number=PICK)
    def leave_to_children(self, number: int) -> None:
        jobs = [job for job in self.world.in_place(Place.RUNNING) if job.entries]
        if jobs:
            job = jobs[number % len(jobs)]
            self.world.leave_to_children(job, job.token)
            self.world.advance(job)

    @rule(number=PICK)
    def advance(self, number: int) -> None:
        job = self._pick(number, Place.CHILDREN)
        if job is not None:
            self.world.advance(job)

    @rule(number=PICK)
    def ask_source(self, number: int) -> None:
        jobs = self._at_sources()
        if jobs:
            self.world.acquire(jobs[number % len(jobs)])

    @rule(number=PICK, outcome=st.sampled_from(["available", "refused", "rate_limited"]))
    def hear_source(self, number: int, outcome: str) -> None:
        jobs = self._at_sources()
        if jobs:
            self.world.leave_source(jobs[number % len(jobs)], outcome)

    def _at_sources(self) -> list[ModelJob]:
        jobs = self.world.in_place(Place.RUNNING)
        return [job for job in jobs if job.source in self.world.model.sources]

    @rule(number=PICK)
    def announce(self, number: int) -> None:
        self.world.announce(*WORKERS[number % len(WORKERS)])

    @rule()
    def announce_all(self) -> None:
        self.world.announce_all()

    @rule(number=PICK)
    def stop(self, number: int) -> None:
        self.world.retire(*WORKERS[number % len(WORKERS)])

    @rule(milliseconds=TIMES)
    def pass_time(self, milliseconds: int) -> None:
        self.world.pass_time(milliseconds)

    @rule(milliseconds=st.sampled_from([0, 0, 5_000, 8_000]))
    def sweep(self, milliseconds: int) -> None:
        """Also what waits for less than these milliseconds."""
        if milliseconds:
            self.world.pass_time(milliseconds)
        self.world.sweep()

    def teardown(self) -> None:
        if not self.world.is_broken:
            self.world.drain()
        type(self).steps += self.world.steps


WORKERS = [(queue, worker) for queue, workers in QUEUES.items() for worker in workers]


@pytest.fixture
def server() -> Iterator[Server]:
    """One for each test, so that none gets a reply that another has not waited for."""
    with running_server() as running:
        yield running


@pytest.fixture(autouse=True)
def _model_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "datetime", Clock)


def run(
    server: Server, number: int, *, examples: int, change: Change = lambda _, text: text
) -> int:
    """Run so many examples, always the same for a `number`; return how many steps they had.

    A step is one call of an operation on records, sources or workers, and the check after it.
    """

    @seed(number)
    class Run(Jobs):
        pass

    Run.server, Run.steps = server, 0
    Run.change = staticmethod(change)
    run_state_machine_as_test(
        Run,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS_EACH,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )
    return Run.steps


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_no_order_of_events_loses_tears_or_starves_a_job(
    server: Server, part: int, record_property: Callable[[str, object], None]
) -> None:
    steps, number = 0, part
    while steps < STEPS / PARTS:
        number += PARTS
        steps += run(server, number, examples=EXAMPLES)
    # conftest.py adds them up.
    record_property(STEPS_OF_MODEL, steps)


BUGS = {
    "a job is cancelled that another caller wants": (
        "askers.lua",
        "redis.call('HLEN', key) > redis.call('HEXISTS', key, arg.withdraws)",
        "false",
    ),
    "a job that a caller with a higher priority wants stays in its lane": (
        "askers.lua",
        "    remove_ready(id, queue, caller, lane, host)\n",
        "",
    ),
    "a caller that has given up a job counts for its priority": (
        "askers.lua",
        "highest = math.max(highest, tonumber(priority))",
        "highest = 3",
    ),
    "a job counts for its caller after its end": (
        "transition.lua",
        "  callers.uncount_job()\n",
        "",
    ),
    "a job counts as queued while it runs": (
        "callers.lua",
        "tonumber(arg.state) == QUEUED and 'queued' or '1'",
        "'queued'",
    ),
    "more jobs of a caller run than may": (
        "running_jobs.lua",
        ">= tonumber(limit)",
        "> tonumber(limit)",
    ),
    "a void token is accepted": (
        "transition.lua",
        "arg.token and arg.token ~= token",
        "arg.token and arg.token == ''",
    ),
    "a media item has two jobs": (
        "transition.lua",
        "if not active or field(active, 'ended') ~= '0' then",
        "if true then",
    ),
    "a retry begins too early": ("transition.lua", "tonumber(not_before) > now", "false"),
    "an ended job stays ready": ("transition.lua", "  make_unready(id)\n  stop_following(id)", ""),
    "a child is made ready again and again": (
        "children.lua",
        "    redis.call('ZREM', UNDISPATCHED .. id, child)\n",
        "",
    ),
    "a follower is claimed": (
        "transition.lua",
        "(tonumber(not_before) > now or is_following(id))",
        "tonumber(not_before) > now",
    ),
    "a follower is left waiting": ("transition.lua", "  wake_followers(id)\n", ""),
    "two jobs wait for each other": (
        "transition.lua",
        "arg.follows and is_awaited_by(id, arg.follows)",
        "arg.follows and false",
    ),
    "an ended child is not counted": (
        "children.lua",
        "redis.call('HINCRBY', counts, arg.outcome, 1)",
        "redis.call('HINCRBY', counts, 'succeeded', 1)",
    ),
    "slots are not given back": (
        "dispatch.lua",
        "add_load(queue, worker, -tonumber(slots), caller, host)",
        "",
    ),
    "a worker that stops keeps what it was sent": (
        "dispatch.lua",
        "      free_slots(job_id)\n      make_ready(job_id)",
        "",
    ),
    "priorities do not matter": (
        "dispatch.lua",
        "return { HIGH, NORMAL, LOW }",
        "return { NORMAL, HIGH, LOW }",
    ),
    "a token of the rate limit is lost": ("permits.lua", "if interval > 0 then", "if false then"),
}


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_every_guard_of_the_scripts_is_needed(server: Server, bug: str) -> None:
    file, guard, without = BUGS[bug]

    text = resources.files(jobs).joinpath(file).read_text()
    assert text.count(guard) == 1

    def plant(name: str, text: bytes) -> bytes:
        return text.replace(guard.encode(), without.encode()) if name == file else text

    with pytest.raises((AssertionError, KeyError)):
        run(server, 4, examples=1000, change=plant)


def test_a_permit_that_expired_unused_is_given_to_another_job(server: Server) -> None:
    world = World(ModelRedis(server))
    world.announce_all()
    first = world.create(host="tele")
    assert first is not None
    assert [job.id for job in world.dispatch("fetch")] == [first.id]
    world.claim(first, first.worker)
    while world.model.sources["telegram"].permits[first.id] > world.model.now:
        world.pass_time(4_000)
        world.renew(first, first.token)
        world.announce_all()
    second = world.create(host="tele")
    assert second is not None
    assert [job.id for job in world.dispatch("fetch")] == [second.id]
    world.claim(second, second.worker)
    world.acquire(second)

    world.acquire(first)

    assert set(world.model.sources["telegram"].permits) == {second.id}
