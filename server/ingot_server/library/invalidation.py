"""Hears from Redis which keys changed, by client-side caching in broadcast mode.

    CLIENT TRACKING ON REDIRECT <own id> BCAST PREFIX <prefix>
    SUBSCRIBE __redis__:invalidate

One connection both tracks and listens, so tracking cannot end unnoticed while the listening goes on
(https://valkey.io/topics/client-side-caching). A ping keeps a dead peer from looking like silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from ingot_server.asyncio_tasks import cancel_and_wait

logger = logging.getLogger(__name__)

CHANNEL: Final = "__redis__:invalidate"
PING_SECONDS: Final = 2.0
SILENCE_SECONDS: Final = 5.0
_RECONNECT_SECONDS: Final = (0.05, 0.2, 1.0)


class Invalidation:
    """Follows all keys that begin with `prefix`.

    `changed` gets a key that was written, deleted or expired, by whomever. `restarted` is called
    when listening begins (True) and when it ends (False): nothing from before may be kept, and
    nothing may be kept while it is ended. `reachable` says whether Redis could be reached last.
    """

    def __init__(
        self,
        redis: Redis,
        prefix: str,
        changed: Callable[[str], None],
        restarted: Callable[[bool], None],
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._changed = changed
        self._restarted = restarted
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.reachable = True

    async def start(self) -> None:
        """Begins to listen; returns once it does, or once Redis turned out to be unreachable."""
        self._task = asyncio.create_task(self._run())
        await self._tried.wait()

    async def close(self) -> None:
        if self._task is not None:
            await cancel_and_wait(self._task)
            self._task = None

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                async with contextlib.AsyncExitStack() as ending:
                    connection = self._connection()
                    ending.push_async_callback(connection.disconnect, nowait=True)
                    async with asyncio.timeout(SILENCE_SECONDS):
                        await self._subscribe(connection)
                    if not self.reachable:
                        logger.info("Redis is back.")
                    failures, self.reachable = 0, True
                    ending.callback(self._restarted, False)
                    self._restarted(True)
                    self._tried.set()
                    await self._follow(connection)
            except (RedisError, OSError, TimeoutError) as exc:
                # Said once for each time that Redis went away.
                if not failures:
                    logger.warning("Changes cannot be followed in Redis: %r", exc)
                # One that answers but refuses to track is of use all the same.
                self.reachable = isinstance(exc, ResponseError)
                self._tried.set()
            await asyncio.sleep(_RECONNECT_SECONDS[min(failures, len(_RECONNECT_SECONDS) - 1)])
            failures += 1

    def _connection(self) -> AbstractConnection:
        pool = self._redis.connection_pool
        arguments: dict[str, Any] = {
            **pool.connection_kwargs,
            # RESP2: its messages need no handler, and each server knows it.
            "protocol": 2,
            "decode_responses": False,
            "health_check_interval": 0,
            "retry": Retry(NoBackoff(), 0),
        }
        return pool.connection_class(**arguments)

    async def _subscribe(self, connection: AbstractConnection) -> None:
        await connection.connect()  # type: ignore[no-untyped-call] # redis has no type for it
        client_id = await _ask(connection, "CLIENT", "ID")
        await _ask(
            *(connection, "CLIENT", "TRACKING", "ON", "REDIRECT", str(client_id)),
            *("BCAST", "PREFIX", self._prefix),
        )
        await _ask(connection, "SUBSCRIBE", CHANNEL)

    async def _follow(self, connection: AbstractConnection) -> None:
        pinging = asyncio.create_task(_ping(connection))
        try:
            while True:
                # None for silence, [b"pong", b""], or [b"message", channel, keys]
                message = await connection.read_response(timeout=SILENCE_SECONDS)
                if message is None:
                    raise TimeoutError(f"no sign of life for {SILENCE_SECONDS:g} s")
                if message[0] != b"message":
                    continue
                if message[2] is None:
                    # The whole database was flushed.
                    self._restarted(True)
                    continue
                for key in message[2]:
                    self._changed(key.decode())
        finally:
            await cancel_and_wait(pinging)


async def _ask(connection: AbstractConnection, *command: str) -> Any:
    await connection.send_command(*command)
    return await connection.read_response()


async def _ping(connection: AbstractConnection) -> None:
    # A connection that broke is noticed by its reader.
    with contextlib.suppress(RedisError, OSError):
        while True:
            await asyncio.sleep(PING_SECONDS)
            await connection.send_command("PING")
