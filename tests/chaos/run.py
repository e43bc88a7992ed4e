"""One run: start everything, load and disturb it, let it settle, and check the promises."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from tests.chaos.callers import callers
from tests.chaos.claims import check_claims
from tests.chaos.cluster import GC_GRACE, SETTINGS, running_cluster
from tests.chaos.evidence import Evidence, examine_bucket, examine_machine, examine_service
from tests.chaos.faults import CLOCK_JUMP, LOSSES, Faults
from tests.chaos.history import History
from tests.chaos.load import Load
from tests.chaos.report import Report, jobs_by_outcome
from tests.chaos.sources import Sources
from tests.origin import running_origin

_WARM_UP_SECONDS = 2.0
_ANSWER_SECONDS = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run does. The same plan makes the same choices, though not at the same instants."""

    seed: int
    faults: int
    stack: str = "valkey-seaweedfs"
    broker: str = "redis"
    fault_seconds: float = 1.2
    """The pause between two faults, on average."""
    load_seconds: float = 0.5
    """The pause between two actions of callers, on average."""
    only: Sequence[str] = ()
    """The faults to choose from; empty means all."""
    certain: Sequence[str] = ()
    """Faults that happen at least once each, spread over the run."""
    redis_is_lost: bool = True
    """Whether Redis loses its data or its last writes among the faults."""
    load: Mapping[str, int] = field(default_factory=dict)
    """Weights of the actions of callers, by the names of Load's methods; empty means the usual."""
    settle_seconds: float = 90.0
    """How long no job may change, although some have not ended after the last fault."""
    origins: int = 3
    workers: int = 2
    settings: Settings = SETTINGS


def run_until_stopped(plan: Plan) -> Report:
    """Carry out a plan in an event loop of its own. SIGTERM ends it with all of its processes.

    Raises asyncio.CancelledError then, and ServerMissing as `run` does.
    """

    async def stoppable() -> Report:
        running = asyncio.ensure_future(run(plan))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        return await running

    return asyncio.run(stoppable())


async def run(plan: Plan) -> Report:
    """Carry out a plan. Raises ServerMissing when this machine lacks a server."""
    chances = [random.Random(f"{plan.seed} {part}") for part in range(5)]
    begin = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="ingot-chaos-"))
    history = History()
    async with AsyncExitStack() as stack:
        origins = [await stack.enter_async_context(running_origin()) for _ in range(plan.origins)]
        sources = Sources(origins, chances[0])
        cluster = await stack.enter_async_context(
            running_cluster(
                directory,
                stack_name=plan.stack,
                chance=chances[1],
                settings=plan.settings,
                broker=plan.broker,
                workers=plan.workers,
            )
        )
        asking = await stack.enter_async_context(callers(cluster.addresses, history, chances[2]))
        load = Load(
            asking,
            sources,
            history,
            chances[3],
            lambda: cluster.settings.replace(gc_grace=GC_GRACE),
            plan.load,
        )
        stack.push_async_callback(load.close)
        faults = Faults(cluster, sources, chances[4])
        loading = asyncio.create_task(load.run(plan.load_seconds))
        await asyncio.sleep(_WARM_UP_SECONDS)
        names = list(plan.only) or [
            name for name in faults.kinds if plan.redis_is_lost or name not in LOSSES
        ]
        if CLOCK_JUMP in names and not cluster.clocks.can_be_set:
            print("No clock is set: libfaketime is not installed.", file=sys.stderr)
            names.remove(CLOCK_JUMP)
        await faults.run(plan.faults, plan.fault_seconds, names, plan.certain)
        await cancel_and_wait(loading)
        await faults.end()
        sources.recover()
        await load.answered(_ANSWER_SECONDS)
        await load.ended(plan.settle_seconds)
        # What ends from now on is too late, and the records would not say the same as the watches.
        await load.close()
        evidence = Evidence(
            history=history,
            sources=sources,
            commits=cluster.gateway.log,
            lease_seconds=plan.settings.lease.total_seconds(),
            redis_losses=faults.redis_losses,
            disturbances=faults.disturbances,
            clocks_jumped=bool(faults.counts[CLOCK_JUMP]),
        )
        await examine_service(evidence, asking, cluster)
        await cluster.stop()
        await examine_machine(evidence, cluster)
        await examine_bucket(evidence, cluster)
        findings = check_claims(evidence)
        report = Report(
            seed=plan.seed,
            stack=plan.stack,
            broker=plan.broker,
            seconds=time.monotonic() - begin,
            faults=faults.counts,
            fault_log=faults.log,
            jobs=jobs_by_outcome(evidence),
            calls=history.calls,
            findings=findings,
            notes=load.failures,
        )
    if report.violations:
        report.notes.append(f"What the processes said is in {directory}/processes.log")
    else:
        shutil.rmtree(directory)
    return report
