"""Calls that concurrent callers share, so that a thousand of them read an object twice at most."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class _Call(Generic[T]):
    def __init__(self) -> None:
        self.task: asyncio.Task[T] | None = None
        self.callers = 0


class SharedCalls(Generic[K, T]):
    """Gives each caller what `function` returned for its key at some moment since its call.

    A caller never joins a call that has begun, but the one that begins next. A call whose callers
    were all cancelled is cancelled.
    """

    def __init__(self, function: Callable[[K], Awaitable[T]]) -> None:
        self._function = function
        self._running: dict[K, _Call[T]] = {}
        self._waiting: dict[K, _Call[T]] = {}

    async def get(self, key: K) -> T:
        """Return the result for the key; raises what the function raises."""
        shared = self._waiting.get(key)
        if shared is None:
            shared = self._waiting[key] = _Call()
            shared.task = asyncio.create_task(self._run(key, shared, self._running.get(key)))
            shared.task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        assert shared.task is not None
        shared.callers += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.callers -= 1
            if not shared.callers:
                shared.task.cancel()
                _remove(self._waiting, key, shared)

    async def close(self) -> None:
        """End all calls."""
        calls = [*self._waiting.values(), *self._running.values()]
        tasks = [shared.task for shared in calls if shared.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, key: K, shared: _Call[T], former: _Call[T] | None) -> T:
        if former is not None and former.task is not None:
            await asyncio.wait([former.task])
        _remove(self._waiting, key, shared)
        self._running[key] = shared
        try:
            return await self._function(key)
        finally:
            _remove(self._running, key, shared)


def _remove(calls: dict[K, _Call[T]], key: K, shared: _Call[T]) -> None:
    if calls.get(key) is shared:
        del calls[key]
