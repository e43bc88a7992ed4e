"""Whether a media exists, asked before a job is made for it.

    ingot:exists:<source key>      `+` or `-` and when the source said so, in Unix milliseconds.
                                   `+` lives for preflight_ttl, `-` for negative_ttl.

One small request, through an egress guard of this process that is started for the first one, and
the source's own proxy if it has one. Only 404 means no; a source that does not answer as it should
is left alone for SILENCE_SECONDS, and the job is made: it finds out. So it is where the source has
cookies, as 404 does not tell what is private from what is not there. Redis may be lost at any time:
then every call asks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError
from yarl import URL

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressGrant, EgressProxy
from ingot_server.egress.tls import tls_context
from ingot_server.errors import Failure
from ingot_server.library.catalog import Catalog
from ingot_server.resolve import ResolvedUrl
from ingot_server.source_settings import SourceSettings
from ingot_server.sources import PreflightSource

logger = logging.getLogger(__name__)

SILENCE_SECONDS: Final = 30.0
_REDIS_SECONDS: Final = 1.0
_CONNECTIONS: Final = 32
_KEY: Final = "ingot:exists:"
_ANSWERS: Final = {200: True, 404: False}


class Preflight:
    """One for each process. Raises SettingError for egress settings that cannot be used."""

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
        self._passes: dict[str, EgressGrant] = {}
        self._asking: dict[str, asyncio.Task[bool | None]] = {}
        self._silent_until: dict[str, float] = {}

    async def close(self) -> None:
        """Ends requests under way, and the guard."""
        for asking in self._asking.values():
            asking.cancel()
        if self._asking:
            await asyncio.wait(set(self._asking.values()))
        if self._session is not None:
            await self._session.close()
        await self._proxy.close()

    async def require(self, named: ResolvedUrl, max_age: timedelta | None) -> None:
        """Returns when the media exists as of `max_age` ago (None: whenever), or nobody knows.

        Raises Failure MEDIA_DOES_NOT_EXIST, which the catalog remembers from then on.
        """
        source = named.source
        if not self._settings.existence_check or not isinstance(source, PreflightSource):
            return
        url = source.preflight_url(named.identity)
        own = self._sources.get(source.name, SourceSettings())
        if url is None or own.cookies is not None:
            return
        exists = await self._known(named.identity.key, max_age)
        remembered = exists is not None
        if exists is None:
            exists = await self._asked(named.identity.key, url, own.proxy)
        if exists is not False:
            return
        failure = Failure(
            reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
            f"{named.identity.url} does not exist, or is private: the source does not tell which. "
            "Check the link; cookies for the source may open what is private.",
            metadata={"source": source.name},
        )
        if not remembered:
            await self._catalog.remember_failure(named.media_id, failure)
        raise failure

    async def _asked(self, key: str, url: str, proxy: str) -> bool | None:
        """What the source says now; callers at the same time share one request."""
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.create_task(self._ask(key, url, proxy))
            self._asking[key] = asking
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _ask(self, key: str, url: str, proxy: str) -> bool | None:
        host = urlsplit(url).hostname or ""
        now = asyncio.get_running_loop().time
        if now() < self._silent_until.get(host, 0):
            return None
        try:
            async with asyncio.timeout(self._settings.existence_timeout.total_seconds()):
                status = await self._head(url, proxy)
        except (TimeoutError, aiohttp.ClientError, OSError) as exc:
            answer, why = None, repr(exc)
        else:
            answer, why = _ANSWERS.get(status), f"status {status}"
        if answer is None:
            logger.info("%s does not tell whether %s exists: %s", host, key, why)
            self._silent_until[host] = now() + SILENCE_SECONDS
        else:
            await self._keep(key, answer)
        return answer

    async def _head(self, url: str, proxy: str) -> int:
        async with self._starting:
            if self._session is None:
                await self._proxy.start()
                connector = aiohttp.TCPConnector(ssl=self._tls, limit=_CONNECTIONS)
                self._session = aiohttp.ClientSession(connector=connector)
        if proxy not in self._passes:
            self._passes[proxy] = self._proxy.grant("existence", proxy)
        async with self._session.head(
            URL(url, encoded=True),
            proxy=URL(self._passes[proxy].proxy_url),
            allow_redirects=False,
        ) as response:
            return response.status

    async def _known(self, key: str, max_age: timedelta | None) -> bool | None:
        """What Redis remembers, if it is no older than `max_age`."""
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                value = await self._redis.get(_KEY + key)
        except (RedisError, OSError, TimeoutError):
            return None
        if not isinstance(value, bytes) or value[:1] not in b"+-" or not value[1:].isdigit():
            return None
        age = timedelta(milliseconds=max(0.0, time.time() * 1000 - int(value[1:])))
        return None if max_age is not None and age > max_age else value.startswith(b"+")

    async def _keep(self, key: str, exists: bool) -> None:
        settings = self._settings
        lifetime = settings.preflight_ttl if exists else settings.negative_ttl
        if lifetime < timedelta(milliseconds=1):
            return
        value = f"{'+' if exists else '-'}{time.time() * 1000:.0f}"
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                await self._redis.set(_KEY + key, value, px=lifetime)
        except (RedisError, OSError, TimeoutError) as exc:
            logger.info("Redis does not keep whether %s exists: %r", key, exc)
