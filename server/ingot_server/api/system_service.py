"""SystemService: what waits and runs in the installation, what is wrong, and what callers use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ingot.v1 import system_service_pb2
from ingot.v1.system_service_pb2 import (
    GetQuotaRequest,
    GetQuotaResponse,
    GetSystemRequest,
    GetSystemResponse,
    Problem,
)
from ingot_server.api.caller import Caller, Service
from ingot_server.api.installation import Installation, InstallationState
from ingot_server.api.quotas import Quotas
from ingot_server.api.store_health import Stores
from ingot_server.config import Settings
from ingot_server.cookie_health import cookie_findings
from ingot_server.errors import reason_name
from ingot_server.findings import Finding, Level
from ingot_server.jobs.placement import Work
from ingot_server.jobs.throttle import OpenBreaker
from ingot_server.jobs.workers import VERSION
from ingot_server.library.retention_report import RetentionReport
from ingot_server.redis import Redis
from ingot_server.redis_checks import check_eviction

_GIB: Final = 1 << 30


class SystemService(Service):
    """The service that describes the installation. It only reads."""

    descriptor = system_service_pb2.DESCRIPTOR.services_by_name["SystemService"]
    needs = Stores.REDIS

    def __init__(
        self,
        installation: Installation,
        redis: Redis,
        quotas: Quotas,
        settings: Settings,
    ) -> None:
        self._installation = installation
        self._quotas = quotas
        self._retention = RetentionReport(redis)
        self._settings = settings

    async def get_system(self, _: GetSystemRequest, __: Caller) -> GetSystemResponse:
        state = await self._installation.read()
        memory = state.redis_memory
        problems = [
            *_worker_problems(state, self._settings),
            *_problems([check_eviction(memory)]),
            *_source_problems(state.open_breakers),
            *_problems(cookie_findings(state.cookies)),
        ]
        return GetSystemResponse(
            server_version=VERSION,
            queues=state.queues,
            workers=state.workers,
            redis_used_bytes=int(memory["used_memory"]),
            redis_limit_bytes=int(memory["maxmemory"]),
            problems=sorted(problems, key=lambda each: -each.severity),
            retention=await self._retention.read(),
        )

    async def get_quota(self, _: GetQuotaRequest, caller: Caller) -> GetQuotaResponse:
        return GetQuotaResponse(caller=caller.name, quotas=await self._quotas.of(caller))


def _worker_problems(state: InstallationState, settings: Settings) -> Iterator[Problem]:
    if not state.workers_for(Work.FETCH):
        yield _error(
            "No worker for ingests is running, so ingests wait.",
            "Start `ingot-server worker` with the Redis and S3 settings of this server.",
        )
    if not state.workers_for(Work.CONVERT):
        yield _error(
            "No worker for conversions is running, so conversions wait.",
            "Start `ingot-server worker --convert` with the Redis and S3 settings of this server.",
        )
    for worker in state.workers:
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
