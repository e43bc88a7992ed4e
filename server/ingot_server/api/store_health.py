"""Whether the stores can be used, asked again and again, so that health checks tell the truth."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from typing import Final

from redis.exceptions import RedisError

from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.library.blobs import Blobs
from ingot_server.log_events import Event
from ingot_server.metrics.definitions import STORE_UP
from ingot_server.redis import Redis
from ingot_server.redis_checks import require_writes
from ingot_server.redis_schema import require_schema

logger = EventLogger(__name__)

REDIS_SECONDS: Final = 1.0
# Each question is one request to the bucket, so it is asked less often while the answer is good.
S3_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 4.0


class Stores(enum.Flag):
    """The stores that a service needs, or that can be used."""

    NONE = 0
    REDIS = enum.auto()
    S3 = enum.auto()
    ALL = REDIS | S3


class StoreHealth:
    """The stores that could be used when they were asked last: all, until the first answer."""

    def __init__(self, redis: Redis, blobs: Blobs) -> None:
        self._redis = redis
        self._blobs = blobs
        self._asking: list[asyncio.Task[None]] = []
        self.usable = Stores.ALL

    def start(self, changed: Callable[[Stores], Awaitable[None]]) -> None:
        """Ask both stores until `close`; call `changed` with `usable` whenever that changes."""
        for store, ask, seconds in (
            (Stores.REDIS, self._ask_redis, REDIS_SECONDS),
            (Stores.S3, self._ask_s3, S3_SECONDS),
        ):
            asking = self._keep_asking(store, ask, seconds, changed)
            self._asking.append(asyncio.create_task(asking))

    async def close(self) -> None:
        """Ask no more."""
        # No TaskGroup does this: it cancels each of its tasks only once.
        await cancel_and_wait(*self._asking)

    async def _keep_asking(
        self,
        store: Stores,
        ask: Callable[[], Awaitable[None]],
        seconds: float,
        changed: Callable[[Stores], Awaitable[None]],
    ) -> None:
        while True:
            before = self.usable
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await ask()
            except (Failure, RedisError, TimeoutError) as error:
                self.usable &= ~store
                if before != self.usable:
                    why = str(error) or f"no answer within {_ANSWER_SECONDS:g} s"
                    logger.warning(Event.STORE_LOST, "%s cannot be used: %s", store.name, why)
            else:
                self.usable |= store
                if before != self.usable:
                    logger.info(Event.STORE_BACK, "%s can be used again", store.name)
            STORE_UP.set(float(store in self.usable), str(store.name).lower())
            if before != self.usable:
                await changed(self.usable)
            await asyncio.sleep(seconds if store in self.usable else min(seconds, AGAIN_SECONDS))

    async def _ask_redis(self) -> None:
        await require_writes(self._redis)
        await require_schema(self._redis)

    async def _ask_s3(self) -> None:
        await self._blobs.require_bucket()
