"""Preflight: ask a source whether a media item exists, before a job is made for it.

    ingot:exists:<source key>      `+` or `-` and the time of the response, in Unix milliseconds.
                                   `+` lives for preflight_ttl, `-` for negative_ttl.

It is one small request, through an egress guard of this process that the first request starts, and
through the source's own proxy if it has one. Only 404 means that the media item does not exist. A
source that responds in any other way gets no requests for PAUSE_SECONDS, and the job is made and
finds out. The same holds for a source with cookies, as a 404 may mean that the media item is
private. If Redis is lost, every call asks the source.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from redis.exceptions import RedisError
from yarl import URL

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressGrant, EgressProxy
from ingot_server.egress.tls import tls_context
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.library.catalog import Catalog
from ingot_server.log_events import Event
from ingot_server.metrics.definitions import CACHE_REQUESTS
from ingot_server.redis import Redis
from ingot_server.resolve import ResolvedUrl
from ingot_server.source_settings import SourceSettings
from ingot_server.sources import SOURCES, PreflightSource

logger = EventLogger(__name__)

PAUSE_SECONDS: Final = 30.0
_REDIS_SECONDS: Final = 1.0
_CONNECTIONS: Final = 32
_EXISTS: Final = "exists:"
# Found once: Python compares all attributes of an object with those of a protocol.
_SOURCES: Final = {each.name: each for each in SOURCES if isinstance(each, PreflightSource)}
_MEANINGS: Final = {200: True, 404: False}


class Preflight:
    """Preflight requests of one process. Raises SettingError if egress settings cannot be used."""

    def __init__(
        self,
        catalog: Catalog,
        redis: Redis,
        sources: Mapping[str, SourceSettings],
        settings: Settings,
    ) -> None:
        self._catalog = catalog
        self._redis = redis
        self._sources = sources
        self._settings = settings
        self._tls = tls_context(settings.egress_ca_file)
        self._proxy = EgressProxy(settings)
        self._starting = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None
        self._grants: dict[str, EgressGrant] = {}
        self._asking: dict[str, asyncio.Task[bool | None]] = {}
        self._paused_until: dict[str, float] = {}

    async def close(self) -> None:
        """Cancel running requests and close the guard."""
        for asking in self._asking.values():
            asking.cancel()
        if self._asking:
            await asyncio.wait(set(self._asking.values()))
        if self._session is not None:
            await self._session.close()
        await self._proxy.close()

    async def require(self, resolved_url: ResolvedUrl, max_age: timedelta | None) -> None:
        """Return if the media item exists, or if that is not known.

        A response that is older than `max_age` does not count, unless `max_age` is None. Raises
        Failure MEDIA_DOES_NOT_EXIST, which the catalog then remembers.
        """
        source = _SOURCES.get(resolved_url.source.name)
        if not self._settings.preflight or source is None:
            return
        url = source.preflight_url(resolved_url.identity)
        own = self._sources.get(source.name, SourceSettings())
        if url is None or own.cookies is not None:
            return
        exists = await self._remembered(resolved_url.identity.key, max_age)
        is_remembered = exists is not None
        if exists is None:
            exists = await self._ask_once(resolved_url.identity.key, url, own.proxy)
        if exists is not False:
            return
        failure = Failure(
            reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
            f"{resolved_url.identity.url} does not exist, or is private. Check the URL. If it is "
            "private, the server needs cookies for the source.",
            metadata={"source": source.name},
        )
        if is_remembered:
            CACHE_REQUESTS.add("negative_hit")
        else:
            await self._catalog.remember_failure(resolved_url.media_id, failure)
        raise failure

    async def _ask_once(self, key: str, url: str, proxy: str) -> bool | None:
        """Ask the source. Callers at the same time share one request."""
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.create_task(self._ask(key, url, proxy))
            self._asking[key] = asking
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _ask(self, key: str, url: str, proxy: str) -> bool | None:
        host = urlsplit(url).hostname or ""
        now = asyncio.get_running_loop().time
        if now() < self._paused_until.get(host, 0):
            return None
        try:
            async with asyncio.timeout(self._settings.existence_timeout.total_seconds()):
                status = await self._head(url, proxy)
        except (TimeoutError, aiohttp.ClientError, OSError) as exc:
            exists, why = None, repr(exc)
        else:
            exists, why = _MEANINGS.get(status), f"status {status}"
        if exists is None:
            logger.info(
                Event.PREFLIGHT_UNDECIDED,
                "preflight: %s does not say whether %s exists: %s",
                host,
                key,
                why,
            )
            self._paused_until[host] = now() + PAUSE_SECONDS
        else:
            await self._remember(key, exists)
        return exists

    async def _head(self, url: str, proxy: str) -> int:
        async with self._starting:
            if self._session is None:
                await self._proxy.start()
                connector = aiohttp.TCPConnector(ssl=self._tls, limit=_CONNECTIONS)
                self._session = aiohttp.ClientSession(connector=connector)
        if proxy not in self._grants:
            self._grants[proxy] = self._proxy.grant("preflight", proxy)
        async with self._session.head(
            URL(url, encoded=True),
            proxy=URL(self._grants[proxy].proxy_url),
            allow_redirects=False,
        ) as response:
            return response.status

    async def _remembered(self, key: str, max_age: timedelta | None) -> bool | None:
        """Return what Redis remembers, unless it is older than `max_age`."""
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                value = await self._redis.get(self._redis.key(_EXISTS + key))
        except (RedisError, OSError, TimeoutError):
            return None
        if not isinstance(value, bytes) or value[:1] not in b"+-" or not value[1:].isdigit():
            return None
        age = timedelta(milliseconds=max(0.0, time.time() * 1000 - int(value[1:])))
        return None if max_age is not None and age > max_age else value.startswith(b"+")

    async def _remember(self, key: str, exists: bool) -> None:
        settings = self._settings
        lifetime = settings.preflight_ttl if exists else settings.negative_ttl
        if lifetime < timedelta(milliseconds=1):
            return
        value = f"{'+' if exists else '-'}{time.time() * 1000:.0f}"
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                await self._redis.set(self._redis.key(_EXISTS + key), value, px=lifetime)
        except (RedisError, OSError, TimeoutError) as exc:
            logger.info(
                Event.PREFLIGHT_NOT_STORED,
                "preflight: Redis did not store whether %s exists: %r",
                key,
                exc,
            )
