"""SystemService: what waits and runs in the installation, what is wrong, and what callers use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from ingot.v1 import system_service_pb2
from ingot.v1.system_service_pb2 import (
    GetQuotaRequest,
    GetQuotaResponse,
    GetSystemRequest,
    GetSystemResponse,
    Problem,
    WorkerStatus,
)
from ingot_server.api.caller import Caller, Service
from ingot_server.api.quotas import Quotas
from ingot_server.api.store_health import Stores
from ingot_server.config import Settings
from ingot_server.errors import reason_name
from ingot_server.findings import Finding, Level
from ingot_server.jobs.backlog import read_backlog
from ingot_server.jobs.records import Records
from ingot_server.jobs.throttle import OpenBreaker, SourceThrottle
from ingot_server.jobs.workers import VERSION, Workers
from ingot_server.redis import Redis, unavailable
from ingot_server.redis_checks import check_eviction
from ingot_server.sources import SOURCES

_GIB: Final = 1 << 30


class SystemService(Service):
    """The service that describes the installation. It only reads."""

    descriptor = system_service_pb2.DESCRIPTOR.services_by_name["SystemService"]
    needs = Stores.REDIS

    def __init__(
        self,
        redis: Redis,
        records: Records,
        workers: Workers,
        throttle: SourceThrottle,
        quotas: Quotas,
        settings: Settings,
    ) -> None:
        self._redis = redis
        self._records = records
        self._workers = workers
        self._throttle = throttle
        self._quotas = quotas
        self._settings = settings

    async def get_system(self, _: GetSystemRequest, __: Caller) -> GetSystemResponse:
        workers = await self._workers.living()
        queues = await read_backlog(self._redis, self._records)
        with unavailable():
            memory = await self._redis.info("memory")
        breakers = await self._throttle.open_breakers([source.name for source in SOURCES])
        problems = [
            *_worker_problems(workers, self._settings),
            *_problems([check_eviction(memory)]),
            *_source_problems(breakers),
        ]
        return GetSystemResponse(
            server_version=VERSION,
            queues=queues,
            workers=workers,
            redis_used_bytes=int(memory["used_memory"]),
            redis_limit_bytes=int(memory["maxmemory"]),
            problems=sorted(problems, key=lambda each: -each.severity),
        )

    async def get_quota(self, _: GetQuotaRequest, caller: Caller) -> GetQuotaResponse:
        return GetQuotaResponse(caller=caller.name, quotas=await self._quotas.of(caller))


def _worker_problems(workers: Sequence[WorkerStatus], settings: Settings) -> Iterator[Problem]:
    if not [each for each in workers if not each.converts]:
        yield _error(
            "No worker for ingests is running, so ingests wait.",
            "Start `ingot-server worker` with the Redis and S3 settings of this server.",
        )
    if not [each for each in workers if each.converts or each.runs_all_jobs]:
        yield _error(
            "No worker for conversions is running, so conversions wait.",
            "Start `ingot-server worker --convert` with the Redis and S3 settings of this server.",
        )
    for worker in workers:
        if worker.scratch_free_bytes < int(settings.scratch_reserve):
            yield _warning(
                f"The scratch directory of worker {worker.id} has "
                f"{worker.scratch_free_bytes / _GIB:.1f} GiB left, less than its reserve.",
                "Free space there, or point INGOT_SCRATCH_DIR to a larger disk.",
            )
        if worker.version != VERSION:
            yield _warning(
                f"Worker {worker.id} runs version {worker.version}, and this server {VERSION}.",
                "Finish the upgrade, so that all processes run the same version.",
            )


def _problems(findings: Iterable[Finding]) -> Iterator[Problem]:
    for finding in findings:
        if finding.level is Level.PROBLEM:
            yield _error(finding.message, finding.remedy)
        elif finding.level is Level.WARNING:
            yield _warning(finding.message, finding.remedy)


def _source_problems(breakers: Mapping[str, OpenBreaker]) -> Iterator[Problem]:
    for name, breaker in breakers.items():
        yield _warning(
            f"The source {name} refuses this installation ({reason_name(breaker.reason)}); its "
            "jobs wait, and one tries again from time to time.",
            f"Wait, or give {name} cookies or another proxy in INGOT_SOURCES_FILE.",
        )


def _error(summary: str, remedy: str) -> Problem:
    return Problem(severity=Problem.SEVERITY_ERROR, summary=summary, remedy=remedy)


def _warning(summary: str, remedy: str) -> Problem:
    return Problem(severity=Problem.SEVERITY_WARNING, summary=summary, remedy=remedy)
