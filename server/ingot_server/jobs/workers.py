"""The worker processes: each reports to Redis, and whoever asks reads the reports.

    ingot:workers           set     ids of the workers
    ingot:worker:<id>       string  serialized WorkerStatus; expires after LIFETIME

A worker that stops removes its report. That of a worker that died expires, and the next reader
removes its id.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final, cast

from ingot.v1.system_service_pb2 import WorkerStatus
from ingot_server.errors import Failure
from ingot_server.redis import Redis, unavailable

VERSION: Final = importlib.metadata.version("ingot-server")
REPORT_SECONDS: Final = 5.0
LIFETIME: Final = timedelta(seconds=30)
_REPORT: Final = "report of this worker"


def this_worker() -> str:
    """Return the id of the worker process that calls."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Workers:
    """The reports of all workers. Every method raises Failure with CACHE_UNAVAILABLE."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._all = redis.key("workers")

    async def keep_reporting(self, measure: Callable[[], WorkerStatus]) -> None:
        """Report what `measure` returns, now and every few seconds, until cancelled."""
        while True:
            status = await asyncio.to_thread(measure)
            status.report_time.GetCurrentTime()
            try:
                with unavailable():
                    await self._report(status)
            except Failure as failure:
                await asyncio.sleep(self._redis.outage.failed(_REPORT, failure))
            else:
                self._redis.outage.succeeded(_REPORT)
                await asyncio.sleep(REPORT_SECONDS)

    async def remove(self, worker_id: str) -> None:
        """Remove the report of a worker that stops."""
        with unavailable():
            await self._redis.delete(self._key(worker_id))

    async def living(self) -> Sequence[WorkerStatus]:
        """Return the reports of the last half minute, by id."""
        with unavailable():
            members = await cast("Awaitable[set[bytes]]", self._redis.smembers(self._all))
            ids = sorted(member.decode() for member in members)
            reports = await self._redis.mget([*map(self._key, ids)]) if ids else []
            found = dict(zip(ids, reports, strict=True))
            gone = [worker_id for worker_id, report in found.items() if report is None]
            if gone:
                await self._redis.srem(self._all, *gone)
        return [
            WorkerStatus.FromString(cast("bytes", report))
            for report in found.values()
            if report is not None
        ]

    async def _report(self, status: WorkerStatus) -> None:
        # The id is added each time: a reader may have removed it, or Redis may have been lost.
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.set(self._key(status.id), status.SerializeToString(), px=LIFETIME)
            pipeline.sadd(self._all, status.id)
            await pipeline.execute()

    def _key(self, worker_id: str) -> str:
        return self._redis.key(f"worker:{worker_id}")
