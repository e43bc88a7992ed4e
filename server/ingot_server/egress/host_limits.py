"""Host limits: how many connections to one host are open, or jobs at it run, at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class _Limit:
    semaphore: asyncio.Semaphore
    users: int = 0


class HostLimits:
    """At most `limit` holders at a time for each host, first come, first served; 0 means no limit.

    A host has a semaphore only while one is held or awaited, so hosts do not accumulate.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._hosts: dict[str, _Limit] = {}

    @asynccontextmanager
    async def acquire(
        self, host: str, on_wait: Callable[[int], None] = lambda _: None
    ) -> AsyncIterator[None]:
        """Hold one of the host's places while the body runs; waits for it if all are taken.

        Then `on_wait` is called with the number of those that wait already.
        """
        if not self._limit:
            yield
            return
        entry = self._hosts.setdefault(host, _Limit(asyncio.Semaphore(self._limit)))
        waiting = entry.users - self._limit
        entry.users += 1
        try:
            if waiting >= 0:
                on_wait(waiting)
            async with entry.semaphore:
                yield
        finally:
            entry.users -= 1
            if not entry.users:
                del self._hosts[host]
