"""The connections to Redis that one process shares, and how tasks that wait on them end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis

from ingot_server.config import Settings

MOST_CONNECTIONS: Final = 64

_CANCEL_AGAIN_SECONDS: Final = 0.5

_Answer = TypeVar("_Answer")


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


async def undisturbed(work: Coroutine[Any, Any, None]) -> None:
    """Does `work` to its end, however often its caller is cancelled meanwhile; then it is.

    For what clears up: a job that is cancelled together with the one that runs it is told twice.
    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    failed = None if task.cancelled() else task.exception()
    if cancelled is not None:
        raise cancelled
    if failed is not None:
        raise failed


async def together(work: Iterable[Coroutine[Any, Any, _Answer]]) -> list[_Answer]:
    """The answers of coroutines that run at the same time, in their order.

    Raises what the first to fail raises, after the others have ended: where asyncio.gather leaves
    them running, they would still be connecting while their caller closes the connections.
    """
    tasks = [asyncio.create_task(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await end(*(task for task in tasks if not task.done()))
