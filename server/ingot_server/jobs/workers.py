"""The worker processes: each reports to Redis, and whoever asks reads the reports.

    ingot:workers   hash   worker id -> serialized WorkerStatus

A worker that stops removes its report. That of a worker that died is ignored after LIFETIME, and
removed by the next reader.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from redis.asyncio import Redis

from ingot.v1.system_service_pb2 import WorkerStatus
from ingot_server.errors import Failure
from ingot_server.redis import unavailable

logger = logging.getLogger(__name__)

VERSION: Final = importlib.metadata.version("ingot-server")
REPORT_SECONDS: Final = 5.0
LIFETIME: Final = timedelta(seconds=30)
_WORKERS_KEY: Final = "ingot:workers"


def this_worker() -> str:
    """Return the id of the worker process that calls."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Workers:
    """The reports of all workers. Every method raises Failure with CACHE_UNAVAILABLE."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def keep_reporting(self, measure: Callable[[], WorkerStatus]) -> None:
        """Report what `measure` returns, now and every few seconds, until cancelled."""
        while True:
            status = await asyncio.to_thread(measure)
            status.report_time.GetCurrentTime()
            try:
                with unavailable():
                    await self._redis.hset(_WORKERS_KEY, status.id, status.SerializeToString())
            except Failure as failure:
                logger.warning("this worker could not be reported: %s", failure.message)
            await asyncio.sleep(REPORT_SECONDS)

    async def remove(self, worker_id: str) -> None:
        """Remove the report of a worker that stops."""
        with unavailable():
            await self._redis.hdel(_WORKERS_KEY, worker_id)

    async def living(self) -> Sequence[WorkerStatus]:
        """Return the reports of the last half minute, by id."""
        with unavailable():
            reports = await cast("Awaitable[dict[bytes, bytes]]", self._redis.hgetall(_WORKERS_KEY))
        workers = sorted(map(WorkerStatus.FromString, reports.values()), key=lambda each: each.id)
        earliest = datetime.now(UTC) - LIFETIME
        alive = [each for each in workers if each.report_time.ToDatetime(UTC) >= earliest]
        for dead in workers:
            if dead not in alive:
                await self.remove(dead.id)
        return alive
