"""Invalidation messages from Redis: client-side caching in broadcast mode.

    CLIENT TRACKING ON REDIRECT <own id> BCAST PREFIX <prefix>
    SUBSCRIBE __redis__:invalidate

One connection both tracks and subscribes, so tracking cannot end unnoticed while the subscription
continues (https://valkey.io/topics/client-side-caching). A ping tells an idle peer from a dead one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.redis import Redis

CHANNEL: Final = "__redis__:invalidate"
PING_SECONDS: Final = 2.0
IDLE_SECONDS: Final = 5.0
_TRACKING: Final = "changed keys"


class Invalidation:
    """The changes of all keys that begin with `prefix`.

    `key_changed` receives each key that any client writes or deletes, or that expires.
    `tracking_changed` is called when tracking begins (True) and when it ends (False): discard what
    was cached before, and cache nothing while there is no tracking. `reachable` is whether Redis
    could be reached last.
    """

    def __init__(
        self,
        redis: Redis,
        prefix: str,
        key_changed: Callable[[str], None],
        tracking_changed: Callable[[bool], None],
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._key_changed = key_changed
        self._tracking_changed = tracking_changed
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.reachable = True

    async def start(self) -> None:
        """Begin to track; return when it has begun, or when Redis cannot be reached."""
        self._task = asyncio.create_task(self._keep_tracking())
        await self._tried.wait()

    async def close(self) -> None:
        """End the tracking."""
        if self._task is not None:
            await cancel_and_wait(self._task)
            self._task = None

    async def _keep_tracking(self) -> None:
        outage = self._redis.outage
        while True:
            try:
                async with contextlib.AsyncExitStack() as ending:
                    connection = self._connection()
                    ending.push_async_callback(connection.disconnect, nowait=True)
                    async with asyncio.timeout(IDLE_SECONDS):
                        await self._subscribe(connection)
                    outage.succeeded(_TRACKING)
                    self.reachable = True
                    ending.callback(self._tracking_changed, False)
                    self._tracking_changed(True)
                    self._tried.set()
                    await self._receive_changes(connection)
            except (RedisError, OSError, TimeoutError) as exc:
                # A server that responds but refuses to track can still be used.
                self.reachable = isinstance(exc, ResponseError)
                self._tried.set()
                await asyncio.sleep(outage.failed(_TRACKING, repr(exc)))

    def _connection(self) -> AbstractConnection:
        pool = self._redis.connection_pool
        arguments: dict[str, Any] = {
            **pool.connection_kwargs,
            # RESP2: its messages do not need a handler, and each server supports it.
            "protocol": 2,
            "decode_responses": False,
            "health_check_interval": 0,
            "retry": Retry(NoBackoff(), 0),
        }
        return pool.connection_class(**arguments)

    async def _subscribe(self, connection: AbstractConnection) -> None:
        await connection.connect()  # type: ignore[no-untyped-call] # redis does not declare its type
        client_id = await _command(connection, "CLIENT", "ID")
        await _command(
            *(connection, "CLIENT", "TRACKING", "ON", "REDIRECT", str(client_id)),
            *("BCAST", "PREFIX", self._prefix),
        )
        await _command(connection, "SUBSCRIBE", CHANNEL)

    async def _receive_changes(self, connection: AbstractConnection) -> None:
        pinging = asyncio.create_task(_ping(connection))
        try:
            while True:
                # None after IDLE_SECONDS, [b"pong", b""], or [b"message", channel, keys]
                message = await connection.read_response(timeout=IDLE_SECONDS)
                if message is None:
                    raise TimeoutError(f"nothing received for {IDLE_SECONDS:g} s")
                if message[0] != b"message":
                    continue
                if message[2] is None:
                    # The whole database was flushed.
                    self._tracking_changed(True)
                    continue
                for key in message[2]:
                    self._key_changed(key.decode())
        finally:
            await cancel_and_wait(pinging)


async def _command(connection: AbstractConnection, *command: str) -> Any:
    await connection.send_command(*command)
    return await connection.read_response()


async def _ping(connection: AbstractConnection) -> None:
    # The reader notices a broken connection.
    with contextlib.suppress(RedisError, OSError):
        while True:
            await asyncio.sleep(PING_SECONDS)
            await connection.send_command("PING")
