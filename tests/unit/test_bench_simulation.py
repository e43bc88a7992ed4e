"""The simulation of docs/scaling.md agrees with what is known of queues."""

import math
import random
from collections.abc import Generator

import pytest

from bench.ingot_model import Deployment, Job, closed, opened
from bench.queueing import Customer, Server, Simulation, use


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (2, 0.8), (4, 0.8)])
def test_the_simulation_agrees_with_the_formula_of_erlang(servers: int, load: float) -> None:
    """M/M/c: the mean time that customers wait."""
    simulation, times = Simulation(), random.Random(3)
    counter, waited = Server(simulation, servers), list[float]()

    def customer() -> Customer:
        begin = simulation.now
        service = times.expovariate(1.0)
        yield from use(service, counter)
        waited.append(simulation.now - begin - service)

    def source() -> Generator[float, None, None]:
        while True:
            yield times.expovariate(load * servers)
            simulation.start(customer())

    simulation.start(source())
    simulation.run(100_000 / servers)
    assert sum(waited) / len(waited) == pytest.approx(_mean_wait(servers, load), rel=0.08)
    assert counter.load == pytest.approx(load, rel=0.02)


def _mean_wait(servers: int, load: float) -> float:
    """In units of the mean service time (Erlang 1917)."""
    offered = servers * load
    waiting = offered**servers / math.factorial(servers) / (1 - load)
    chance = waiting / (
        sum(offered**number / math.factorial(number) for number in range(servers)) + waiting
    )
    return chance / (servers * (1 - load))


JOB = Job({"worker": 0.02, "probes": 0.04, "API server": 0.004, "Redis": 0.002}, 0.1)
STORES = frozenset({"Redis", "S3"})


def test_processors_limit_the_jobs_a_second_until_a_process_does() -> None:
    per_core = 1 / sum(JOB.processor_seconds.values())
    one, two = (closed(JOB, Deployment(cores), at_once=16) for cores in (1, 2))
    assert one.jobs_per_second == pytest.approx(per_core, rel=0.03)
    # Sometimes all jobs wait for the one worker.
    assert 1.7 * per_core < two.jobs_per_second < 2 * per_core
    # One worker uses one core, and one Redis too, however many there are.
    many = closed(JOB, Deployment(64), at_once=64)
    assert many.jobs_per_second <= 1 / JOB.processor_seconds["worker"]
    workers = closed(JOB, Deployment(64, workers=40, api_servers=8), at_once=640)
    assert workers.jobs_per_second == pytest.approx(1 / JOB.processor_seconds["Redis"], rel=0.03)
    assert workers.loads["Redis"] > 0.95


def test_an_idle_machine_adds_no_waiting() -> None:
    outcome = opened(JOB, Deployment(8, elsewhere=STORES), rate=0.5)
    alone = sum(JOB.processor_seconds.values()) + JOB.waits_seconds
    assert outcome.within(0.5) == pytest.approx(alone, rel=0.01)
    assert outcome.jobs_per_second == pytest.approx(0.5, rel=0.3)
