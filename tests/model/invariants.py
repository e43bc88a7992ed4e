"""Everything that is stored is what the model says."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tests.model.job_model import QUEUED, JobModel, ModelJob, ModelSource, Place
from tests.model.job_store import ModelRedis

Stored = Mapping[str, Any]
_SLOT_SCORE = 10_000_000_000


def check(model: JobModel, redis: ModelRedis) -> None:
    stored, groups = redis.stored, redis.by_kind
    records = groups["job"]
    for job in model.jobs.values():
        found = records.get(job.id)
        if not (job.has_ended and job.last_found is found):
            job.last_found = found
            assert found == job.stored(), f"the record of {job.id}"
    assert len(records) == len(model.jobs), "a record is left"
    _check_places(model, stored)
    _check_followers(model, groups["followers"])
    for queue in ("fetch", "convert"):
        jobs = [job for job in model.jobs.values() if job.queue == queue and not job.has_ended]
        _check_slots(jobs, queue, stored)
        _check_ready(jobs, queue, groups["ready"])
    _check_callers(model, stored)
    _check_askers(model, groups["askers"])
    _check_states(model, groups["jobs"])
    _check_tenants(model, stored, groups["tenant-jobs"])
    _check_children(model, groups)
    for source in model.sources.values():
        _check_source(model, source, stored)
    active = {media: job_id.decode() for media, job_id in groups["active"].items()}
    assert active == model.active, "one job for each media item"


def _check_places(model: JobModel, stored: Stored) -> None:
    """A job that has not ended has a deadline, or is ready, or is a child that will be."""
    deadlines = pairs(stored.get("deadlines", ()))
    for job in model.jobs.values():
        found = deadlines.pop(job.id, None)
        if job.place is Place.CHILDREN or not job.is_settled:
            assert found is not None, f"{job.id} waits forever"
        else:
            expected = b"%d" % job.deadline if job.deadline is not None else None
            assert found == expected, f"the deadline of {job.id}"
        if job.place is Place.TURN:
            assert any(job.id in parent.turns for parent in model.parents(job))
    assert deadlines.keys() == model.unswept, "deadlines of what does not exist"


def _check_followers(model: JobModel, stored: Stored) -> None:
    """A job that follows another one is known to that, and nothing else is."""
    expected: defaultdict[str, set[str]] = defaultdict(set)
    for job in model.jobs.values():
        if job.place is Place.FOLLOWING:
            assert not model.jobs[job.follows].has_ended, f"{job.id} waits forever"
            expected[job.follows].add(job.id)
    assert {leader: set(pairs(each)) for leader, each in stored.items()} == expected


def _check_callers(model: JobModel, stored: Stored) -> None:
    """The jobs of each caller are counted, and children only while they hold slots."""
    jobs = model.jobs.values()
    counted = model.counted()
    expected = {
        "caller-jobs": Counter(job.caller for job in counted),
        "caller-queued": Counter(job.caller for job in counted if job.state == QUEUED),
        "running-jobs": Counter(job.caller for job in jobs if job.slots),
        "running-limits": {
            f"{job.queue} {job.caller}": model.most_running[job.caller]
            for job in jobs
            if job.place is Place.READY and job.caller in model.most_running
        },
    }
    for key, counts in expected.items():
        found = pairs(stored.get(key, ()))
        assert {name: int(count) for name, count in found.items()} == counts, key


def _check_askers(model: JobModel, stored: Stored) -> None:
    """It is known who wants a job for as long as there is a record of it."""
    found = {
        job_id: {name: int(priority) for name, priority in pairs(each).items()}
        for job_id, each in stored.items()
    }
    assert found == {job.id: job.askers for job in model.jobs.values() if job.askers}


def _check_slots(jobs: Sequence[ModelJob], queue: str, stored: Stored) -> None:
    """Jobs that were dispatched or run hold slots, and nothing else does."""
    held = {}
    load: Counter[str] = Counter()
    for job in jobs:
        if job.slots:
            held[job.id] = f"{job.worker} {job.slots} {job.caller} {job.host}".encode()
            load[f"caller {job.caller}"] += job.slots
            load[f"host {job.host}"] += job.slots
            load[f"worker {job.worker}"] += job.slots
            load[f"at {job.worker} {job.host}"] += job.slots
    assert pairs(stored.get(f"held:{queue}", ())) == held
    found = pairs(stored.get(f"load:{queue}", ()))
    assert {name: int(value) for name, value in found.items()} == load


def _check_ready(jobs: Sequence[ModelJob], queue: str, ready: Stored) -> None:
    """What is ready is in its lane, and lanes, hosts and callers without jobs are gone."""
    lanes: defaultdict[str, list[ModelJob]] = defaultdict(list)
    hosts: defaultdict[str, set[str]] = defaultdict(set)
    callers: Counter[str] = Counter()
    for job in jobs:
        if job.place is Place.READY:
            lane = f"{queue} {job.caller} {job.priority}"
            lanes[f"{lane} {job.host}"].append(job)
            hosts[lane].add(job.host)
            callers[job.caller] = 0
    for job in jobs:
        if job.caller in callers:
            callers[job.caller] += job.slots
    found = {name for name in ready if name.startswith(f"{queue} ")}
    assert found == lanes.keys() | hosts.keys()
    for name, members in lanes.items():
        members.sort(key=lambda each: each.age)
        assert list(pairs(ready[name])) == [each.id for each in members]
    for name, expected in hosts.items():
        assert pairs(ready[name]).keys() == expected
    scores = pairs(ready.get(queue, ()))
    assert {name: int(score) // _SLOT_SCORE for name, score in scores.items()} == callers


def _check_states(model: JobModel, stored: Stored) -> None:
    found: dict[str, int] = {}
    for state in range(1, 6):
        for each in pairs(stored.get(str(state), ())):
            assert each not in found, "a job is in two states"
            found[each] = state
    for job in model.jobs.values():
        assert found.get(job.id) == job.state


def _check_tenants(model: JobModel, stored: Stored, counts: Stored) -> None:
    """The jobs of each tenant are counted by their states, for as long as they are listed."""
    listed = {each for name in stored if name.startswith("jobs:") for each in pairs(stored[name])}
    found = pairs(stored.get("job-tenants", ()))
    assert found.keys() <= listed
    for job in model.jobs.values():
        assert found.get(job.id, b"").decode() == job.tenant
    expected: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for state in range(1, 6):
        for each in pairs(stored.get(f"jobs:{state}", ())):
            if tenant := found.get(each):
                expected[tenant.decode()][state] += 1
    assert {
        tenant: {int(state): int(count) for state, count in pairs(each).items()}
        for tenant, each in counts.items()
    } == expected


def _check_children(model: JobModel, groups: Mapping[str, Stored]) -> None:
    for job in model.jobs.values():
        if job.entries:
            counts = pairs(groups["child-counts"].get(job.id, ()))
            for name in ("total", "succeeded", "failed", "cancelled"):
                assert int(counts.get(name, 0)) == job.counts[name], f"{name} of {job.id}"
            turns = groups["undispatched"].get(job.id, ())
            assert pairs(turns).keys() == job.turns.keys()


def _check_source(model: JobModel, source: ModelSource, stored: Stored) -> None:
    found = pairs(stored.get(f"source:{source.name}", ()))
    if not found:
        return  # unused for a day, so Redis has removed it
    assert bool(found.get("open_reason")) == bool(source.reason)
    assert found.get("trial_permit", b"").decode() == source.trial
    assert int(found.get("next_time", 0)) == source.next_time, "tokens of the rate limit"
    assert int(found.get("retry_at") or 0) == source.retry_at
    permits = {
        name: int(until)
        for name, until in pairs(stored.get(f"source-permits:{source.name}", ())).items()
        if int(until) > model.now
    }
    assert permits == {job: until for job, until in source.permits.items() if until > model.now}
    if source.concurrency:
        assert len(permits) <= source.concurrency
    for kind in ("waiting", "blocked"):
        for job_id in pairs(stored.get(f"source-{kind}:{source.name}", ())):
            assert not model.jobs[job_id].has_ended, "a job waits that has ended"


def pairs(flat: Sequence[bytes]) -> dict[str, bytes]:
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
