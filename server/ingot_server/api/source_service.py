"""SourceService: the sources that media can come from, and the health of each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from ingot.v1 import reason_pb2, source_service_pb2
from ingot.v1.source_service_pb2 import (
    CookiesStatus,
    ListSourcesRequest,
    ListSourcesResponse,
    SourceStatus,
)
from ingot_server.api.caller import Caller, Service
from ingot_server.api.store_health import Stores
from ingot_server.config import Settings
from ingot_server.cookie_health import CookieHealth
from ingot_server.extractor.versions import Versions
from ingot_server.jobs.throttle import OpenBreaker, SourceThrottle
from ingot_server.source_settings import SourceSettings
from ingot_server.sources import SOURCES, Source


class SourceService(Service):
    """The service of sources. It reads what is known of them, and contacts none."""

    descriptor = source_service_pb2.DESCRIPTOR.services_by_name["SourceService"]
    needs = Stores.REDIS

    def __init__(
        self,
        throttle: SourceThrottle,
        cookie_health: CookieHealth,
        sources: Mapping[str, SourceSettings],
        settings: Settings,
    ) -> None:
        self._throttle = throttle
        self._cookie_health = cookie_health
        self._sources = sources
        self._settings = settings
        self._versions = Versions(settings)

    async def list_sources(self, _: ListSourcesRequest, __: Caller) -> ListSourcesResponse:
        open_breakers = await self._throttle.open_breakers([source.name for source in SOURCES])
        cookies = await self._cookie_health.read()
        return ListSourcesResponse(
            sources=[
                self._status(source, open_breakers.get(source.name), cookies.get(source.name))
                for source in SOURCES
            ]
        )

    def _status(
        self, source: Source, breaker: OpenBreaker | None, cookies: CookiesStatus | None
    ) -> SourceStatus:
        own = self._sources[source.name]
        status = SourceStatus(
            name=source.name,
            accepts=source.accepts,
            health=SourceStatus.HEALTH_HEALTHY,
            max_concurrency=own.concurrency,
            rate=own.rate,
            extractor_version=self._versions.version if source.uses_extractor else "",
            has_cookies=cookies is not None,
            cookies=cookies,
            has_proxy=bool(own.proxy),
        )
        if own.rate:
            status.rate_period.FromTimedelta(own.rate_period)
        needed = source.required_setting
        if needed is not None and not getattr(self._settings, needed):
            status.health = SourceStatus.HEALTH_NOT_CONFIGURED
            status.reason = reason_pb2.REASON_SOURCE_NOT_CONFIGURED
        elif breaker is not None:
            status.health = SourceStatus.HEALTH_BLOCKED
            status.reason = breaker.reason
            status.retry_time.FromDatetime(datetime.now(UTC) + breaker.retry_after)
        return status
