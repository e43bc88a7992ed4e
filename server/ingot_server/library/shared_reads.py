"""Reads that concurrent callers share, so that a thousand calls read an object twice at most."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Read(Generic[T]):
    def __init__(self) -> None:
        self.task: asyncio.Task[T] | None = None
        self.callers = 0


class SharedReads(Generic[T]):
    """Gives each caller what `read` returned at some moment since its call.

    A caller never joins a read that has begun, but the one that begins next. A read whose callers
    were all cancelled is cancelled.
    """

    def __init__(self, read: Callable[[str], Awaitable[T]]) -> None:
        self._read = read
        self._running: dict[str, _Read[T]] = {}
        self._waiting: dict[str, _Read[T]] = {}

    async def get(self, key: str) -> T:
        """Return what is stored under the key; raises what `read` raises."""
        shared = self._waiting.get(key)
        if shared is None:
            shared = self._waiting[key] = _Read()
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
        """End all reads."""
        reads = [*self._waiting.values(), *self._running.values()]
        tasks = [shared.task for shared in reads if shared.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, key: str, shared: _Read[T], former: _Read[T] | None) -> T:
        if former is not None and former.task is not None:
            await asyncio.wait([former.task])
        _remove(self._waiting, key, shared)
        self._running[key] = shared
        try:
            return await self._read(key)
        finally:
            _remove(self._running, key, shared)


def _remove(reads: dict[str, _Read[T]], key: str, shared: _Read[T]) -> None:
    if reads.get(key) is shared:
        del reads[key]
