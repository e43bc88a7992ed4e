"""Dispatch: a job's message is sent when the job may run, and to a worker that has a slot for it.

    ready -> dispatched to one worker, whose slot it holds -> claimed -> the slot is free again

`dispatch.lua` keeps the jobs that are ready, and chooses the next one fairly. A dispatched job that
its worker does not claim within `settings.resend_interval` is ready again. Whoever makes a job
ready, or gives up a slot, dispatches at once; the sweep of each worker does so every second.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.placement import Work
from ingot_server.jobs.queue import Queue
from ingot_server.jobs.transition import Transition, milliseconds

logger = logging.getLogger(__name__)

# In one call; what is left is dispatched by the next one.
_AT_ONCE: Final = 64
# A worker recovers an overdue job within this time, or another one does.
_RECHECK: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A job whose message must be sent now, and the worker that it is for."""

    job_id: str
    worker_id: str


class Dispatch:
    """What `dispatch.lua` does. Every method raises Failure with CACHE_UNAVAILABLE."""

    def __init__(self, transition: Transition, settings: Settings) -> None:
        self._transition = transition
        self._settings = settings

    async def announce(self, worker_id: str, work: Work, slots: int) -> None:
        """Say that a worker has so many slots; it gets jobs until `settings.lease` has passed."""
        await self._transition.call(
            "announce",
            worker_id,
            queue=work,
            slots=slots,
            ttl=milliseconds(self._settings.lease),
        )

    async def retire(self, worker_id: str, work: Work) -> None:
        """Say that a worker takes no more jobs. Those that it has not claimed are ready again."""
        await self._transition.call("retire", worker_id, queue=work)

    async def take(self, work: Work) -> list[Dispatched]:
        """Return the jobs that are dispatched now; the caller must send their messages."""
        limit = self._settings.jobs_per_host if work is Work.FETCH else 0
        found = await self._transition.call(
            "dispatch",
            work,
            limit=_AT_ONCE,
            deadline=milliseconds(self._settings.resend_interval),
            jobs_per_host=limit,
        )
        names = [each.decode() for each in found]
        return [Dispatched(*pair) for pair in zip(names[::2], names[1::2], strict=True)]

    async def sweep(self, limit: int) -> list[str]:
        """Return the ids of at most `limit` jobs for `Records.recover`, the most overdue first.

        Each has lost its worker, or its children have changed. Two callers at the same time get
        different jobs. Jobs whose retry is due, and those that no worker has claimed, are ready
        afterwards.
        """
        job_ids = await self._transition.call(
            "sweep", "", limit=limit, recheck=milliseconds(_RECHECK)
        )
        return [job_id.decode() for job_id in job_ids]


class Dispatcher:
    """Dispatches jobs and sends their messages."""

    def __init__(self, dispatch: Dispatch, queue: Queue) -> None:
        self._dispatch = dispatch
        self._queue = queue

    async def run(self, *kinds: Work) -> Mapping[str, Failure]:
        """Dispatch what may run; return the failures of the messages that were not sent, by job.

        Those jobs are ready again after a while.
        """
        unsent: dict[str, Failure] = {}
        for work in kinds or tuple(Work):
            for dispatched in await self._dispatch.take(work):
                try:
                    await self._queue.send(dispatched.job_id, dispatched.worker_id)
                except Failure as failure:
                    unsent[dispatched.job_id] = failure
        return unsent

    async def run_or_warn(self, *kinds: Work) -> None:
        """Dispatch what may run. If that is not possible now, the sweep does it later."""
        try:
            unsent = await self.run(*kinds)
        except Failure as failure:
            logger.warning("nothing was dispatched: %s", failure.message)
            return
        for job_id, refused in unsent.items():
            logger.warning("job %s: %s", job_id, refused.message)
