"""The state of the whole installation, as Redis has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ingot.v1.source_service_pb2 import CookiesStatus
from ingot.v1.system_service_pb2 import QueueStatus, WorkerStatus
from ingot_server.cookie_health import CookieHealth
from ingot_server.jobs.backlog import Backlog
from ingot_server.jobs.placement import Work
from ingot_server.jobs.records import Records
from ingot_server.jobs.throttle import OpenBreaker, SourceThrottle
from ingot_server.jobs.workers import Workers
from ingot_server.redis import Redis, unavailable
from ingot_server.sources import SOURCES


@dataclass(frozen=True, slots=True)
class InstallationState:
    """What was read at one time."""

    workers: Sequence[WorkerStatus]
    queues: Sequence[QueueStatus]
    redis_memory: Mapping[str, int | str]
    """The section `memory` of Redis' INFO."""
    open_breakers: Mapping[str, OpenBreaker]
    """By source."""
    cookies: Mapping[str, CookiesStatus]
    """By source, of those that have some."""

    def workers_for(self, work: Work) -> list[WorkerStatus]:
        """Return the workers that do this kind of work."""
        if work is Work.FETCH:
            return [each for each in self.workers if not each.converts]
        return [each for each in self.workers if each.converts or each.runs_all_jobs]


class Installation:
    """Reads the state of the installation."""

    def __init__(
        self,
        redis: Redis,
        records: Records,
        workers: Workers,
        throttle: SourceThrottle,
        cookie_health: CookieHealth,
    ) -> None:
        self._redis = redis
        self._backlog = Backlog(redis, records)
        self._workers = workers
        self._throttle = throttle
        self._cookie_health = cookie_health

    async def read(self) -> InstallationState:
        """Return what there is now. Raises Failure CACHE_UNAVAILABLE."""
        workers = await self._workers.living()
        queues = await self._backlog.read()
        with unavailable():
            memory = await self._redis.info("memory")
        breakers = await self._throttle.open_breakers([source.name for source in SOURCES])
        cookies = await self._cookie_health.read()
        return InstallationState(workers, queues, memory, breakers, cookies)
