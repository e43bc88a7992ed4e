"""What dispatch promises: who is next, and that nothing waits which could run.

A `Round` follows the jobs that one call has dispatched, one by one, on a `JobModel`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.model.job_model import RESEND, JobModel, ModelJob, ModelSource, Place

LOW, NORMAL, HIGH = 1, 2, 3
LOW_EACH = 10
SHARED_FROM = 4
CALLER_SHARE, HOST_SHARE = 3, 1
RESERVED = "convert"


@dataclass
class Round:
    """One call of dispatch."""

    model: JobModel
    queue: str
    workers: Mapping[str, int]
    """The living workers and their slots."""
    gone: Mapping[str, int]
    """The same of workers that have gone lately; they count as free."""
    jobs_per_host: int
    permit_ms: int
    passed: Counter[str]
    """Dispatches of each caller since one of low priority."""
    turns: dict[tuple[str, int], list[str]]
    """The hosts of each caller and priority in the order of their turns."""
    callers: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)
    at: Counter[tuple[str, str]] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)
    """The jobs of each caller that hold slots, in all queues."""

    def __post_init__(self) -> None:
        for job in self.model.jobs.values():
            if job.slots:
                self.running[job.caller] += 1
                if job.queue == self.queue:
                    self._add(job)

    def follow(self, job_id: str, worker: str) -> None:
        """Dispatch a job on the model; it must have been its turn."""
        job = self.model.jobs[job_id]
        assert job.place is Place.READY, f"{job_id} is not ready"
        oldest = list(self._oldest())
        candidates = [each for each in oldest if self._workers_for(each)]
        assert job in candidates, f"{job_id} may not run, or not yet"
        free = self._free(worker)
        assert worker in self._workers_for(job), f"{worker} may not run {job_id}"
        assert free == max(map(self._free, self._workers_for(job))), "another worker has more room"
        self._check_turn(job, candidates)
        job.place, job.worker = Place.DISPATCHED, worker
        job.slots = self._slots_of(job, worker)
        job.deadline = self.model.now + RESEND
        self._add(job)
        self.running[job.caller] += 1
        self._take_turn(job)
        self._give_permit(job)

    def check_rest(self) -> None:
        """Nothing waits that could run, unless a job waits for a whole worker."""
        oldest = list(self._oldest())
        if any(self._waits_for_worker(each) for each in oldest):
            return
        able = [each.id for each in oldest if self._workers_for(each)]
        assert not able, f"{able} could run"

    def _check_turn(self, job: ModelJob, candidates: list[ModelJob]) -> None:
        fewest = min(self.callers[each.caller] for each in candidates)
        assert self.callers[job.caller] == fewest, "a caller with fewer slots waits"
        own = [each for each in candidates if each.caller == job.caller]
        is_turn_of_low = self.passed[job.caller] >= LOW_EACH - 1
        first = max(own, key=lambda each: (is_turn_of_low and each.priority == LOW, each.priority))
        assert job.priority == first.priority, f"{first.id} has another priority"
        order = self.turns[job.caller, job.priority]
        waiting = {each.host for each in own if each.priority == job.priority}
        assert job.host == next(host for host in order if host in waiting), "another host's turn"

    def _take_turn(self, job: ModelJob) -> None:
        hosts = self.turns[job.caller, job.priority]
        hosts.remove(job.host)
        ready = [
            each
            for each in self.model.jobs.values()
            if (each.place, each.queue, each.caller) == (Place.READY, self.queue, job.caller)
        ]
        if any(each.priority == job.priority and each.host == job.host for each in ready):
            hosts.append(job.host)
        if not ready or job.priority == LOW:
            self.passed[job.caller] = 0
        if job.priority != LOW and any(each.priority == LOW for each in ready):
            self.passed[job.caller] += 1

    def _give_permit(self, job: ModelJob) -> None:
        source = self._source(job)
        if source is not None and not source.closed_because(self.model.now):
            job.permit, job.waits_since = source.name, None
            now = self.model.now
            source.give(job.id, now, now + RESEND + self.permit_ms)

    def _oldest(self) -> Iterator[ModelJob]:
        """The oldest ready job of each caller, priority and host."""
        found: dict[tuple[str, int, str], ModelJob] = {}
        for job in self.model.jobs.values():
            if job.place is Place.READY and job.queue == self.queue:
                place = job.caller, job.priority, job.host
                if place not in found or found[place].age > job.age:
                    found[place] = job
        yield from found.values()

    def _workers_for(self, job: ModelJob) -> list[str]:
        return [worker for worker in self.workers if self._has_room(job, worker)]

    def _has_room(self, job: ModelJob, worker: str) -> bool:
        return (
            self._may_take(job)
            and not self._is_at_limit(job)
            and self._is_let_in(job)
            and (self._has_slots(job, worker) or self._has_reserve(job, worker))
            and (
                not (self.jobs_per_host and job.host)
                or self.at[worker, job.host] < self.jobs_per_host
            )
        )

    def _has_slots(self, job: ModelJob, worker: str) -> bool:
        return self._free(worker) >= max(1, job.cost or self.workers[worker])

    def _has_reserve(self, job: ModelJob, worker: str) -> bool:
        """Whether the caller holds nothing, and the job must be content with one place."""
        return (
            self.queue == RESERVED
            and not self.callers[job.caller]
            and self._free(worker) >= 0
            and not any(self._has_slots(job, each) for each in self.workers)
        )

    def _slots_of(self, job: ModelJob, worker: str) -> int:
        return (job.cost or self.workers[worker]) if self._has_slots(job, worker) else 1

    def _waits_for_worker(self, job: ModelJob) -> bool:
        return (
            not job.cost
            and self._may_take(job)
            and not self._is_at_limit(job)
            and not self._workers_for(job)
        )

    def _is_at_limit(self, job: ModelJob) -> bool:
        most = self.model.most_running.get(job.caller)
        return most is not None and self.running[job.caller] >= most

    def _may_take(self, job: ModelJob) -> bool:
        """Whether enough slots stay free for callers and hosts that hold none."""
        slots = {**self.workers, **self.gone}
        total = sum(slots.values())
        if self.queue == RESERVED or total < SHARED_FROM:
            return True
        needed = job.cost or max(self.workers.values(), default=1)
        free = total - sum(self.used[worker] for worker in slots) - needed
        exceeds_half = any(2 * held > total for held in self.callers.values())

        def is_fair(held: int, share: int) -> bool:
            return (
                not held
                or held + needed <= share * free
                or (exceeds_half and free > 0 and 2 * (held + needed) <= total)
            )

        return is_fair(self.callers[job.caller], CALLER_SHARE) and (
            not job.host or is_fair(self.hosts[job.host], HOST_SHARE)
        )

    def _is_let_in(self, job: ModelJob) -> bool:
        source = self._source(job)
        if source is None:
            return True
        cause = source.closed_because(self.model.now)
        if cause == "open":
            since = self.model.now if job.waits_since is None else job.waits_since
            return self.model.now - max(since, source.open_since) >= source.wait_timeout
        return not cause

    def _source(self, job: ModelJob) -> ModelSource | None:
        return self.model.sources.get(job.source)

    def _free(self, worker: str) -> int:
        return self.workers[worker] - self.used[worker]

    def _add(self, job: ModelJob) -> None:
        self.callers[job.caller] += job.slots
        self.hosts[job.host] += job.slots
        self.used[job.worker] += job.slots
        self.at[job.worker, job.host] += job.slots
