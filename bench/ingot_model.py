"""A model of Ingot under load: which processes a job needs, one after another, and for how long.

Every process uses one processor at most: an API server, a worker and Redis do so because their work
is on one event loop, a probe and a sender of the site because there is one for each job. The
processors are shared in slices, in turn. A job holds a slot of its worker from its dispatch to its
end. S3 is as many threads as it has requests.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bench.latencies import percentile
from bench.queueing import Customer, Server, Simulation, use

SLOTS = 16
"""Of a worker."""
SLICE_SECONDS = 0.003
"""About as long as Linux lets a process run while others wait."""

# In which order a job needs what, and which share of what it needs of each in all. Where the shares
# lie matters little: what decides is how much each process has to do for a job.
_VISITS = (
    *(("caller", 1 / 2), ("API server", 1 / 2), ("Redis", 1 / 3), ("slot", 0), ("worker", 1 / 4)),
    *(("site", 1), ("source", 1), ("worker", 1 / 4), ("probes", 1), ("S3", 1 / 2)),
    *(("Redis", 1 / 3), ("worker", 1 / 4), ("S3", 1 / 2), ("worker", 1 / 4), ("Redis", 1 / 3)),
    *(("end of slot", 0), ("API server", 1 / 2), ("caller", 1 / 2)),
)


@dataclass(frozen=True, slots=True)
class Job:
    """What a job takes."""

    processor_seconds: Mapping[str, float]
    """By the process that takes it."""
    waits_seconds: float
    """In which it needs no processor: for the source, for disks."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What runs the jobs."""

    cores: int
    workers: int = 1
    api_servers: int = 1
    elsewhere: frozenset[str] = frozenset()
    """What has processors of its own, which never limit it: callers, the site, S3. Redis elsewhere
    still has only one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation saw, without its beginning."""

    jobs_per_second: float
    seconds: tuple[float, ...]
    """How long each job took, ascending."""
    loads: Mapping[str, float] = field(default_factory=dict)
    """Share of its time that each is busy; of the busiest, if there are several."""

    def within(self, share: float) -> float:
        """Return the seconds within which this share of the jobs ended."""
        return percentile(self.seconds, share)


def closed(job: Job, deployment: Deployment, *, at_once: int, seconds: float = 20.0) -> Outcome:
    """Simulate callers who each request a job as soon as their last one has ended."""
    model = _Model(job, deployment)

    def caller() -> Customer:
        while True:
            yield from model.run()

    for _ in range(at_once):
        model.simulation.start(caller())
    return model.outcome(seconds)


def opened(job: Job, deployment: Deployment, *, rate: float, seconds: float = 60.0) -> Outcome:
    """Simulate `rate` jobs a second that come at random times (Poisson)."""
    model, times = _Model(job, deployment), random.Random(1)

    def source() -> Customer:
        while True:
            yield times.expovariate(rate)
            model.simulation.start(model.run())

    model.simulation.start(source())
    return model.outcome(seconds)


class _Model:
    def __init__(self, job: Job, deployment: Deployment) -> None:
        self.simulation = simulation = Simulation()
        self._job = job
        self._elsewhere = deployment.elsewhere
        self._cores = Server(simulation, deployment.cores)
        self._slots = Server(simulation, SLOTS * deployment.workers)
        # A caller and a site are never what limits Ingot, so there are enough of them.
        counts = {"API server": deployment.api_servers, "worker": deployment.workers, "Redis": 1}
        self._processes = {
            name: [Server(simulation, 1) for _ in range(count)] for name, count in counts.items()
        }
        self._numbers = itertools.count()
        self._ends: list[tuple[float, float]] = []

    def run(self) -> Customer:
        """One job, from its request to its end."""
        begin, number = self.simulation.now, next(self._numbers)
        for name, share in _VISITS:
            if name == "slot":
                yield self._slots
            elif name == "end of slot":
                self._slots.release()
            elif name == "source":
                yield self._job.waits_seconds
            else:
                seconds = share * self._job.processor_seconds.get(name, 0.0)
                yield from self._visit(name, number, seconds)
        self._ends.append((self.simulation.now, self.simulation.now - begin))

    def _visit(self, name: str, number: int, seconds: float) -> Customer:
        processes = self._processes.get(name)
        servers = [processes[number % len(processes)]] if processes else []
        if name not in self._elsewhere:
            servers.append(self._cores)
        slices = max(1, math.ceil(seconds / SLICE_SECONDS))
        for _ in range(slices):
            yield from use(seconds / slices, *servers)

    def outcome(self, seconds: float) -> Outcome:
        """Let `seconds` pass, and as long before that the half of them, which does not count."""
        self.simulation.run(seconds / 2)
        begin = self.simulation.now
        self.simulation.run(seconds)
        ended = [taken for end, taken in self._ends if end > begin]
        loads = {"cores": self._cores.load, **_busiest(self._processes.items())}
        return Outcome(len(ended) / seconds, tuple(sorted(ended)), loads)


def _busiest(processes: Iterable[tuple[str, list[Server]]]) -> Mapping[str, float]:
    return {name: max(server.load for server in servers) for name, servers in processes}
