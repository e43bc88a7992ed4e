"""The sweep of one worker: what is due is recovered, and what may run is dispatched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeAlias, assert_never

from ingot.v1 import reason_pb2
from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.jobs.dispatch import Dispatcher
from ingot_server.jobs.outcomes import ChildrenChanged, NothingToDo, QueuedAgain
from ingot_server.jobs.records import Records
from ingot_server.log_events import Event
from ingot_server.outage import Outage

logger = EventLogger(__name__)

SWEEP_SECONDS: Final = 1.0
SWEEP_BATCH: Final = 32
_SWEEP: Final = "sweep"

Advance: TypeAlias = Callable[[str], Coroutine[Any, Any, None]]
"""Goes on with a parent, by its id, whose children have changed."""


async def keep_sweeping(
    records: Records,
    dispatcher: Dispatcher,
    advance: Advance,
    *,
    redis_outage: Outage,
    broker_outage: Outage,
) -> None:
    """Sweep every second, and when a source lets its next job start; until cancelled."""
    recover = partial(_recover, records, advance)
    seconds = SWEEP_SECONDS
    while True:
        await asyncio.sleep(seconds)
        seconds = SWEEP_SECONDS
        try:
            while job_ids := await records.dispatch.sweep(SWEEP_BATCH):
                await gather_or_cancel(map(recover, job_ids))
            done = await dispatcher.run()
            for refused in done.unsent.values():
                raise refused
        except Failure as failure:
            is_broker = failure.reason == reason_pb2.REASON_QUEUE_UNAVAILABLE
            outage = broker_outage if is_broker else redis_outage
            seconds = max(seconds, outage.failed(_SWEEP, failure))
        else:
            redis_outage.succeeded(_SWEEP)
            broker_outage.succeeded(_SWEEP)
            if done.next_permit is not None:
                seconds = min(seconds, done.next_permit.total_seconds())


async def _recover(records: Records, advance: Advance, job_id: str) -> None:
    try:
        recovery = await records.recover(job_id)
        match recovery:
            case ChildrenChanged(job):
                await advance(job.id)
            case QueuedAgain() | NothingToDo():
                pass
            case _:
                assert_never(recovery)
    except Failure:
        raise
    except Exception:
        # A record that cannot be read must not stop the recovery of all other jobs.
        logger.exception(Event.SWEEP_FAILED, "job %s", job_id, job_id=job_id)
