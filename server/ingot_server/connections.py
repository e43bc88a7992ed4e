"""The connections to Redis that one process shares, and the end of tasks that wait on them."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis

from ingot_server.config import Settings

MOST_CONNECTIONS: Final = 64

_CANCEL_AGAIN_SECONDS: Final = 0.5


def connect(settings: Settings) -> Redis:
    """A client whose callers wait for one of its connections, where redis-py's own pool raises."""
    return Redis.from_pool(
        BlockingConnectionPool.from_url(settings.redis_url, max_connections=MOST_CONNECTIONS)
    )


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancels tasks and waits until they have ended, however they do.

    A cancellation that comes while a connection is being made or given up can be lost; then the
    task goes on, and is cancelled again.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        ended, waiting = await asyncio.wait(waiting, timeout=_CANCEL_AGAIN_SECONDS)
        for task in ended:
            _ = task.cancelled() or task.exception()  # looked at, or asyncio complains
